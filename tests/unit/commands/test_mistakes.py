"""What a newcomer types wrong is told in one message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
from invoke.program import Program

import tasks
from localcloud import control
from localcloud.settings import Cloud
from support.errors import BadInput
from zmanim_ami.commands import shared
from zmanim_ami.commands.cloud import Machine, _local_time
from zmanim_ami.pipeline import settings
from zmanim_ami.rehearsal import cloud as clouds


def typed(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        Program(namespace=tasks.namespace).run(["inv", *arguments])
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("account.plan", "--enviroment", "x"), "account.plan has no flag --enviroment"),
        (("account.plan", "--enviroment", "x"), "did you mean --environment?"),
        (("settings", "--nope"), "one of --json"),
        (("settings", "extra"), "there is no task extra, and settings takes nothing by position"),
        (("publish-sm",), "did you mean publish-ssm?"),
        (("account.plan", "--environment"), "account.plan is not complete"),
        (("account.plan", "--environment"), "a value behind --environment"),
        (("rehearse", "--bad-day", "7"), "./inv rehearse --help"),
        (("rehearse", "--seed", "abc"), "--seed can't be 'abc'"),
        (("sweep", "--older-than", "x"), "a whole number"),
    ],
)
@pytest.mark.incident("an unknown flag ended with exit code 1 and Invoke's `No idea what '--nope' is!`")
def test_a_mistyped_command_line_is_bad_input_in_clear_words(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(*arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.out == ""
    assert "No idea" not in shown.err


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AWS_REGION": "us-east-1"}, "AWS_REGION=us-east-1 is not used"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "AWS_DEFAULT_REGION=us-east-1 is not used"),
        ({"AWS_REGION": "eu-west-1"}, ""),
        ({}, ""),
    ],
)
@pytest.mark.incident("AWS_REGION was ignored without a word")
def test_a_region_of_the_environment_that_is_not_taken_is_told(
    environment: Mapping[str, str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        **environment,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    shared.connect(settings.Settings(region="eu-west-1"))
    told = capsys.readouterr().err
    assert words in told
    assert ("is not used" in told) == bool(words)


@pytest.mark.incident("cloud.ps showed when a machine was started in seconds since 1970")
def test_the_time_of_a_machine_s_start_is_shown_as_people_read_it() -> None:
    shown = Machine("i-1", "running", "10.213.7.10", "ami-1", 42, _local_time(1764374400.25)).since
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", shown)
    assert datetime.fromisoformat(shown).timestamp() == 1764374400


def test_a_bare_cloud_is_never_one_whose_account_may_hold_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "find", lambda name, _state: Cloud(name, "eu-west-1", tmp_path, 7))
    with pytest.raises(BadInput, match="its account may hold something"):
        clouds.check_down("default", tmp_path)
    monkeypatch.setattr(control, "find", lambda *_: None)
    clouds.check_down("default", tmp_path)
