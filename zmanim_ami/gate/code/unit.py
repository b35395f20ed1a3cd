"""Unit tests: no root, no network; and how much of pipeline/ and of the shipped Python they cover, branches counted.

A folder of tests is run in a process of its own, and not again while what it reads stays the same: what its tests
import, by the graph of imports, and what READS declares. A test that reads another file of the tree fails.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import coverage
import grimp

from support.parallel import side_by_side
from zmanim_ami.gate import changes
from zmanim_ami.gate.finding import Finding, ask, files

TESTS = "tests/unit"
# The least percentage of statements and branches, as coverage.py counts them together, by part.
LEAST: Mapping[str, float] = {
    "zmanim_ami/pipeline": 90.0,
    "infrastructure/packer/files/zmanim_host": 90.0,
}
# What the tests in a folder, and in those below it, read beside what they import and their own folder's files.
READS: Mapping[str, str] = {
    "": r"pyproject\.toml|requirements[^/]*|tests/(unit/)?(__init__|conftest)\.py|zmanim_ami/gate/code/unit\.py",
    "bench": r"infrastructure/packer/([^/]*$|files/[^/]*\.preset)",
    "clients": r"tests/clients/moto_differences\.toml",
    "commands": r"(\.github|docs|localcloud|support|tests|tools|zmanim_ami)/|.*README|[A-Z]+\.md$|"
    r"infrastructure/packer/versions|(inv|nox)$|noxfile|require",
    "commands/tools": r"(api|infrastructure)/",
    "evidence": r"infrastructure/iam/|zmanim_ami/(evidence/look/|pipeline/verify/(inspect|trial|facts)\.sh)",
    "gate": r"infrastructure/packer/versions",
    "host": r"docs/on-aws\.md|infrastructure/packer/files/zmanim\.preset",
    "host/aws": r"infrastructure/(iam/|packer/versions|packer/files/cloudwatch)",
    "host/backup": r"infrastructure/packer/files/([^/]*\.service|database\.sql)",
    "host/release": r"docs/releases\.md|tools/|zmanim_ami/toolchain/|infrastructure/packer/files/[^/]*\.sh",
    "host/secrets": r"docs/secrets\.md|infrastructure/packer/files/",
    "infrastructure/iam": r"infrastructure/(iam/|packer/files/cloudwatch)",
    "infrastructure/packer": r"infrastructure/packer/",
    "localcloud": r"tests/unit/localcloud/conftest\.py",
    "localcloud/api": r"(localcloud|support)/",
    "localcloud/ec2": r"tests/unit/localcloud/ec2/conftest\.py",
    "localcloud/ec2/instances": r"localcloud/imds/",
    "localcloud/machine/qemu": r"localcloud/machine/qemu/(disk_image|guest)/",
    "pipeline/account": r"infrastructure/(iam/|packer/files/zmanim_host/)",
    "pipeline/ami": r"tools/|zmanim_ami/toolchain/|infrastructure/(packer/[^/]*$|iam/)",
    "pipeline/backup": r"infrastructure/iam/|infrastructure/packer/files/(backup|zmanim_host/backup/)",
    "pipeline/docs": r"docs/|infrastructure/packer/|tools/|requirements|zmanim_ami/toolchain/",
    "pipeline/instances": r"zmanim_ami/pipeline/instances/state\.sh",
    "pipeline/pins": r"\.github/|tools/|requirements|infrastructure/packer/[^/]*$|zmanim_ami/toolchain/",
    "pipeline/verify": r"infrastructure/iam/|zmanim_ami/pipeline/verify/",
    "pipeline/visibility": r"infrastructure/iam/|zmanim_ami/pipeline/verify/(inspect|trial|facts)\.sh",
    "rehearsal": r"infrastructure/packer/(versions|variables\.pkr\.hcl)|localcloud/machine/qemu/(disk_image|guest)/",
    "rehearsal/standin": r"zmanim_ami/rehearsal/standin/",
    "toolchain": r"tools/|zmanim_ami/toolchain/|(api|tools)/.*go\.(mod|sum)",
    "workflows": r"\.github/|(inv|tasks\.py)$",
}
_PACKAGES = ("support", "localcloud", "zmanim_ami", "tests")
_SHIPPED = Path("infrastructure/packer/files")
_COVERED = re.compile(rf"{TESTS}/(pipeline|host)(/|$)")
_TEST_FILE = re.compile(rf"{TESTS}/.+/test_\w+\.py")
_FAILED = re.compile(r"(?:FAILED|ERROR) (\S+?\.py)(?:::(.+?))?(?: - (.*))?$")


def check(tree: Path, changed: Collection[str] | None = None) -> list[Finding]:
    """Return each test that fails, and each part that the tests cover too little of.

    With `changed`, only what a change of these files can affect is run, and coverage is not measured.
    """
    try:
        folders = inputs(tree)
    except grimp.exceptions.SourceSyntaxError as error:
        return [Finding("", 0, str(error))]
    if changed is not None and all((tree / name).exists() for name in changed):
        folders = {folder: names for folder, names in folders.items() if not names.isdisjoint(changed)}
    passed = changes.passed(tree, "unit-folders")
    stale = {
        folder: digest
        for folder, digest in changes.digests(tree, folders).items()
        if passed.get(folder) != digest or (_COVERED.match(folder) and not _data(tree, folder).exists())
    }
    runs = [partial(_run_folder, tree, folder, folders[folder], covering=changed is None) for folder in stale]
    results = dict(zip(stale, side_by_side(runs, at_once=os.cpu_count()), strict=True)) if runs else {}
    old = {folder: digest for folder, digest in passed.items() if folder not in stale}
    changes.save(tree, "unit-folders", old | {folder: stale[folder] for folder in stale if not results[folder]})
    print(f"unit: {len(stale)} of {len(folders)} folders run; the others passed, and what they read is the same")
    findings = [finding for each in results.values() for finding in each]
    if not findings and changed is None:
        findings += uncovered(tree, [_data(tree, folder) for folder in folders if _COVERED.match(folder)])
    return findings


def inputs(tree: Path) -> dict[str, set[str]]:
    """Return the folders of unit tests, each with the files that its tests may read."""
    names = [str(path) for path in files(tree)]
    modules = {_module(Path(name)): name for name in names if name.endswith(".py")}
    graph = _imports(tree)
    declared = {}
    for folder in sorted({str(Path(name).parent) for name in names if _TEST_FILE.fullmatch(name)}):
        reads = [pattern for above, pattern in READS.items() if f"{folder}/".startswith(f"{TESTS}/{above}")]
        pattern = re.compile("|".join([rf"{folder}/.*(?<!\.py)$", *reads]))
        own = {module for module, name in modules.items() if str(Path(name).parent) == folder}
        imported = own.union(*(graph.find_upstream_modules(module) for module in own & graph.modules))
        declared[folder] = {modules[module] for module in imported & modules.keys()} | set(filter(pattern.match, names))
    return declared


def _imports(tree: Path) -> grimp.ImportGraph:
    sys.path.append(str(tree.absolute() / _SHIPPED))  # the tree itself is where this program was started
    packages = [name for name in _PACKAGES if (tree / name).is_dir()]
    graph = grimp.build_graph(*packages, "zmanim_host", include_external_packages=True, cache_dir=None)
    for module in graph.modules:
        # Whoever imports a module runs the packages that it is in, and what those import.
        package = module.rpartition(".")[0]
        if package in graph.modules:
            graph.add_import(importer=module, imported=package)
        # tasks.py is in no package.
        if "tasks" in graph.modules and module.startswith("zmanim_ami.commands."):
            graph.add_import(importer="tasks", imported=module)
    return graph


def _module(path: Path) -> str:
    if path.is_relative_to(_SHIPPED):
        path = path.relative_to(_SHIPPED)
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _data(tree: Path, folder: str) -> Path:
    return tree.absolute() / changes.CACHE / f"coverage.{folder.replace('/', '.')}"


def _run_folder(tree: Path, folder: str, declared: Collection[str], *, covering: bool) -> list[Finding]:
    tests = sorted(name for name in declared if _TEST_FILE.fullmatch(name) and str(Path(name).parent) == folder)
    counted = [*(f"--cov={part}" for part in LEAST), "--cov-branch", "--cov-report="]
    _data(tree, folder).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="reads-") as directory:
        report = Path(directory, "reads")
        env = {"GATE_READS": str(report), "COVERAGE_FILE": str(_data(tree, folder))}
        findings = run_tests(tree, tests, counted if covering and _COVERED.match(folder) else (), env)
        read = set(report.read_text().splitlines()) if report.exists() else set[str]()
    undeclared = sorted(read.intersection(map(str, files(tree))) - set(declared))
    words = f"its tests read {', '.join(undeclared)}, and READS in zmanim_ami/gate/code/unit.py does not say so"
    return findings + ([Finding(folder, 0, words)] if undeclared else [])


def run_tests(
    tree: Path, tests: Sequence[str], options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> list[Finding]:
    """Run these files of tests and return each test that fails; `options` are pytest's."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *options, *tests]
    # A place of this run's own: those that share one remove each other's files, and fail over what is just going.
    with tempfile.TemporaryDirectory(prefix="unit-") as directory:
        # Wide, so that the last lines hold each assertion whole.
        env = {**os.environ, **(env or {}), "COLUMNS": "400"}
        done = ask([*command, f"--basetemp={directory}/tests"], tree, env)
    if done.returncode == 0:
        return []
    lines = done.stdout.splitlines()
    failures = [_failure(tree, *match.groups()) for match in map(_FAILED.match, lines) if match]
    tail = "\n".join([*lines, done.stderr][-30:])
    return failures or [Finding(tests[0], 0, f"pytest ended with exit code {done.returncode}\n{tail}")]


