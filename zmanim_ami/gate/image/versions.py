"""The versions file: its schema, its checksums, and whether each pin has been looked at again by its date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import jsonschema

from zmanim_ami.gate.finding import Finding, Level, line_of

VERSIONS = Path("infrastructure/packer/versions.json")
SCHEMA = Path("infrastructure/packer/versions.schema.json")
# A review that is due so soon is told, and fails nothing yet.
NOTICE = timedelta(days=30)


def check(tree: Path, today: date | None = None) -> list[Finding]:
    """Return what is wrong with the versions file; a review is due from the day after its date on (UTC)."""
    try:
        text = (tree / VERSIONS).read_text()
        content = json.loads(text)
        schema = json.loads((tree / SCHEMA).read_text())
    except ValueError as error:
        return [Finding(str(VERSIONS), getattr(error, "lineno", 0), f"no JSON: {error}")]
    found = [
        Finding(str(VERSIONS), _line(text, [str(part) for part in error.absolute_path]), _words(error))
        for error in jsonschema.Draft202012Validator(schema).iter_errors(content)
    ]
    if found:
        return found
    return [*_reviews(text, content, today or datetime.now(UTC).date()), *_pins(text, content)]


def _words(error: jsonschema.ValidationError) -> str:
    return f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}"


def _line(text: str, path: list[str]) -> int:
    """Return the line of the value at `path`: of each key in turn, after the one before it."""
    lines = text.splitlines()
    at = 0
    for key in path:
        at = next((number for number in range(at, len(lines)) if f'"{key}"' in lines[number]), at)
    return at + 1


def _reviews(text: str, content: dict[str, dict[str, dict[str, str]]], today: date) -> Iterator[Finding]:
    pinned = {("base",): content["base"]} | {
        (group, name): pin
        for group in ("packages", "pgdg_packages", "artifacts")
        for name, pin in content[group].items()
    }
    for path, pin in pinned.items():
        due = date.fromisoformat(str(pin["review_by"]))
        place = (str(VERSIONS), _line(text, [*path, "review_by"]))
        if due < today:
            yield Finding(*place, f"{path[-1]} was to be looked at again by {due}: read its news, then move the date")
        elif due <= today + NOTICE:
            words = f"{path[-1]} is to be looked at again by {due}, in {(due - today).days} days"
            yield Finding(*place, words, Level.WARNING)


def _pins(text: str, content: dict[str, dict[str, dict[str, str]]]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name, pin in content["artifacts"].items():
        place = (str(VERSIONS), _line(text, ["artifacts", name, "sha256"]))
        if set(pin["sha256"]) == {"0"}:
            yield Finding(*place, f"{name} is not pinned yet: a build refuses it", Level.NOTE)
        elif len(set(pin["sha256"])) < 8:
            yield Finding(*place, f"{name}'s checksum is none: {pin['sha256']}")
        elif pin["sha256"] in seen:
            yield Finding(*place, f"{name} has the checksum of {seen[pin['sha256']]}")
        else:
            seen[pin["sha256"]] = name
            if pin["version"] not in pin["url"]:
                line = line_of(text, pin["url"])
                yield Finding(str(VERSIONS), line, f"{name}'s address does not name its version {pin['version']}")
