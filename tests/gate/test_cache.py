"""What the gate caches of its results hides nothing: whatever a check reads makes it run again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT

ALL = {"host/storage/test_two", "pipeline/test_one", "infrastructure/iam/test_three"}
_ONE = "zmanim_ami/pipeline/one.py"
_HOST = "infrastructure/packer/files/zmanim_host"
_DATA = "infrastructure/packer/files/cloudwatch-three.json"
_FILES = {
    "pyproject.toml": f"""[tool.pytest.ini_options]
pythonpath = [".", "{_HOST}/.."]
addopts = ["--import-mode=importlib"]
""",
    "zmanim_ami/__init__.py": "",
    "zmanim_ami/pipeline/__init__.py": "",
    _ONE: "def one() -> int:\n    return 1\n",
    f"{_HOST}/__init__.py": "",
    f"{_HOST}/two.py": "def two() -> int:\n    return 2\n",
    "tests/__init__.py": "",
    "tests/unit/__init__.py": "",
    "tests/unit/host/__init__.py": "",
    "tests/unit/infrastructure/__init__.py": "",
    _DATA: "3",
    "README.md": "No test reads this.\n",
}
_TEST = """
import os
{imports}

def {function}():
    with open(os.environ["RAN"], "a") as ran:
        ran.write("{name}\\n")
    assert {claim}
"""
_TESTS = {
    "pipeline/test_one": ("from zmanim_ami.pipeline.one import one", "one() == 1"),
    "host/storage/test_two": ("from zmanim_host.two import two", "two() == 2"),
    "infrastructure/iam/test_three": ("from pathlib import Path", f'Path("{_DATA}").read_text() == "3"'),
}


def _test(name: str, imports: str, claim: str) -> str:
    return _TEST.format(name=name, function=Path(name).name, imports=imports, claim=claim)


class Small:
    """A small tree with a test of each kind, and how its check `unit` went."""

    def __init__(self, root: Path) -> None:
        self.root, self.ran = root / "tree", root / "ran"
        self._written = int(time.time())

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        # Each time another second: Python takes what it has compiled for a file of the same size and second.
        self._written += 1
        os.utime(path, (self._written, self._written))

    def check(self, *arguments: str, **variables: str) -> tuple[int, set[str], str]:
        """Return the exit code, the tests that have run, and the output."""
        self.ran.write_text("")
        plain = {name: value for name, value in os.environ.items() if name not in {"CI", "GATE_NO_CACHE"}}
        done = subprocess.run(
            [sys.executable, "-m", "zmanim_ami.gate", "unit", *arguments],
            cwd=self.root,
            env={**plain, "RAN": str(self.ran), **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, set(self.ran.read_text().split()), done.stdout + done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small(tmp_path)
    for name in ("zmanim_ami/gate", "support", "tests/support"):
        shutil.copytree(ROOT / name, made.root / name, ignore=shutil.ignore_patterns("__pycache__"))
    # What Python compiles is no file of ours there either.
    for name in ("tests/unit/conftest.py", ".gitignore"):
        made.write(name, (ROOT / name).read_text())
    for name, text in _FILES.items():
        made.write(name, text)
    for name, (imports, claim) in _TESTS.items():
        made.write(f"tests/unit/{name}.py", _test(name, imports, claim))
        made.write(f"tests/unit/{Path(name).parent}/__init__.py", "")
    subprocess.run(["git", "init", "--quiet", made.root], check=True)
    code, ran, output = made.check()
    assert (code, ran) == (0, ALL), output
    return made


def test_what_has_passed_is_not_run_again_unless_somebody_wants_it(small: Small) -> None:
    assert small.check()[:2] == (0, set())
    assert small.check("--no-cache")[:2] == (0, ALL)
    assert small.check(CI="true")[:2] == (0, ALL)
    assert small.check(HYPOTHESIS_PROFILE="full")[:2] == (0, ALL), "the surroundings are other ones"


@pytest.mark.parametrize(
    ("file", "bad", "test"),
    [
        (_ONE, "def one() -> int:\n    return 7\n", "pipeline/test_one"),
        (f"{_HOST}/two.py", "def two() -> int:\n    return 7\n", "host/storage/test_two"),
        (_DATA, "7", "infrastructure/iam/test_three"),
    ],
)
def test_a_change_runs_what_can_see_it_until_that_passes(small: Small, file: str, bad: str, test: str) -> None:
    small.write(file, bad)
    for _ in range(2):
        code, ran, output = small.check()
        assert (code, ran) == (1, {test}), output
        assert f"tests/unit/{test}.py" in output
    small.write(file, _FILES[file])
    assert small.check()[:2] == (0, {test}), "a failure is not cached, and neither is what it took the place of"


def test_what_no_test_reads_runs_none_again(small: Small) -> None:
    small.write("README.md", "Changed.\n")
    assert small.check()[:2] == (0, set())


def test_a_test_that_reads_what_its_folder_does_not_declare_fails(small: Small) -> None:
    name = "infrastructure/iam/test_three"
    small.write(f"tests/unit/{name}.py", _test(name, "from pathlib import Path", 'Path("README.md").read_text()'))
    for _ in range(2):
        code, ran, output = small.check()
        assert (code, ran) == (1, {name}), output
        assert "tests/unit/infrastructure/iam: its tests read README.md" in output


def test_what_is_no_longer_covered_counts_at_once(small: Small) -> None:
    more = "\n".join(f"    print({number})" for number in range(20))
    small.write("zmanim_ami/pipeline/unseen.py", f"def unseen() -> None:\n{more}\n")
    for _ in range(2):
        code, ran, output = small.check()
        assert (code, ran) == (1, set()), output
        assert "zmanim_ami/pipeline: unit tests cover" in output
    small.write("zmanim_ami/pipeline/unseen.py", "")
    (small.root / "tests/unit/host/storage/test_two.py").unlink()
    code, ran, output = small.check()
    assert (code, ran) == (1, set()), output
    assert f"{_HOST}: unit tests cover 0.0 %" in output


def test_results_that_are_damaged_or_gone_are_none(small: Small) -> None:
    cache = small.root / ".gate_cache"
    for path in cache.glob("*.json"):
        path.write_text("{")
    assert small.check()[:2] == (0, ALL)
    (cache / "coverage.tests.unit.pipeline").unlink()
    small.write("README.md", "Changed.\n")
    assert small.check()[:2] == (0, {"pipeline/test_one"})