def _failure(tree: Path, file: str, test: str | None, words: str | None) -> Finding:
    path = tree / file
    name = re.sub(r"\[.*", "", test or "")
    text = path.read_text() if path.is_file() else ""
    line = next((number for number, each in enumerate(text.splitlines(), 1) if f"def {name}(" in each), 0)
    return Finding(file, line, f"{test or 'the file'}: {words or 'failed'}")


def uncovered(tree: Path, data: Sequence[Path]) -> Iterator[Finding]:
    """Yield each part of LEAST that the runs which wrote these data files covered too little of."""
    for part, least in LEAST.items():
        counted = coverage.Coverage(data_file=None, config_file=False, branch=True)
        counted.combine([str(path) for path in data if path.exists()], keep=True)
        # What no test imports counts, too.
        counted.get_data().touch_files([str(path) for path in (tree.absolute() / part).rglob("*.py")])
        table = io.StringIO()
        share = counted.report(include=f"{tree.absolute()}/{part}/*", sort="cover", file=table, ignore_errors=True)
        if share < least:
            rows = [line.split() for line in table.getvalue().splitlines() if ".py " in line]
            worst = ", ".join(f"{Path(row[0]).name} {row[-1]}" for row in rows[:3])
            words = f"unit tests cover {share:.1f} % of its lines and branches, and {least:.0f} % is required ({worst})"
            yield Finding(part, 0, words)
