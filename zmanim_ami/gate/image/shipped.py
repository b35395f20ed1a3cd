"""The Python that ships: Amazon Linux 2023's own interpreter, 3.9 (vermin), and nothing but its standard library."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from zmanim_ami.gate.finding import Finding, ask, tool

FILES = Path("infrastructure/packer/files")
SCRIPTS = Path("infrastructure/packer/scripts")
_OURS = "zmanim_host"


def check(tree: Path) -> list[Finding]:
    """Return what Python 3.9 would not understand, what is not in its library, and what no machine may do."""
    paths = python_files(tree)
    findings = [*_vermin(tree, [str(path.relative_to(tree)) for path in paths])]
    for path in paths:
        name = str(path.relative_to(tree))
        text = path.read_text()
        try:
            module = ast.parse(text, feature_version=(3, 9))
        except SyntaxError as error:
            findings.append(Finding(name, error.lineno or 0, f"no Python 3.9: {error.msg}"))
            continue
        for node in ast.walk(module):
            line = getattr(node, "lineno", 0)
            findings += [Finding(name, line, words) for words in (*_imports(node), *_postgresql(node), *_restic(node))]
    return findings


def python_files(tree: Path) -> list[Path]:
    """Return every Python file that runs on a builder or a machine."""
    below = [*(tree / FILES).rglob("*.py"), *(tree / SCRIPTS).rglob("*.py")]
    programs = [path for path in (tree / FILES).iterdir() if path.is_file() and not path.suffix and _is_python(path)]
    return sorted([*below, *programs])


def _is_python(path: Path) -> bool:
    with path.open("rb") as file:
        return re.match(rb"#!\S*/python3", file.readline()) is not None


def _vermin(tree: Path, names: Sequence[str]) -> Iterator[Finding]:
    command = [tool("vermin"), "--no-tips", "--target=3.9-", "--format", "parsable", "--violations"]
    output = ask([*command, "--processes=1", *names], tree)
    if output.returncode == 0:
        return
    # FILE:LINE:COLUMN:PYTHON 2:PYTHON 3:WORDS, without a line for the file as a whole.
    lines = [line.split(":", 5) for line in output.stdout.splitlines() if line.count(":") >= 5]
    findings = [
        Finding(each[0], int(each[1]), f"not in Python 3.9: {each[5]}") for each in lines if each[0] and each[1]
    ]
    yield from findings or [Finding("", 0, f"vermin: {output.stdout}{output.stderr}")]


def _imports(node: ast.AST) -> Iterator[str]:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [node.module or ""]
    for top in (name.partition(".")[0] for name in names):
        if top not in {*sys.stdlib_module_names, _OURS}:
            yield f"{top} is not in the standard library"


def _postgresql(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and re.search(
        r"(?s)(?=.*postmaster\.pid).*\b(unlink|remove|rmtree|rename|replace)\b", ast.unparse(node)
    ):
        yield "takes a running server's own mark away (postmaster.pid)"


def _restic(node: ast.AST) -> Iterator[str]:
    """Yield what once lost backups: a host name that changes, a truncated stream, a repository made too easily."""
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOST" and not _is_text(node.value):
        yield "snapshots are not grouped by one fixed name: HOST is text"
    elements = node.elts if isinstance(node, ast.List | ast.Tuple) else node.args if isinstance(node, ast.Call) else []
    words = [ast.unparse(element) for element in elements]
    if "'--host'" in words and words[words.index("'--host'") + 1 :][:1] != ["HOST"]:
        yield "snapshots are not grouped by one fixed name: --host HOST"
    # Text of our own may come through stdin: it is whole.
    if "*command" in words and "'--stdin-filename'" in words and "'--stdin-from-command'" not in words:
        yield "restic can't see how the command ended: --stdin-from-command"
    if "'--remove-all'" in words:
        yield "takes locks away that are held"
    body = ast.unparse(node) if isinstance(node, ast.FunctionDef) else ""
    if re.search(r"restic\([^)]*'init'", body) and "except NoRepository" not in body:
        yield "restic init belongs behind NoRepository alone: restic is sure that there is none"


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
