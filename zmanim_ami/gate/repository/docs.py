"""The documents: what is generated is current, every command they name exists, every link leads somewhere."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from support.errors import Error
from zmanim_ami.gate.finding import Finding, ask, files
from zmanim_ami.pipeline.docs import page as contents_page
from zmanim_ami.pipeline.docs import tree as contents

_COMMAND = re.compile(r"(?:\./|(?<![\w./-]))(inv|nox)((?:\s+[\w.:/=*{}\"$%~-]+)*)")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_IN_CODE = re.compile(r"`([^`\n]+)`")
QUALITY = Path("docs/quality.md")


def check(tree: Path) -> list[Finding]:
    """Return what is wrong with the documents of the tree."""
    pages = [path for path in files(tree) if path.suffix == ".md"]
    found = [*_contents(tree)]
    tasks, sessions = _tasks(tree), _sessions(tree)
    if isinstance(tasks, Finding) or isinstance(sessions, Finding):
        return [*found, *(each for each in (tasks, sessions) if isinstance(each, Finding))]
    for path in pages:
        text = (tree / path).read_text()
        found += _commands(path, text, tasks, sessions)
        found += _links(tree, path, text)
    return found


def _contents(tree: Path) -> Iterator[Finding]:
    try:
        meant = contents_page.page(tree)
    except Error as fault:
        yield Finding(str(contents.PAGE), 0, str(fault))
        return
    there = (tree / contents.PAGE).read_text() if (tree / contents.PAGE).is_file() else ""
    if there != meant:
        changes = list(difflib.unified_diff(there.splitlines(), meant.splitlines(), lineterm="", n=0))
        line = re.search(r"-(\d+)", changes[2] if len(changes) > 2 else "")
        words = "\n".join(change for change in changes[3:7])
        yield Finding(
            str(contents.PAGE),
            int(line[1]) if line else 0,
            f"out of date: run ./inv write-contents\n{words}",
        )


def _tasks(tree: Path) -> set[str] | Finding:
    # Not `invoke --list`: its JSON has each task's own name, not the one that it is called by.
    program = "import json, tasks; print(json.dumps(list(tasks.namespace.task_names)))"
    said = ask([sys.executable, "-B", "-c", program], tree)
    if said.returncode != 0:
        return Finding("tasks.py", 0, f"./inv --list fails: {said.stderr.strip()[-400:]}")
    return set(json.loads(said.stdout))


def _sessions(tree: Path) -> set[str] | Finding:
    # Without handing over to ./nox: this is the project's own environment already, whichever tree is looked at. And not
    # `nox --list --json`, which leaves out what runs only when it is named.
    program = (
        f"import json, sys; sys.prefix = {str((tree / '.venv').absolute())!r}\n"
        "import noxfile; from nox import registry; print(json.dumps(list(registry.get())))"
    )
    said = ask([sys.executable, "-B", "-c", program], tree)
    if said.returncode != 0:
        return Finding("noxfile.py", 0, f"./nox --list fails: {said.stderr.strip()[-400:]}")
    return set(json.loads(said.stdout))


def _commands(path: Path, text: str, tasks: set[str], sessions: set[str]) -> Iterator[Finding]:
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
            continue
        for code in [line] if fenced else _IN_CODE.findall(line):
            for program, rest in _COMMAND.findall(code):
                words = rest.split()
                if program == "inv" and words and not words[0].startswith("-") and words[0] not in tasks:
                    yield Finding(str(path), number, f"./inv {words[0]}: there is no such task")
                if program == "nox":
                    named = [words[at + 1] for at, word in enumerate(words[:-1]) if word in {"-s", "--session"}]
                    for name in (each for each in named if each not in sessions):
                        yield Finding(str(path), number, f"./nox -s {name}: there is no such session")


def _links(tree: Path, path: Path, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), 1):
        for target in _LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            there = (tree / path.parent / name) if name else tree / path
            if not there.exists():
                yield Finding(str(path), number, f"the link to {target} leads nowhere")
            elif anchor and there.suffix == ".md" and anchor not in _anchors(there.read_text()):
                yield Finding(str(path), number, f"the link to {target} leads to no heading")


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+\s+(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
