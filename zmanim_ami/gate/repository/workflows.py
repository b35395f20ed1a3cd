"""YAML and workflows (DoD 5): yamllint, GitHub's schema, zizmor, the trigger as parsed, pinned actions, the order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from zmanim_ami.gate.finding import Finding, ask, complaints, files, line_of, located, tool

WORKFLOWS = Path(".github/workflows")
BUILD = WORKFLOWS / "build-ami.yml"
TRIGGER = ["v*-ami"]
# What the release is made of, in this order: nothing is published that was not verified.
ORDER = ("build-ami", "verify-ami", "publish-ssm")
# What takes images away comes after the new one has booted.
_TAKES_AWAY = re.compile(r"\b(sweep|deregister|delete-snapshot)\b")
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}|\./.*")


def check(tree: Path) -> list[Finding]:
    """Return what is wrong with the YAML of the tree and with its workflows."""
    every = [str(path) for path in files(tree) if path.suffix in {".yml", ".yaml"}]
    found = complaints([tool("yamllint"), "--strict", "--format=parsable", *every], tree) if every else []
    workflows = sorted((tree / WORKFLOWS).glob("*.yml"))
    names = [str(path.relative_to(tree)) for path in workflows]
    if not (tree / BUILD).is_file():
        return [*found, Finding(str(BUILD), 0, "is not there")]
    schema = [tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", "--output-format=json", *names]
    said = ask(schema, tree)
    if said.returncode != 0:
        errors = json.loads(said.stdout or "{}")
        listed = [*errors.get("errors", []), *errors.get("parse_errors", [])]
        found += [Finding(str(each["filename"]), 0, _message(each)) for each in listed] or located(
            said.stderr.splitlines(), tree
        )
    said = ask([tool("zizmor"), "--offline", "--persona=auditor", "--format=github", *names], tree)
    found += [_zizmor(line) for line in said.stdout.splitlines() if line.startswith("::")]
    if said.returncode not in {0, 11, 12, 13, 14}:  # 11 to 14: the findings' highest severity
        found += located(said.stderr.splitlines(), tree)
    for path, name in zip(workflows, names, strict=True):
        text = path.read_text()
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:
            continue  # yamllint has said so
        found += _actions(name, text)
        if path.name == BUILD.name:
            found += _build(name, text, content)
    return found


def _message(error: Mapping[str, Any]) -> str:
    best = error.get("best_deep_match") or error.get("best_match") or {}
    return f"{best.get('path', error.get('path', ''))}: {best.get('message', error.get('message', ''))}"


def _zizmor(line: str) -> Finding:
    match = re.match(r"::\w+ file=([^,]+),line=(\d+),title=([^:,]+)[^:]*::(.*)", line)
    return Finding(match[1], int(match[2]), f"zizmor {match[3]}: {match[4]}") if match else Finding("", 0, line)


def _actions(name: str, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"\s*(?:-\s+)?uses:\s*(\S+)", line)
        if match and not _PINNED.fullmatch(match[1]):
            yield Finding(name, number, f"{match[1]} is not pinned by its commit")


def _build(name: str, text: str, content: Mapping[Any, Any]) -> Iterator[Finding]:
    # `on` is a boolean in YAML 1.1.
    trigger = content.get("on", content.get(True))
    push = trigger.get("push") if isinstance(trigger, Mapping) else None
    if not isinstance(push, Mapping) or push.get("tags") != TRIGGER:
        yield Finding(name, line_of(text, "tags:"), f"is not triggered by the tags {TRIGGER} (but by {trigger})")
    if isinstance(push, Mapping) and set(push) & {"branches", "branches-ignore", "paths"}:
        yield Finding(name, line_of(text, "push:"), "is triggered by more than the tags of releases")
    runs = [
        str(step["run"]) for job in content.get("jobs", {}).values() for step in job.get("steps", []) if "run" in step
    ]
    places = [next((at for at, run in enumerate(runs) if f"./inv {task} " in run), None) for task in ORDER]
    for task, place in zip(ORDER, places, strict=True):
        if place is None:
            yield Finding(name, line_of(text, "steps:"), f"no step runs ./inv {task}")
    known = [place for place in places if place is not None]
    if known != sorted(known):
        yield Finding(name, line_of(text, "publish-ssm"), f"the order is {', '.join(ORDER)}: nothing else is published")
    for at, run in enumerate(runs):
        if re.search(r"\bgrep\b.*ami-|ami-\S*\[0-9a-f\]", run):
            yield Finding(
                name,
                line_of(text, run.splitlines()[0]),
                "the image's id comes from the manifest, never out of a log by grep",
            )
        if _TAKES_AWAY.search(run) and at < max(known, default=0):
            yield Finding(
                name,
                line_of(text, run.splitlines()[0]),
                "takes images away before the new one is verified and published",
            )
        if re.search(r"\|\|\s*(true|:)(\s|$)", run):
            yield Finding(name, line_of(text, run.splitlines()[0]), "hides a failure")
