"""A machine that is off for its image, and comes on again or is seen to be off."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcloud.ec2.fleet import Attachment
from localcloud.machine.interface import Size
from localcloud.settings import Cloud
from support.errors import Error
from tests.support.localcloud.records import RecordedMachine, record_fleet


def test_a_machine_that_was_off_for_its_image_has_its_volumes_again(tmp_path: Path) -> None:
    with record_fleet(Cloud("resumed", "eu-west-1", tmp_path, 7, "key")) as fleet:
        ended: list[str] = []
        attachments = [Attachment("vol-1", 1, "/dev/sdf")]
        fleet.create("i-1", "ami-1", Size(1 << 30, 2))
        fleet.boot("i-1", attachments, lambda: ended.append("i-1"))
        fleet.halt("i-1")
        assert fleet.instance("i-1").devices == {}
        fleet.resume("i-1", attachments)
        assert (fleet.instance("i-1").machine.running, list(fleet.instance("i-1").devices)) == (True, ["vol-1"])
        assert ended == []


def test_a_machine_that_does_not_come_on_again_is_seen_to_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Error("it does not start", code="machine-failed", expected="a machine", found="none")

    with record_fleet(Cloud("resumed", "eu-west-1", tmp_path, 7, "key")) as fleet:
        ended: list[str] = []
        fleet.create("i-1", "ami-1", Size(1 << 30, 2))
        fleet.boot("i-1", [], lambda: ended.append("i-1"))
        fleet.halt("i-1")
        monkeypatch.setattr(RecordedMachine, "start", refuse)
        fleet.resume("i-1", [])
        assert ended == ["i-1"]
