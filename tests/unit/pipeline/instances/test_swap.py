"""instance.swap: the new instance gets the volume and then the address, or the old one serves again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto.ec2.models import ec2_backends

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.image_life import cut_at
from tests.support.stages.instances import NEW, OLD, World, assert_as_before, assert_swapped, world
from zmanim_ami.pipeline.instances import going_back, journal
from zmanim_ami.pipeline.instances.swap import Swapped
from zmanim_ami.pipeline.plan import Plan


@pytest.fixture
def stage() -> Iterator[World]:
    with world() as made:
        yield made


def test_the_new_instance_has_the_volume_the_address_and_the_tags_and_the_old_one_is_kept(stage: World) -> None:
    result = stage.swap()
    assert_swapped(stage, result)
    assert isinstance(result, Swapped)
    assert result.addresses == (stage.address,)
    assert result.downtime is not None
    (shown,) = stage.clients.ec2.describe_snapshots(SnapshotIds=[result.snapshot])["Snapshots"]
    assert shown["VolumeId"] == stage.volume


def test_a_backup_is_made_before_anything_else(stage: World) -> None:
    stage.failing = {"backup"}
    with raises("command-not-run", match="the words of the unit"):
        stage.swap()
    assert_as_before(stage)


def test_the_api_of_the_old_one_stops_only_when_the_new_one_is_launched(stage: World) -> None:
    seen: list[int] = []
    stop = "systemctl stop zmanim-api"
    send = stage.send

    def watched(request: object) -> object:
        answer = send(request)  # type: ignore[arg-type]
        if stage.scripts and stage.scripts[-1][1].startswith(stop):
            seen.append(len(cloud.alive(stage.clients)))
        return answer

    cloud.answer(stage.clients.ssm, "SendCommand", watched)  # type: ignore[arg-type]
    stage.swap()
    assert seen == [2]


@pytest.mark.parametrize("to", [OLD, NEW])
def test_a_dry_run_shows_every_check_and_changes_nothing(stage: World, to: str) -> None:
    with cut_at(0, [stage.clients], after=False) as made:
        # Run Command is asked how the instance does, which changes nothing.
        cloud.answer(stage.clients.ssm, "SendCommand", stage.send)
        made.append("none yet")
        plan = stage.swap(to, dry=True)
    assert isinstance(plan, Plan)
    checks = {each.subject: each.reason for each in plan.steps if each.action == "check"}
    assert set(checks) == {"environment", "another image", "image", "type", "room", "idle", "address"}
    refused = [name for name, reason in checks.items() if not reason.startswith("ok")]
    assert refused == ([] if to == NEW else ["another image"])
    assert_as_before(stage)


def _unverify(stage: World) -> None:
    stage.clients.ec2.delete_tags(Resources=[stage.images[NEW]], Tags=[{"Key": "zmanim:verified"}])


def _set(**values: object) -> Callable[[World], None]:
    def change(stage: World) -> None:
        for name, value in values.items():
            setattr(stage, name, value)

    return change


def _no_such_type(stage: World) -> None:
    offers = {"InstanceTypeOfferings": [{"Location": "eu-west-1z", "InstanceType": "m7g.medium"}]}
    cloud.answer(stage.clients.ec2, "DescribeInstanceTypeOfferings", lambda request: offers)


def _address_of_its_own(stage: World) -> None:
    (found,) = stage.clients.ec2.describe_addresses(PublicIps=[stage.address])["Addresses"]
    stage.clients.ec2.disassociate_address(AssociationId=found["AssociationId"])


@pytest.mark.parametrize(
    ("prepare", "check", "found"),
    [
        (_unverify, "image", "nobody vouches"),
        (_no_such_type, "type", "eu-west-1z"),
        (_set(used_percent=90), "room", "90 %"),
        (_set(busy=True), "idle", "one runs"),
        (_address_of_its_own, "address", "it will be another"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_check_before_anything_is_changed(
    stage: World, prepare: Callable[[World], None], check: str, found: str
) -> None:
    prepare(stage)
    with raises("swap-refused") as error:
        stage.swap()
    assert f"{check}: " in error.value.found
    assert found in error.value.found
    assert cloud.alive(stage.clients) == stage.serves() == [stage.old]
    assert stage.unfinished() == []


def test_an_address_that_cannot_move_may_be_another_one_by_a_word(stage: World) -> None:
    _address_of_its_own(stage)
    result = stage.swap(new_address=True)
    assert isinstance(result, Swapped)
    assert (result.addresses, stage.serves()) == ((), [result.instance_id])


@pytest.mark.incident("a new image failed to start, and production was away until somebody had put the old one back")
@pytest.mark.parametrize("changes", [False, True])
def test_a_new_instance_that_is_not_ready_gives_the_volume_back_as_it_was(stage: World, changes: bool) -> None:
    stage.broken, stage.changes = {NEW}, changes
    with raises("swap-taken-back", match="says that it is not ready"):
        stage.swap()
    assert stage.serves() == [stage.old]
    assert cloud.alive(stage.clients) == [stage.old]
    assert (stage.leads_to(), stage.unfinished()) == (stage.old, [])
    if changes:
        assert stage.data_volume(stage.old) not in {"", stage.volume}
        assert going_back.ASIDE_TAG in stage.tags(stage.volume)
        (restored,) = stage.clients.ec2.describe_volumes(VolumeIds=[stage.data_volume(stage.old)])["Volumes"]
        assert (restored["Size"], restored["VolumeType"]) == (20, "gp2")
    else:
        assert stage.data_volume(stage.old) == stage.volume


def test_a_new_instance_that_says_nothing_may_have_changed_the_data(stage: World) -> None:
    stage.broken = {NEW}

    def silent(request: object) -> None:
        stage.silent = {each for each in cloud.alive(stage.clients) if stage.version(each) == NEW}

    cloud.answer(stage.clients.ec2, "AttachVolume", silent)
    with raises("swap-taken-back"):
        stage.swap()
    assert stage.data_volume(stage.old) not in {"", stage.volume}
    assert stage.serves() == [stage.old]


@pytest.mark.parametrize(
    "operation", ["RunInstances", "StopInstances", "CreateSnapshot", "DetachVolume", "AttachVolume"]
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_call_that_fails_or_an_interrupt_before_the_address_moves_is_taken_back(
    stage: World, operation: str, interrupted: bool
) -> None:
    once = [True]

    def fail(_request: object) -> str | None:
        if not once.pop() if once else True:
            return None
        if interrupted:
            raise KeyboardInterrupt
        return "UnauthorizedOperation"

    cloud.answer(stage.clients.ec2, operation, fail)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            stage.swap()
    else:
        with raises("swap-taken-back"):
            stage.swap()
    assert_as_before(stage)


def test_a_volume_that_is_free_too_late_for_the_new_boot_goes_back(stage: World) -> None:
    poller = stage.poller
    cloud.answer(stage.clients.ec2, "DetachVolume", lambda request: poller.sleep(81.0))
    with raises("swap-taken-back", match="free too late"):
        stage.swap(poller=poller)
    assert_as_before(stage)


def test_nothing_goes_back_by_itself_once_an_address_may_have_moved(stage: World) -> None:
    cloud.answer(stage.clients.ec2, "ModifyInstanceAttribute", lambda request: "UnauthorizedOperation")
    with raises("swap-unfinished"):
        stage.swap()
    (entry,) = stage.unfinished()
    assert (entry.step, stage.leads_to()) == ("protect", entry.new)
    cloud.answer(stage.clients.ec2, "ModifyInstanceAttribute", lambda request: None)
    assert_swapped(stage, stage.swap())


def test_a_note_that_cannot_be_read_is_told_and_nothing_is_done(stage: World) -> None:
    stage.clients.ec2.create_tags(Resources=[stage.volume], Tags=[{"Key": journal.TAG, "Value": "half of i"}])
    with raises("swap-unreadable", match="half of i"):
        stage.swap()
    assert stage.serves() == [stage.old]


def test_another_environments_swap_is_none_of_ours(stage: World) -> None:
    other = journal.Entry("staging", NEW, "i-0", "ab", "")
    elsewhere = stage.clients.ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")["VolumeId"]
    journal.Journal(stage.clients, elsewhere, other).note()
    assert_swapped(stage, stage.swap())
    (still,) = journal.find(stage.clients, "staging")
    assert still.entry == other


def test_a_volume_that_was_restored_once_can_be_restored_again(stage: World) -> None:
    stage.broken, stage.changes = {NEW}, True
    had: list[str] = [stage.volume]
    for _ in range(2):
        with raises("swap-taken-back"):
            stage.swap()
        had.append(stage.data_volume(stage.old))
        keys = [tag["Key"] for tag in stage.clients.ec2.describe_volumes(VolumeIds=[had[-1]])["Volumes"][0]["Tags"]]
        assert keys.count(going_back.RESTORED_TAG) == 1
    assert len(set(had)) == 3


def test_of_a_volume_whose_type_has_its_own_speed_no_speed_is_asked_for(stage: World) -> None:
    asked: list[Any] = []
    cloud.answer(stage.clients.ec2, "CreateVolume", lambda request: asked.append(request["body"]))
    volume = ec2_backends[cloud.ACCOUNT][stage.clients.region].volumes[stage.volume]
    # As AWS shows one of gp2, which refuses to be asked for it.
    volume.volume_type, volume.iops = "gp2", 100
    volume.add_tags({"aws:backup:source": "theirs", "owner": "ours"})
    stage.broken, stage.changes = {NEW}, True
    with raises("swap-taken-back"):
        stage.swap()
    (body,) = asked
    assert body["VolumeType"] == "gp2"
    assert not [name for name in body if name in {"Iops", "Throughput"}]
    keys = [value for name, value in body.items() if name.endswith(".Key")]
    assert keys == ["owner", going_back.RESTORED_TAG]


def test_what_was_begun_for_another_version_is_named_and_left(stage: World) -> None:
    begun = journal.Journal(stage.clients, stage.volume, journal.Entry("prod", NEW, stage.old, "ab", step="stop"))
    begun.note()
    with raises("swap-begun", match=OLD):
        stage.swap(OLD)
    assert stage.unfinished() == [begun.entry]


def test_several_addresses_would_take_each_others_place_and_are_refused(stage: World) -> None:
    second = stage.clients.ec2.allocate_address(Domain="vpc")
    stage.clients.ec2.associate_address(AllocationId=second["AllocationId"], InstanceId=stage.old)
    with raises("swap-refused", match=second["PublicIp"]):
        stage.swap(new_address=True)


def test_an_old_instance_that_runs_without_its_volume_is_stopped_and_gets_it(stage: World) -> None:
    entry = journal.Entry("prod", NEW, stage.old, "ab", "asitwas0", step="detach")
    journal.Journal(stage.clients, stage.volume, entry).note()
    stage.clients.ec2.detach_volume(VolumeId=stage.volume, InstanceId=stage.old)
    with raises("swap-taken-back"):
        stage.swap()
    assert_as_before(stage)


def test_the_old_instance_starts_once_there_is_capacity(stage: World) -> None:
    refusals = ["InsufficientInstanceCapacity"] * 3
    cloud.answer(stage.clients.ec2, "StartInstances", lambda request: refusals.pop() if refusals else None)
    stage.broken = {NEW}
    with raises("swap-taken-back"):
        stage.swap()
    assert refusals == []
    assert_as_before(stage)


def test_the_old_instance_does_not_wait_for_a_new_one_that_does_not_stop(stage: World) -> None:
    stage.broken, stage.changes = {NEW}, True

    def hangs(request: Any) -> Any:
        instance_id = request["body"]["InstanceId.1"]
        return {"StoppingInstances": []} if stage.version(instance_id) == NEW else None

    cloud.answer(stage.clients.ec2, "StopInstances", hangs)
    with raises("swap-taken-back"):
        stage.swap()
    assert stage.serves() == cloud.alive(stage.clients) == [stage.old]
