"""The documents: what is generated is current, every command they name exists, every link leads somewhere."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from support.errors import Error
from zmanim_ami.gate.finding import Finding, ask, files
from zmanim_ami.pipeline.docs import page as contents_page
from zmanim_ami.pipeline.docs import tree as contents

# What a page names, and the word for it: the group is the name.
_NAMED = {
    "task": re.compile(r"(?P<command>(?:\./|(?<![\w./-]))inv\s+(?P<name>\w[\w.:/=*{}\"$%~-]*))"),
    "session": re.compile(r"(?P<command>(?:\./|(?<![\w./-]))nox\b[^`|;&]*?\s(?:-s|--session)\s+(?P<name>[\w.-]+))"),
}
# Pages, and what the names of tasks and sessions come from.
_NAMES = re.compile(r"\.(md|py|toml)$")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_IN_CODE = re.compile(r"`([^`\n]+)`")
# Not `invoke --list`: its JSON has each task's own name, not the one that it is called by. And not `nox --list --json`,
# which leaves out what runs only when it is named.
_PROGRAM = (
    "import json, tasks, noxfile; from nox import registry\n"
    "print(json.dumps({'task': [*tasks.namespace.task_names], 'session': [*registry.get()]}))"
)


def check(tree: Path, changed: Collection[str] | None = None) -> list[Finding]:
    """Return what is wrong with the documents of the tree.

    With `changed`, commands and links are looked at only where one of these files can make one wrong.
    """
    findings = [*_contents(tree)]
    if changed is not None and all((tree / name).exists() and not _NAMES.search(name) for name in changed):
        return findings
    done = ask([sys.executable, "-B", "-c", _PROGRAM], tree)
    if done.returncode != 0:
        return [*findings, Finding("tasks.py", 0, f"it, or noxfile.py, can't be loaded: {done.stderr.strip()[-400:]}")]
    for path in (path for path in files(tree) if path.suffix == ".md"):
        text = (tree / path).read_text()
        findings += [*_commands(path, text, json.loads(done.stdout)), *_links(tree, path, text)]
    return findings


def _contents(tree: Path) -> Iterator[Finding]:
    try:
        wanted = contents_page.page(tree).splitlines()
    except Error as error:
        yield Finding(str(contents.PAGE), 0, str(error))
        return
    path = tree / contents.PAGE
    lines = path.read_text().splitlines() if path.is_file() else []
    differing = list(difflib.unified_diff(lines, wanted, lineterm="", n=0))[3:7]
    if differing:
        yield Finding(str(contents.PAGE), 0, "\n".join(["out of date: run ./inv write-contents", *differing]))


def _commands(path: Path, text: str, known: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        fenced ^= line.startswith("```")
        for kind, pattern in _NAMED.items():
            for match in pattern.finditer(line if fenced else "\n".join(_IN_CODE.findall(line))):
                if match["name"] not in known[kind]:
                    yield Finding(str(path), number, f"{match['command']}: there is no such {kind}")


def _links(tree: Path, path: Path, text: str) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), 1):
        for target in _LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            linked = (tree / path.parent / name) if name else tree / path
            if not linked.exists():
                yield Finding(str(path), number, f"the link to {target} leads nowhere")
            elif anchor and linked.suffix == ".md" and anchor not in _anchors(linked.read_text()):
                yield Finding(str(path), number, f"the link to {target} leads to no heading")


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+\s+(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
