"""The versions file: its schema, its checksums, and whether each pin has been looked at again by its date."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema

from zmanim_ami.gate.finding import Finding, Level
from zmanim_ami.pipeline.pins.versions import VERSIONS

SCHEMA = VERSIONS.with_name("versions.schema.json")
# A review that is due so soon is a warning.
NOTICE = timedelta(days=30)


def check(tree: Path, today: date | None = None) -> list[Finding]:
    """Return what is wrong with the versions file; a review is due from the day after its date on (UTC)."""
    try:
        text = (tree / VERSIONS).read_text()
        content = json.loads(text)
        schema = json.loads((tree / SCHEMA).read_text())
    except ValueError as error:
        return [Finding(str(VERSIONS), getattr(error, "lineno", 0), f"no JSON: {error}")]
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(content))
    if errors:
        return [_finding(text, error.absolute_path, f"{error.json_path}: {error.message}") for error in errors]
    return [*_reviews(text, content, today or datetime.now(UTC).date()), *_artifacts(text, content)]


def _finding(text: str, path: Iterable[str | int], words: str, level: Level = Level.ERROR) -> Finding:
    """Return a finding at the line of the value at `path`: of each key in turn, after the one before it."""
    lines = text.splitlines()
    at = 0
    for key in path:
        at = next((number for number in range(at, len(lines)) if f'"{key}"' in lines[number]), at)
    return Finding(str(VERSIONS), at + 1, words, level)


def _reviews(text: str, content: dict[str, Any], today: date) -> Iterator[Finding]:
    groups = ("servers", "packages", "pgdg_packages", "artifacts")
    pins = {("base",): content["base"], ("programs",): content["programs"]} | {
        (group, name): content[group][name] for group in groups for name in content[group]
    }
    for path, pin in pins.items():
        due = date.fromisoformat(pin["review_by"])
        if due < today:
            words = f"{path[-1]} was to be looked at again by {due}: read its news, then move the date"
            yield _finding(text, [*path, "review_by"], words)
        elif due <= today + NOTICE:
            words = f"{path[-1]} is to be looked at again by {due}, in {(due - today).days} days"
            yield _finding(text, [*path, "review_by"], words, Level.WARNING)


def _artifacts(text: str, content: dict[str, Any]) -> Iterator[Finding]:
    redis, major = content["artifacts"]["redis"]["version"], content["servers"]["redis"]["major"]
    if not redis.startswith(f"{major}."):
        yield _finding(text, ["artifacts", "redis", "version"], f"Redis {redis} is not of the major {major}")
    seen: dict[str, str] = {}
    for name, pin in content["artifacts"].items():
        path, sha256 = ["artifacts", name, "sha256"], pin["sha256"]
        if sha256 == "0" * 64:
            yield _finding(text, path, f"{name} is not pinned yet: a build refuses it", Level.NOTE)
        elif len(set(sha256)) < 8:
            yield _finding(text, path, f"{name}'s checksum is none: {sha256}")
        elif sha256 in seen:
            yield _finding(text, path, f"{name} has the checksum of {seen[sha256]}")
        elif pin["version"] not in pin["url"]:
            words = f"{name}'s address does not name its version {pin['version']}"
            yield _finding(text, ["artifacts", name, "url"], words)
        seen.setdefault(sha256, name)
