"""Where a page's content comes from: the newest report, the rehearsal that it is part of, or an error with the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.stages.evidence import AMI, VERSION, account, put, rehearsal, report
from zmanim_ami.evidence import make, sources


def test_a_report_is_shown_next_to_itself(tmp_path: Path) -> None:
    found = sources.find(put(tmp_path, report(), account()), VERSION)
    assert found.page == tmp_path / f"build/verify/{AMI}.html"
    assert (found.version, found.rehearsal) == (VERSION, None)
    assert found.account is not None
    assert found.account.content["where"].startswith("AWS account")


def test_a_report_that_a_rehearsal_made_is_shown_with_it_and_next_to_it(tmp_path: Path) -> None:
    found = sources.find(put(tmp_path, report(), account(), rehearsal()))
    assert found.page == tmp_path / "build/rehearsal/report.html"
    assert found.report is not None
    assert found.report.content["ami_id"] == AMI


def test_a_rehearsal_of_another_image_is_not_mixed_with_a_report(tmp_path: Path) -> None:
    put(tmp_path, {**report(), "version": "v1.2.2"}, account(), {**rehearsal(), "ami_id": ""})
    assert sources.find(tmp_path, VERSION).report is None
    assert sources.find(tmp_path, "v1.2.2").rehearsal is None


@pytest.mark.parametrize("named", ["../../etc/passwd", "ami-", "", "ami-0123/../x", None, 7])
def test_a_rehearsal_that_names_no_image_reads_no_file_of_that_name(tmp_path: Path, named: object) -> None:
    found = sources.find(put(tmp_path, report(), account(), {**rehearsal(), "ami_id": named}), VERSION)
    assert (found.report, found.account) == (None, None)


def test_without_a_report_of_that_version_it_says_which_there_are_and_how_to_get_one(tmp_path: Path) -> None:
    with raises("no-report") as error:
        make.make(put(tmp_path, report()), "v9.9.9")
    assert error.value.exit_code == 2
    assert "v9.9.9" in error.value.summary
    assert f"reports on {VERSION}" in error.value.found
    assert "verify-ami --version v9.9.9" in error.value.fix
    assert "--kept" in error.value.fix


def test_where_nothing_was_ever_reported_it_says_so(tmp_path: Path) -> None:
    with raises("no-report") as error:
        make.make(tmp_path)
    assert error.value.found == "none"


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '"text"', "[" * 100_000, b"\xff\xfe".decode("latin-1")])
def test_a_file_that_is_no_report_is_named_with_the_fix(tmp_path: Path, content: str) -> None:
    put(tmp_path, report())
    path = tmp_path / f"build/verify/{AMI}.json"
    path.write_text(content, "latin-1")
    with raises("report-unreadable") as error:
        make.make(tmp_path)
    assert error.value.exit_code == 2
    assert str(path) in error.value.summary
    assert "run that again" in error.value.fix


def test_a_broken_file_keeps_nobody_from_the_page_of_another(tmp_path: Path) -> None:
    put(tmp_path, report())
    (tmp_path / "build/verify/ami-0f.json").write_text("{")
    assert make.make(tmp_path, VERSION).page.name == f"{AMI}.html"


def test_a_folder_that_can_not_be_written_is_an_error_with_the_fix(tmp_path: Path) -> None:
    put(tmp_path, report())
    (tmp_path / f"build/verify/{AMI}.html").mkdir()  # as root, no mode keeps anybody from writing
    with raises("page-not-written") as error:
        make.make(tmp_path)
    assert error.value.exit_code == 2
    assert "ls -ld" in error.value.fix
