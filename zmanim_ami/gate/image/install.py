"""install.tsv: every shipped file has one row, and every row is one that the build can follow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from support.errors import Error
from zmanim_ami.gate.finding import Finding
from zmanim_ami.pipeline.docs.tree import users
from zmanim_ami.pipeline.shipped.install import FILES, TABLE, Row, installed, rows

SYSUSERS = FILES / "zmanim-sysusers.conf"
# What the build makes, and so is not below files/.
BUILT = {"bundle", "keys", "versions.json"}
# Owners that are not in the sysusers file, because the base (root) or the CloudWatch agent's package makes them.
PACKAGED = {"root", "cwagent"}


def check(tree: Path) -> list[Finding]:
    """Return what is wrong with the tree's install.tsv."""
    for number, line in enumerate((tree / TABLE).read_bytes().split(b"\n"), 1):
        if b"\r" in line:
            return [Finding(str(TABLE), number, "a carriage return: it would become part of the mode")]
    try:
        table = rows(tree)
        shipped = {each.source for each in installed(tree)}
    except Error as error:
        return [Finding(str(TABLE), 0, str(error))]
    known = PACKAGED | {user.name for user in users((tree / SYSUSERS).read_text())}
    twice = {
        name
        for names in ([row.source for row in table if row.source != "-"], [row.destination for row in table])
        for name, count in Counter(names).items()
        if count > 1
    }
    findings = [Finding(str(TABLE), row.line, words) for row in table for words in _row(tree, row, known, twice)]
    for path in sorted((tree / FILES).rglob("*")):
        name = str(path.relative_to(tree / FILES))
        if path.is_file() and "__pycache__" not in path.parts and name not in shipped | {TABLE.name}:
            findings.append(Finding(str(FILES / name), 0, f"has no row in {TABLE.name}: nothing installs it"))
    return findings


def _row(tree: Path, row: Row, known: set[str], twice: set[str]) -> Iterator[str]:
    built = row.source.removeprefix("build:")
    source = tree / FILES / row.source
    if row.type not in {"file", "tree", "directory"}:
        yield f"the type is {row.type}, and should be file, tree or directory"
    elif row.type == "directory":
        if row.source != "-":
            yield f"a directory has no source: - and not {row.source}"
    elif built != row.source:
        if built.partition("/")[0] not in BUILT:
            yield f"the build makes no {built}: {', '.join(sorted(BUILT))}"
    elif not (source.is_file() if row.type == "file" else source.is_dir()):
        yield f"the {row.type} {row.source} is not there"
    if not row.destination.startswith("/") or ".." in PurePosixPath(row.destination).parts:
        yield f"the destination {row.destination} is not an absolute path without .."
    owner, _, group = row.owner.partition(":")
    for name in {owner, group} - known:
        yield f"nobody makes the owner {name!r}: neither {SYSUSERS.name} nor a package"
    if not re.fullmatch(r"[0-7]{4}", row.mode):
        yield f"the mode {row.mode} is not four octal digits"
    for name in {row.source, row.destination} & twice:
        yield f"{name} has two rows"
