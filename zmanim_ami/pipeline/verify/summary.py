"""show-verification: what verify-ami found of a version, and how the image differs from the published one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.errors import BadInput
from zmanim_ami.pipeline.advisories.findings import ADVISORIES_TAG, NOT_KNOWN
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify import reports
from zmanim_ami.pipeline.verify.inspection import Check, remarks
from zmanim_ami.pipeline.version import Version


@dataclass(frozen=True)
class Summary:
    """A verification in short. `failed` are the checks that did not pass, `remarks` what was wrong and is not required.

    The seconds count from RunInstances, and are None where the machine did not come so far. `versions` are those of
    the kernel, PostgreSQL and so on; `published` compares the packages with the published image's. `advisories` is what
    was open when the image was built, as its tag says it.
    """

    version: str
    ok: bool
    ami_id: str
    commit: str
    running_seconds: float | None
    healthy_seconds: float | None
    checks: int
    failed: tuple[Check, ...]
    remarks: tuple[str, ...]
    versions: Mapping[str, str]
    advisories: str
    published: reports.Comparison


def summary(clients: Clients, settings: Settings, root: Path, version: Version) -> Summary:
    """Return what the newest report on `version` below build/verify says, compared with what is published now.

    Raises `no-report`, aws's errors.
    """
    directory = root / "build" / "verify"
    reported = [json.loads(path.read_text()) for path in directory.glob("ami-*.json")]
    of_version = [report for report in reported if report.get("version") == str(version)]
    if not of_version:
        raise BadInput(
            f"there is no report on {version}",
            code="no-report",
            expected=f"a report in {directory}",
            found=", ".join(sorted(str(report.get("version")) for report in reported)) or "none",
            fix=f"./inv verify-ami --version {version}",
        )
    report = max(of_version, key=lambda each: str(each.get("at")))
    advisories = _advisories(clients, report["ami_id"])
    if not report["packages"]:  # the machine never came to be asked
        return _read(report, advisories, reports.Comparison("", "", "the image's packages are not known", ()))
    return _read(report, advisories, reports.compare(clients, settings.parameter_prefix, report["packages"]))


def _advisories(clients: Clients, ami_id: str) -> str:
    try:
        return image.of_id(clients, ami_id).tags.get(ADVISORIES_TAG, NOT_KNOWN)
    except image.NoSuchImage:
        return NOT_KNOWN


def markdown(result: Summary, page: str = "") -> str:
    """Return a summary as Markdown, for a workflow's summary page; `page` is the address of its evidence page."""
    lines = [
        f"## {result.version}: {'verified' if result.ok else 'not verified'}",
        "",
        *([f"[The evidence page]({page})", ""] if page else []),
        "| | |",
        "| --- | --- |",
        f"| AMI | `{result.ami_id}` |",
        f"| commit | `{result.commit}` |",
        f"| running after | {_seconds(result.running_seconds)} |",
        f"| healthy after | {_seconds(result.healthy_seconds)} |",
        f"| checks | {result.checks - len(result.failed)} of {result.checks} passed |",
        f"| advisories open when it was built | {result.advisories} |",
        *(f"| {name} | {value} |" for name, value in sorted(result.versions.items())),
    ]
    if result.failed:
        lines += ["", *(line for each in result.failed for line in _failed(each))]
    if result.remarks:
        lines += ["", *(f"- {remark}" for remark in result.remarks)]
    lines += ["", "### Packages, against the published image", "", *_packages(result.published)]
    return "\n".join(lines) + "\n"


def _seconds(number: float | None) -> str:
    return "not known" if number is None else f"{number:.1f} s"


def _failed(check: Check) -> Iterator[str]:
    """Yield a failed check; what was found may have a console's last lines below it, which are shown as they are."""
    first, *more = check.found.splitlines() or ["nothing"]
    yield f"- {check.name}: expected {check.expected or 'to be done'}, found {first}"
    if more:
        yield from ("", *(f"      {line.strip()}" for line in more), "")


def _packages(published: reports.Comparison) -> Iterator[str]:
    if published.unknown:
        yield f"{published.unknown[:1].upper()}{published.unknown[1:]}{_of(published)}."
        return
    if not published.changes:
        yield f"The same{_of(published)}."
        return
    yield f"{len(published.changes)} differ{_of(published)}:"
    yield from ("", "| package | published | this image |", "| --- | --- | --- |")
    for each in published.changes:
        yield f"| {each.name} | {each.before or 'not in it'} | {each.after or 'not in it'} |"


def _of(published: reports.Comparison) -> str:
    return f" ({' '.join(filter(None, (published.version, f'`{published.ami_id}`')))})" if published.ami_id else ""


def _read(report: Mapping[str, Any], advisories: str, published: reports.Comparison) -> Summary:
    checks = [Check(**check) for check in report["checks"]]
    return Summary(
        version=report["version"],
        ok=report["ok"],
        ami_id=report["ami_id"],
        commit=report["commit"],
        running_seconds=report["boot"].get("running_seconds"),
        healthy_seconds=report["boot"].get("healthy_seconds"),
        checks=len(checks),
        failed=tuple(check for check in checks if not check.ok),
        remarks=tuple(remarks(report["ready"])),
        versions=report["versions"],
        advisories=advisories,
        published=published,
    )
