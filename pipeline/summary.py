"""verification: the report of a passed or failed verification, in words for a workflow's summary page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.version import Version
from support.errors import BadInput


class NoReport(BadInput):
    """No verification of that version was made here."""


def markdown(root: Path, version: Version) -> str:
    """Return the newest report on `version` below build/verify as Markdown. Raises NoReport."""
    directory = root / "build" / "verify"
    reports = [json.loads(path.read_text()) for path in directory.glob("ami-*.json")]
    of_version = [report for report in reports if report.get("version") == str(version)]
    if not of_version:
        raise NoReport(
            f"there is no report on {version}",
            expected=f"a report in {directory}",
            found=", ".join(sorted(str(report.get("version")) for report in reports)) or "none",
            fix=f"./inv verify-ami --version {version}",
        )
    return _page(max(of_version, key=lambda report: str(report.get("at"))))


def _page(report: Mapping[str, Any]) -> str:
    checks = report["checks"]
    passed = sum(bool(check["ok"]) for check in checks)
    boot = report["boot"]
    lines = [
        f"## {report['version']}: {'verified' if report['ok'] else 'not verified'}",
        "",
        "| | |",
        "| --- | --- |",
        f"| AMI | `{report['ami_id']}` |",
        f"| commit | `{report['commit']}` |",
        f"| running after | {boot['running_seconds']:.1f} s |",
        f"| healthy after | {boot['healthy_seconds']:.1f} s |",
        f"| checks | {passed} of {len(checks)} passed |",
        *(f"| {name} | {value} |" for name, value in sorted(report["versions"].items())),
    ]
    failed = [check for check in checks if not check["ok"]]
    lines += [f"- {check['name']}: expected {check['expected']}, found {check['found']}" for check in failed]
    return "\n".join(lines) + "\n"
