"""The markers of faults are read as they stand in the tests, and the page says of each where it was tried."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from zmanim_ami.gate.repository import fault_page
from zmanim_ami.gate.repository.fault_page import Mark

TWO = """
import pytest

@pytest.mark.incident("why")
@pytest.mark.fault(12, injected="a disk", must="a "
    "mail")
@pytest.mark.fault(3, injected="a|b", must="nothing")
def test_one(): ...

class TestMore:
    @pytest.mark.fault(3, injected="a|b", must="nothing")
    def test_two(self): ...
"""
READ = [
    Mark(12, "a disk", "a mail", Path("tests/faults/test_a.py"), "test_one"),
    Mark(3, "a|b", "nothing", Path("tests/faults/test_a.py"), "test_one"),
    Mark(3, "a|b", "nothing", Path("tests/faults/test_a.py"), "test_two"),
]


def tree(path: Path, text: str) -> Path:
    """A clone with one file of tests."""
    subprocess.run(["git", "init", "--quiet", path], check=True)
    (path / "tests/faults").mkdir(parents=True)
    (path / "tests/faults/test_a.py").write_text(text)
    return path


def test_a_test_s_markers_are_read_with_their_texts(tmp_path: Path) -> None:
    assert fault_page.read(tree(tmp_path, TWO)) == (READ, [])


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("@pytest.mark.fault", "is called, above a test's function"),
        ("@pytest.mark.fault()", "has one number"),
        ('@pytest.mark.fault("1", injected="a", must="b")', "has one number"),
        ('@pytest.mark.fault(1, injected="a", must=" ")', "says injected and must"),
        ('@pytest.mark.fault(1, injected="a", must=WORDS)', "says injected and must"),
        ('@pytest.mark.fault(1, injected="a", must="b", more="c")', "says injected and must"),
        ('@pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.fault(1))])', "above a test's function"),
    ],
)
def test_a_marker_that_says_too_little_or_stands_elsewhere_is_named(tmp_path: Path, marker: str, words: str) -> None:
    marks, unreadable = fault_page.read(tree(tmp_path, f"import pytest\n\n{marker}\ndef test_one(a): ...\n"))
    assert marks == []
    (only,) = unreadable
    assert (only.line, words in only.words) == (3, True)


def test_the_page_has_a_row_for_what_is_injected_with_each_test_and_one_for_what_is_not_tried() -> None:
    unit = Mark(3, "what a|b does", "none", Path("tests/unit/host/test_c.py"), "test_three")
    lines = fault_page.text([unit, *READ], {12: "the rest"}).splitlines()
    assert "2 of 51 faults have a test; of 1 something has not been tried yet." in lines
    rows = [line for line in lines if line.startswith(("| 3 ", "| 12 "))]
    both = "faults: [test_one](../tests/faults/test_a.py)<br>faults: [test_two](../tests/faults/test_a.py)"
    assert rows == [
        f"| 3 | a\\|b | nothing | {both} |",
        "| 3 | what a\\|b does | none | unit/host: [test_three](../tests/unit/host/test_c.py) |",
        "| 12 | a disk | a mail | faults: [test_one](../tests/faults/test_a.py) |",
        "| 12 | the rest | **not tried yet** | |",
    ]


def test_numbers_are_those_of_the_campaign() -> None:
    assert fault_page.numbers() == list(range(1, 52))


def test_names_are_those_of_functions_and_of_what_a_module_calls_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "test_b.py"
    file.write_text(f"{TWO}\ntest_again = other.test_one\nOTHER = 1\n")
    assert fault_page.names_of(file) == {"test_one", "test_two", "test_again"}


def test_pytest_is_told_of_the_marker() -> None:
    assert '"fault(number, injected, must):' in (ROOT / "pyproject.toml").read_text()
