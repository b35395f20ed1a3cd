"""What the check `unit` keeps of its results hides nothing: whatever a test can see makes it run again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT

ALL = {"host/test_two", "pipeline/test_one", "support/test_three"}
_ONE = "zmanim_ami/pipeline/one.py"
_HOST = "infrastructure/packer/files/zmanim_host"
_FILES = {
    "pyproject.toml": f"""[tool.pytest.ini_options]
pythonpath = [".", "{_HOST}/.."]
addopts = ["--import-mode=importlib"]
""",
    "zmanim_ami/pipeline/__init__.py": "",
    _ONE: "def one() -> int:\n    return 1\n",
    f"{_HOST}/__init__.py": "",
    f"{_HOST}/two.py": "def two() -> int:\n    return 2\n",
    "tests/__init__.py": "",
    "tests/unit/__init__.py": "",
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
    "host/test_two": ("from zmanim_host.two import two", "two() == 2"),
    "support/test_three": ("from pathlib import Path", 'Path("data/three.txt").read_text() == "3"'),
}


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
        """Return the exit code, the tests that have run, and what was said."""
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
    for name in ("zmanim_ami/gate", "support"):
        shutil.copytree(ROOT / name, made.root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in _FILES.items():
        made.write(name, text)
    for name, (imports, claim) in _TESTS.items():
        made.write(
            f"tests/unit/{name}.py", _TEST.format(name=name, function=Path(name).name, imports=imports, claim=claim)
        )
    made.write("data/three.txt", "3")
    code, ran, said = made.check()
    assert (code, ran) == (0, ALL), said
    return made


def test_what_has_passed_is_not_run_again_unless_somebody_wants_it(small: Small) -> None:
    assert small.check()[:2] == (0, set())
    assert small.check("--no-cache")[:2] == (0, ALL)
    assert small.check(CI="true")[:2] == (0, ALL)
    assert small.check(HYPOTHESIS_PROFILE="full")[:2] == (0, ALL), "the surroundings are other ones"


@pytest.mark.parametrize(
    ("file", "bad", "good", "test"),
    [
        (
            "zmanim_ami/pipeline/one.py",
            "def one() -> int:\n    return 7\n",
            _FILES["zmanim_ami/pipeline/one.py"],
            "pipeline/test_one",
        ),
        (f"{_HOST}/two.py", "def two() -> int:\n    return 7\n", _FILES[f"{_HOST}/two.py"], "host/test_two"),
        ("data/three.txt", "7", "3", "support/test_three"),
    ],
)
def test_a_change_runs_what_can_see_it_until_that_passes(
    small: Small, file: str, bad: str, good: str, test: str
) -> None:
    small.write(file, bad)
    for _ in range(2):
        code, ran, said = small.check()
        assert (code, ran) == (1, {test}), said
        assert f"tests/unit/{test}.py" in said
    small.write(file, good)
    assert small.check()[:2] == (0, {test}), "a failure is not kept, and neither is what it took the place of"


def test_what_is_no_longer_reached_counts_at_once(small: Small) -> None:
    more = "\n".join(f"    print({number})" for number in range(20))
    small.write("zmanim_ami/pipeline/unseen.py", f"def unseen() -> None:\n{more}\n")
    code, ran, said = small.check()
    assert (code, ran) == (1, set()), said
    assert "zmanim_ami/pipeline: unit tests reach" in said
    small.write("zmanim_ami/pipeline/unseen.py", "")
    (small.root / "tests/unit/host/test_two.py").unlink()
    code, ran, said = small.check()
    assert (code, ran) == (1, set()), said
    assert f"{_HOST}: no test reaches it at all" in said


def test_kept_results_that_are_damaged_are_none(small: Small) -> None:
    for name in ("unit", "reach"):
        (small.root / ".gate_cache" / f"{name}.json").write_text("{")
    assert small.check()[:2] == (0, ALL)
