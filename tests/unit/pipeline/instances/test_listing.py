"""instance.list: what each instance runs, how it does, and how far it is behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.support.errors import raises
from tests.support.stages.instances import NEW, OLD, World, encoded, world
from zmanim_ami.pipeline.backup.remote import AnswerUnreadable
from zmanim_ami.pipeline.instances import state
from zmanim_ami.pipeline.instances.listing import Listed, listed
from zmanim_ami.pipeline.instances.swap import Swapped
from zmanim_ami.pipeline.settings import Settings


@pytest.fixture
def stage() -> Iterator[World]:
    with world() as made:
        yield made


def rows(stage: World) -> list[Listed]:
    return listed(stage.clients, Settings(), "prod", stage.poller)


def publish(stage: World, *versions: str, now: str) -> None:
    """Let these versions have been published, and one of them now."""
    for version in versions:
        content = json.dumps({"version": version, "images": {}, "report": "ab" * 32})
        stage.clients.ssm.put_parameter(Name=f"/zmanim/prod/images/{version}", Value=content, Type="String")
    stage.clients.ssm.put_parameter(Name="/zmanim/prod/ami-version", Value=now, Type="String")


def test_an_instance_is_shown_with_its_image_its_release_its_backup_and_how_far_it_is_behind(stage: World) -> None:
    publish(stage, OLD, "v1.2.4-rc.1", NEW, "v1.3.0", now=NEW)
    (row,) = rows(stage)
    assert row == Listed(
        instance_id=stage.old,
        state="running",
        type="m7g.medium",
        version=OLD,
        release=OLD,
        ready=True,
        why="",
        last_backup="2026-11-24T03:02:12Z",
        last_drill="2026-11-24T04:00:00Z",
        disk_used_percent=12,
        behind=2,
        published=NEW,
    )


def answering(**changes: str) -> Callable[[World], None]:
    """Return what lets an instance answer otherwise; an empty text is no such line."""

    def prepare(stage: World) -> None:
        plain = stage.answers

        def answers(instance_id: str) -> str:
            lines = dict(line.split(" ", 1) for line in plain(instance_id).splitlines() if " " in line)
            lines |= {name.replace("_", "-"): value for name, value in changes.items()}
            return "\n".join(f"{name} {value}" for name, value in lines.items() if value) + "\nend"

        stage.answers = answers  # type: ignore[method-assign]  # of this one only

    return prepare


FAILED = encoded({"ok": False, "checks": {"redis": {"ok": False, "required": True, "detail": "no answer"}}})


@pytest.mark.parametrize(
    ("prepare", "ready", "why"),
    [
        (answering(serving=encoded({"serves": False, "failed": {"api": "502"}})), False, "api: 502"),
        (answering(serving="", ready=FAILED), False, "redis: no answer"),
        (answering(serving="", ready=""), False, "not come to the end of its boot"),
        (answering(backups=""), True, "its backups can't be read yet, or not at all (./inv backup.list)"),
        (answering(serving="%"), None, "can't be read"),
        (lambda stage: stage.failing.add("state"), None, "the words of the unit"),
        (lambda stage: stage.silent.add(stage.old), None, "never registered"),
        (lambda stage: stage.clients.ec2.stop_instances(InstanceIds=[stage.old]), None, "it does not run"),
    ],
)
def test_what_is_wrong_with_an_instance_is_said_and_what_nobody_knows_is_not_called_ready(
    stage: World, prepare: Callable[[World], object], ready: bool | None, why: str
) -> None:
    prepare(stage)
    (row,) = rows(stage)
    assert row.ready is ready
    assert why in row.why


def test_one_that_was_swapped_says_for_which(stage: World) -> None:
    done = stage.swap()
    assert isinstance(done, Swapped)
    found: Mapping[str, Any] = {each.instance_id: each.why for each in rows(stage)}
    assert found == {
        stage.old: f"it was swapped for {done.instance_id}, and is kept until somebody ends it",
        done.instance_id: "",
    }


def test_an_environment_without_instances_has_none(stage: World) -> None:
    assert listed(stage.clients, Settings(), "staging", stage.poller) == []


def test_an_answer_that_is_cut_off_is_not_believed() -> None:
    with raises("answer-unreadable"):
        state.read("release v1.2.3\n")
    assert issubclass(AnswerUnreadable, Exception)
