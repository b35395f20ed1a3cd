"""What govulncheck answers when it is asked of modules, and a database for it of our own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DATE = "2026-01-01T00:00:00Z"


def entry(identity: str, module: str, *fixed: str, introduced: str = "0") -> dict[str, Any]:
    """One vulnerability of a module, as OSV has it; mended in `fixed`, or in nothing."""
    events = [{"introduced": introduced}, *({"fixed": each} for each in fixed)]
    affected = {"package": {"name": module, "ecosystem": "Go"}, "ranges": [{"type": "SEMVER", "events": events}]}
    return {"schema_version": "1.3.1", "id": identity, "modified": _DATE, "published": _DATE, "affected": [affected]}


def answer(*entries: Mapping[str, Any]) -> str:
    """Its stream of messages with these vulnerabilities."""
    progress = {"progress": {"message": "Looking up vulnerabilities..."}}
    messages = [{"config": {"scanner_version": "v1"}}, progress, *({"osv": each} for each in entries)]
    return "\n".join(json.dumps(each, indent=2) for each in messages)


def write_database(directory: Path, *entries: Mapping[str, Any]) -> str:
    """Write a database of these, each of one module, below a directory; return its address."""
    index = []
    for name in ("index", "ID"):
        (directory / name).mkdir(parents=True)
    for each in entries:
        (directory / "ID" / f"{each['id']}.json").write_text(json.dumps(each))
        (affected,) = each["affected"]
        _, *fixed = affected["ranges"][0]["events"]
        vulnerability = {"id": each["id"], "modified": _DATE, **(fixed[-1] if fixed else {})}
        index.append({"path": affected["package"]["name"], "vulns": [vulnerability]})
    (directory / "index" / "modules.json").write_text(json.dumps(index))
    (directory / "index" / "db.json").write_text(json.dumps({"modified": _DATE}))
    return f"file://{directory}"
