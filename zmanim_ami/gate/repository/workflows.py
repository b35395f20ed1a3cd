"""YAML and workflows (DoD 5): yamllint, GitHub's schemas, zizmor (pinned actions too), the trigger, the order."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from zmanim_ami.gate.finding import Finding, ask, complaints, files, line_of, located, tool

GITHUB = Path(".github")
BUILD = GITHUB / "workflows/build-ami.yml"
# The schema of each kind of file that GitHub reads, by the name that check-jsonschema has for it.
SCHEMAS = {
    "vendor.github-workflows": "workflows/*.yml",
    "vendor.github-actions": "actions/*/action.yml",
    "vendor.dependabot": "dependabot.yml",
}
# What each pinned action runs on, and what GitHub's runners still have of it.
PINNED = GITHUB / "pinned-actions.toml"
_RUNS_ON = ("node24", "composite")
TRIGGER = ["v*-ami"]
# What the release is made of, in this order: nothing is published that was not verified.
ORDER = ("build-ami", "verify-ami", "publish-ssm")
# What takes images away comes after the new one has booted.
_TAKES_AWAY = re.compile(r"\b(sweep|deregister|delete-snapshot)\b")


def check(tree: Path) -> Iterator[Finding]:
    """Yield what is wrong with the YAML of the tree and with what GitHub reads of it."""
    kinds = {
        schema: [str(path.relative_to(tree)) for path in sorted((tree / GITHUB).glob(pattern))]
        for schema, pattern in SCHEMAS.items()
    }
    yield from (Finding(str(GITHUB / SCHEMAS[schema]), 0, "is not there") for schema in kinds if not kinds[schema])
    names = [name for kind in kinds.values() for name in kind]
    yield from _actions(tree, names)
    if (tree / BUILD).is_file():
        yield from _build((tree / BUILD).read_text())
    else:
        yield Finding(str(BUILD), 0, "is not there")
    yield from _by_zizmor(tree, names)
    for schema, kind in kinds.items():
        if kind:
            yield from complaints([tool("check-jsonschema"), "--builtin-schema", schema, *kind], tree)
    every = [str(path) for path in files(tree) if path.suffix in {".yml", ".yaml"}]
    if every:
        yield from complaints([tool("yamllint"), "--strict", "--format=parsable", *every], tree)


def _by_zizmor(tree: Path, names: Sequence[str]) -> Iterator[Finding]:
    audited = ask([tool("zizmor"), "--offline", "--persona=auditor", "--format=github", *names], tree)
    for line in audited.stdout.splitlines():
        if match := re.match(r"::\w+ file=([^,]+),line=(\d+),title=([^:,]+)[^:]*::(.*)", line):
            yield Finding(match[1], int(match[2]), f"zizmor {match[3]}: {match[4]}")
        elif line.startswith("::"):
            yield Finding("", 0, line)
    if audited.returncode not in {0, 11, 12, 13, 14}:  # 11 to 14: the findings' highest severity
        yield from located(audited.stderr.splitlines(), tree)


def _actions(tree: Path, names: Sequence[str]) -> Iterator[Finding]:
    try:
        runs_on = tomllib.loads((tree / PINNED).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        yield Finding(str(PINNED), 0, f"can't be read: {error}")
        return
    unused = set(runs_on)
    for name in names:
        for number, line in enumerate((tree / name).read_text().splitlines(), 1):
            # By a tag it is zizmor's finding; by a path it is one of ours.
            if match := re.search(r"\buses: *([\w.-]+/[\w./-]+)@([0-9a-f]{40})\b", line):
                pin = f"{match[1]}@{match[2]}"
                unused.discard(pin)
                if runs_on.get(pin) not in _RUNS_ON:
                    where = f"https://github.com/{match[1]}/blob/{match[2]}/action.yml"
                    words = f"{match[1]} runs on {runs_on.get(pin, 'nobody knows what')}, and runners have {_RUNS_ON}"
                    yield Finding(name, number, f"{words}: `runs.using` of {where} belongs into {PINNED}")
    text = (tree / PINNED).read_text()
    yield from (Finding(str(PINNED), line_of(text, pin), f"nothing uses {pin}") for pin in sorted(unused))


def _build(text: str) -> Iterator[Finding]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return  # yamllint has reported it

    def finding(part: str, words: str) -> Finding:
        return Finding(str(BUILD), line_of(text, part), words)

    # `on` is a boolean in YAML 1.1.
    trigger = content.get("on", content.get(True))
    push = trigger.get("push") if isinstance(trigger, Mapping) else trigger
    if push != {"tags": TRIGGER}:
        yield finding("push:", f"is not triggered by the tags {TRIGGER} alone, but by {push}")
    steps = [step for job in content.get("jobs", {}).values() for step in job.get("steps", [])]
    runs = [str(step["run"]) for step in steps if "run" in step]
    positions: list[int] = []
    for task in ORDER:
        position = next((at for at, run in enumerate(runs) if f"./inv {task} " in run), None)
        if position is None:
            yield finding("steps:", f"no step runs ./inv {task}")
        else:
            positions.append(position)
    if positions != sorted(positions):
        yield finding("publish-ssm", f"the order is {', '.join(ORDER)}: nothing else is published")
    for at, run in enumerate(runs):
        first_line = run.partition("\n")[0]
        if re.search(r"\bgrep\b.*ami-|ami-\S*\[0-9a-f\]", run):
            yield finding(first_line, "the image's id comes from the manifest, never out of a log by grep")
        if _TAKES_AWAY.search(run) and at < max(positions, default=0):
            yield finding(first_line, "takes images away before the new one is verified and published")
        if re.search(r"\|\|\s*(true|:)(\s|$)", run):
            yield finding(first_line, "hides a failure")
