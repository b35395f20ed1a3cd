"""What an image has to stand after its first boot: a reboot, a swap, a restore on another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.stages.verification import Stage, staged
from zmanim_ami.pipeline import instance, volumes
from zmanim_ami.pipeline.ami.image import VERIFIED_TAG
from zmanim_ami.pipeline.verify import leftover_volumes
from zmanim_ami.pipeline.verify.verification import NotVerified, VerifyResult

STEPS = ["reboot", "backup", "swap", "restore"]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as prepared:
        yield prepared


def on_read(number: int, **changes: str) -> Callable[[Stage], None]:
    """Return what lets an instance (1, 2 or 3) answer otherwise when it is asked what is there."""

    def change(asked: int, found: dict[str, str]) -> None:
        if asked == number:
            found.update(changes)

    return lambda stage: setattr(stage, "on_read", change)


def on_boot(number: int, boot: int, **changes: object) -> Callable[[Stage], None]:
    """Return what lets an instance say something else of itself in one of its boots."""

    def change(asked: int, booted: int, report: dict[str, Any]) -> None:
        if (asked, booted) == (number, boot):
            report.update(changes)

    return lambda stage: setattr(stage, "on_boot", change)


def sets(**fields: str) -> Callable[[Stage], None]:
    def change(stage: Stage) -> None:
        for name, value in fields.items():
            setattr(stage, name, value)

    return change


def volumes_of(stage: Stage) -> list[str]:
    """Return the volumes that a verification made and that are still there."""
    filters: Any = [{"Name": f"tag:{instance.TAG}", "Values": ["true"]}]
    return [each["VolumeId"] for each in stage.clients.ec2.describe_volumes(Filters=filters)["Volumes"]]


def test_a_good_image_stands_a_reboot_a_swap_and_a_restore(stage: Stage) -> None:
    assert isinstance(stage.verify(), VerifyResult)
    checks = stage.report()["checks"]
    assert [check["name"] for check in checks[-4:]] == STEPS
    assert len(stage.reboots) == 1
    assert (cloud.alive(stage.clients), volumes_of(stage)) == ([], [])


def test_two_instances_share_a_repository_and_the_third_waits_for_a_volume(stage: Stage) -> None:
    stage.verify()
    stage.verify()
    repositories, bare = [], []
    for request in stage.launches:
        tags = {
            request[f"TagSpecification.1.Tag.{n}.Key"]: n
            for n in range(1, 8)
            if f"TagSpecification.1.Tag.{n}.Key" in request
        }
        number = tags.get("zmanim:repository")
        repositories.append(request[f"TagSpecification.1.Tag.{number}.Value"] if number else "")
        bare.append("BlockDeviceMapping.1.DeviceName" not in request and "zmanim:data-volume" not in tags)
    first, again, none, other, other_again, other_none = repositories
    assert first == again
    assert other == other_again
    assert first != other
    assert (none, other_none) == ("", "")
    assert all(len(each) == 32 for each in (first, other))
    assert bare == [False, False, True] * 2


@pytest.mark.incident("an image was published whose backups nobody had ever restored")
@pytest.mark.parametrize(
    ("defect", "step", "found"),
    [
        (on_read(2, rows="999"), "reboot", "rows is '999'"),
        (on_boot(2, 1, ok=False), "reboot", "says that it is not ready"),
        (on_boot(2, 2, ok=False), "reboot", "says that it is not ready"),
        (on_boot(2, 2, seconds=70.5), "reboot", "70.5 s after it"),
        (sets(backup_status="Failed"), "backup", "the words of the unit"),
        (on_boot(3, 1, ok=False), "swap", "says that it is not ready"),
        (on_boot(3, 1, seconds=61), "swap", "ready_seconds"),
        (on_read(3, digest="0" * 32), "swap", "digest is"),
        (on_read(3, right="f"), "swap", "right is 'f'"),
        (on_read(3, lasting=""), "swap", "lasting is ''"),
        (on_read(3, expiring=""), "swap", "expiring is ''"),
        (on_read(3, ttl="-1"), "swap", "the time to live is '-1'"),
        (on_read(3, ttl="86401"), "swap", "the time to live is '86401'"),
        (sets(proof="", proof_status="Failed"), "restore", "the words of the unit"),
        (sets(proof="no JSON"), "restore", "no JSON"),
        (sets(restored_as="second"), "restore", "lasting is 'second'"),
    ],
)
def test_a_step_that_fails_is_named_with_what_was_found_and_nothing_stays(
    stage: Stage,
    defect: Callable[[Stage], None],
    step: str,
    found: str,
) -> None:
    # As an earlier verification left it.
    tag: Any = {"Key": VERIFIED_TAG, "Value": "ab" * 32}
    stage.clients.ec2.create_tags(Resources=[stage.ami_id], Tags=[tag])
    defect(stage)
    with pytest.raises(NotVerified):
        stage.verify()
    assert stage.tag() is None
    (failed,) = [check for check in stage.report()["checks"] if not check["ok"]]
    assert failed["name"] == step
    assert found in failed["found"]
    assert (cloud.alive(stage.clients), volumes_of(stage)) == ([], [])


def test_a_volume_that_a_killed_verification_left_goes_when_it_is_old(
    stage: Stage,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tags: Any = [{"ResourceType": "volume", "Tags": [{"Key": instance.TAG, "Value": "true"}]}]
    left = stage.clients.ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a", TagSpecifications=tags)["VolumeId"]
    foreign = stage.clients.ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")["VolumeId"]
    now = datetime.now(UTC)
    assert leftover_volumes.leftovers(stage.clients, now) == []
    assert leftover_volumes.leftovers(stage.clients, now + timedelta(hours=3)) == [left]
    volumes.delete(stage.clients, [left, left])
    assert f"deleted {left}" in capsys.readouterr().err
    assert stage.clients.ec2.describe_volumes(VolumeIds=[foreign])["Volumes"]


@pytest.mark.parametrize("operation", ["StopInstances", "DetachVolume", "AttachVolume", "RebootInstances"])
def test_an_interrupt_in_the_middle_leaves_no_instance_and_no_volume(
    stage: Stage,
    operation: str,
) -> None:
    def interrupt(_request: object) -> None:
        raise KeyboardInterrupt

    cloud.answer(stage.clients.ec2, operation, interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.verify()
    assert (cloud.alive(stage.clients), volumes_of(stage), stage.tag()) == ([], [], None)
