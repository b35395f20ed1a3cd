"""What nobody needs to read is said only where something went wrong."""

from __future__ import annotations

import pytest

from support.progress import quietly, say


def test_what_goes_well_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with quietly():
        say("one of a hundred lines")
    say("done")
    assert capsys.readouterr().err == "done\n"


def _fail() -> None:
    with quietly():
        say("one of a hundred lines")
        raise KeyError("x")


def test_all_is_told_before_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError):
        _fail()
    assert capsys.readouterr().err == "one of a hundred lines\n"
