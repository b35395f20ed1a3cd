"""A page of every run, however it ends; and of the report that an account keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

import tasks
from support.errors import Error
from tests.support import bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.images.inventories import inventory
from tests.support.stages.evidence import AMI, chart, put, rehearsal, report
from tests.support.stages.verification import CHART, Stage, staged
from zmanim_ami.commands import image as image_tasks
from zmanim_ami.commands import report as report_task
from zmanim_ami.evidence import account, make
from zmanim_ami.pipeline.sbom import document, store
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify.verification import NotVerified
from zmanim_ami.pipeline.version import parse


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as prepared:
        yield prepared


def look(stage: Stage) -> dict[str, Any]:
    return account.look(stage.clients, Settings(), "v1.2.3", "AWS account 1, eu-west-1")


def page_of(stage: Stage) -> str:
    return (stage.root / f"build/verify/{stage.ami_id}.html").read_text()


def test_every_verification_leaves_its_page(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    with make.of_verifications(stage.root, lambda version: look(stage)):
        stage.verify()
    assert f"the evidence, as a page: {stage.root}/build/verify/{stage.ami_id}.html" in capsys.readouterr().err
    assert '<span class="verdict">Verified</span>' in page_of(stage)
    assert "AWS account 1, eu-west-1" in page_of(stage)


def test_one_that_fails_leaves_it_as_well(stage: Stage) -> None:
    stage.answers["health-status"] = "503"
    with pytest.raises(NotVerified), make.of_verifications(stage.root, lambda version: look(stage)):
        stage.verify()
    assert '<span class="verdict">Not verified</span>' in page_of(stage)
    assert "1 of " in page_of(stage)


def test_an_interrupted_one_leaves_it_without_asking_anybody(stage: Stage) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def never(version: str) -> dict[str, object]:
        raise AssertionError(f"asked of {version}")

    stage.on_console = interrupt
    with pytest.raises(KeyboardInterrupt), make.of_verifications(stage.root, never):
        stage.verify()
    assert '<span class="verdict">Cut off</span>' in page_of(stage)


def test_a_run_that_reports_nothing_leaves_no_page_of_an_older_one(tmp_path: Path) -> None:
    put(tmp_path, report(), None, rehearsal())
    for around in (make.of_rehearsal(tmp_path), make.of_verifications(tmp_path, lambda version: {})):
        with pytest.raises(Error), around:
            raise Error("the option is none")
    assert list(tmp_path.rglob("*.html")) == []


def test_a_page_that_can_not_be_made_is_said_and_fails_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"build/verify/{AMI}.html").mkdir(parents=True)
    with make.of_verifications(tmp_path, lambda version: {}):
        put(tmp_path, report())
    assert "there is no page of this" in (said := capsys.readouterr().err)
    assert "page-not-written" in said


def test_a_page_that_would_be_larger_than_a_megabyte_is_made_without_the_chart(tmp_path: Path) -> None:
    large = report()
    large["facts"]["chart"] = chart(2200)
    large["facts"]["postgresql"] = [{"name": "n" * 90, "value": "v" * 300, "source": "s" * 100}] * 1000
    written = make.make(put(tmp_path, large)).page
    text = written.read_text()
    assert len(text.encode()) < 1_000_000
    assert "data:image/svg" not in text
    assert "the page would be larger than 1 MB with it" in text


def test_a_rehearsal_leaves_its_page_whatever_comes_of_it(tmp_path: Path) -> None:
    words = "the run stopped at build-ami"

    def run() -> None:
        put(tmp_path, None, None, {**rehearsal(), "ok": False, "ami_id": "", "error": words})
        raise Error(words)

    with pytest.raises(Error), make.of_rehearsal(tmp_path):
        run()
    text = (tmp_path / "build/rehearsal/report.html").read_text()
    assert words in text


def test_what_is_inside_and_the_difference_come_from_the_account(stage: Stage) -> None:
    store.keep(stage.clients, stage.ami_id, document.make(inventory(), datetime(2026, 11, 24, tzinfo=UTC)))
    stage.verify()
    said = look(stage)
    assert said["unknown"] == []
    components = {(each["kind"], each["name"]) for each in said["components"]}
    assert {("RPM", "openssl"), ("source", "redis"), ("Go", "restic")} <= components
    assert said["diff"]["unknown"] == ("anything, as nothing is published yet",)


def test_what_an_account_does_not_have_or_refuses_is_told_with_its_reason(stage: Stage) -> None:
    stage.verify()
    (inside,) = look(stage)["unknown"]
    assert inside.startswith("what is inside: there is no SBOM")
    cloud.answer(stage.clients.ssm, "GetParameter", lambda request: "AccessDeniedException")
    assert len(look(stage)["unknown"]) == 2


def kept(stage: Stage, version: str = "v1.2.3") -> make.Written:
    return make.make_kept(stage.clients, Settings(), stage.root, parse(version), "AWS account 1, eu-west-1")


def test_a_page_is_made_of_the_report_that_the_account_keeps_on_a_machine_that_verified_nothing(stage: Stage) -> None:
    stage.verify()
    (stage.root / f"build/verify/{stage.ami_id}.json").unlink()
    with raises("no-report"):
        make.make(stage.root, "v1.2.3")
    made = kept(stage)
    assert made.page == stage.root / f"build/verify/kept/{stage.ami_id}.html"
    text = made.page.read_text()
    assert "The kept report is the signed one" in text
    assert "data:image/svg+xml;base64," in text
    assert CHART not in text


def test_a_kept_report_that_nobody_vouches_for_is_shown_as_such(stage: Stage) -> None:
    stage.verify()
    key = f"reports/{stage.ami_id}.json"
    stage.clients.s3.put_object(Bucket=bucket_name("releases", "verify"), Key=key, Body=json.dumps(report()).encode())
    text = kept(stage).page.read_text()
    assert "The kept report is the signed one" not in text
    assert "That the kept report is the signed one" in text
    assert "a report that is not the one of its tag" in text


def test_where_the_account_keeps_none_it_says_so_with_the_fix(stage: Stage) -> None:
    with raises("no-report") as error:
        kept(stage)
    assert error.value.exit_code == 2
    assert "./inv verify-ami --version v1.2.3" in error.value.fix


def _inv(*words: str) -> int:
    """Type a task; return its exit code."""
    try:
        Program(namespace=tasks.namespace).run(["inv", *words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_task_says_where_the_page_is_and_a_version_without_a_report_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report_task, "ROOT", put(tmp_path, report()))
    assert _inv("report", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {"page": f"{tmp_path}/build/verify/{AMI}.html", "version": "v1.2.3", "verdict": "Verified"}
    for words in (["--version", "v9.9.9"], ["--version", "no-version"]):
        assert _inv("report", *words) == 2


def test_the_tasks_take_the_kept_report_and_leave_a_page_of_a_verification(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (report_task, image_tasks):
        monkeypatch.setattr(module, "ROOT", stage.root)
        monkeypatch.setattr(module, "connect", lambda settings: stage.clients)
    stage.verify()
    assert _inv("report", "--kept", "--version", "v1.2.3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "Verified"
