"""image.retire against an account: what the plan asks, what is looked at again, and what is left when it is cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.image_life import HERE, THERE, CutOff, Life, cut_at, two_regions
from zmanim_ami.pipeline.images.retire import Retirement, Row
from zmanim_ami.pipeline.publish import publication
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

SETTINGS = Settings(
    ami_regions=(THERE,), retire_keep=1, retire_publications=1, retire_days=30, retire_step_days=7, retire_limit=3
)


@dataclass
class Yard:
    """Versions in two regions: v1.9.0 is published, v1.1.0 was, v1.0.0 never; and the day."""

    here: Life
    there: Life
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    day: float = 0

    def build(self, version: str) -> None:
        made = self.here.image(version)
        self.images[version] = {HERE: made, THERE: self.there.image(version, source=made)}

    def publish(self, version: str) -> None:
        publication.publish(self.here.clients, SETTINGS, [self.there.clients], version=parse(version))

    @property
    def retirement(self) -> Retirement:
        def clock() -> datetime:
            return datetime.now(UTC) + timedelta(days=self.day)

        return Retirement(self.here.clients, [self.there.clients], SETTINGS, clock)

    def plan(self) -> dict[str, Row]:
        return {row.version: row for row in self.retirement.plan()}

    def actions(self) -> dict[str, str]:
        return {version: row.action for version, row in self.plan().items()}

    def retire(self) -> list[str]:
        retirement = self.retirement
        return [f"{row.action} {row.version}" for row in retirement.apply(retirement.plan())]

    def state(self, version: str) -> set[str]:
        """Where an image and its copy are: gone, or the state of those that are there."""
        lives = {HERE: self.here, THERE: self.there}
        return {
            lives[region].amis[ami_id].state if ami_id in lives[region].amis else "gone"
            for region, ami_id in self.images[version].items()
        }

    def snapshots(self) -> set[str]:
        return {
            str(each["SnapshotId"])
            for life in (self.here, self.there)
            for each in life.clients.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        }


def prepare(here: Life, there: Life) -> Yard:
    made = Yard(here, there)
    for version in ("v1.0.0", "v1.1.0", "v1.9.0"):
        made.build(version)
    for version in ("v1.1.0", "v1.9.0"):
        made.publish(version)
    return made


@pytest.fixture
def yard() -> Iterator[Yard]:
    with two_regions() as (here, there):
        yield prepare(here, there)


def test_an_image_goes_with_its_copy_and_their_snapshots_and_what_is_published_stays(yard: Yard) -> None:
    before = yard.snapshots()
    assert yard.actions() == {"v1.9.0": "keep", "v1.1.0": "deprecate", "v1.0.0": "deprecate"}
    assert yard.retire() == ["deprecate v1.0.0", "deprecate v1.1.0"]
    assert yard.retire() == []
    assert yard.state("v1.0.0") == {"available"}
    yard.day = 8
    assert yard.retire() == ["disable v1.0.0", "disable v1.1.0"]
    assert yard.retire() == []
    assert yard.state("v1.1.0") == {"disabled"}
    yard.day = 16
    assert yard.retire() == ["deregister v1.0.0", "deregister v1.1.0"]
    assert yard.retire() == []
    assert [yard.state(version) for version in ("v1.0.0", "v1.1.0", "v1.9.0")] == [{"gone"}, {"gone"}, {"available"}]
    assert len(before - yard.snapshots()) == 4


@pytest.mark.incident("each test waited for what the one before had written in the second region: half of all calls")
def test_what_an_account_has_written_is_not_waited_for_in_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with two_regions() as (here, there):
            prepare(here, there)
    assert "waiting for" not in capsys.readouterr().err


def test_a_plan_changes_nothing(yard: Yard) -> None:
    with cut_at(0, [yard.here.clients, yard.there.clients], after=False):
        yard.plan()


def test_no_more_than_the_limit_is_changed_at_once(yard: Yard) -> None:
    for number in range(2, 7):
        yard.build(f"v0.{number}.0")
    assert sorted(yard.actions().values()) == ["deprecate"] * 3 + ["keep"] + ["later"] * 4
    assert len(yard.retire()) == 3


def test_a_plan_of_many_images_asks_few_questions(yard: Yard) -> None:
    for number in range(40):
        yard.here.image(f"v0.{number}.0")
    asked: list[str] = []
    watched = [(each.clients, name) for each in (yard.here, yard.there) for name in ("ec2", "ssm", "autoscaling")]

    def note(model: Any, **_: Any) -> None:
        asked.append(model.name)

    for clients, name in watched:
        getattr(clients, name).meta.events.register_first("before-call.*.*", note)
    try:
        assert len(yard.plan()) == 43
    finally:
        for clients, name in watched:
            getattr(clients, name).meta.events.unregister("before-call.*.*", note)
    assert len(asked) <= 40, Counter(asked)
    assert asked.count("DescribeImages") == 2


@pytest.mark.parametrize("where", [HERE, THERE])
def test_an_image_whose_copy_is_used_anywhere_stays(yard: Yard, where: str) -> None:
    life = {HERE: yard.here, THERE: yard.there}[where]
    ami_id = yard.images["v1.0.0"][where]
    life.clients.ec2.run_instances(ImageId=ami_id, MinCount=1, MaxCount=1)
    assert "used by instance i-" in yard.plan()["v1.0.0"].reason


@pytest.mark.parametrize("kind", ["image", "snapshot"])
@pytest.mark.parametrize("where", [HERE, THERE])
def test_an_image_that_is_shared_in_whole_or_by_its_snapshot_stays(yard: Yard, kind: str, where: str) -> None:
    life = {HERE: yard.here, THERE: yard.there}[where]
    ec2, ami_id = life.clients.ec2, yard.images["v1.0.0"][where]
    if kind == "image":
        ec2.modify_image_attribute(ImageId=ami_id, LaunchPermission={"Add": [{"UserId": "210987654321"}]})
    else:
        snapshot = life.amis[ami_id].ebs_snapshot.id
        ec2.modify_snapshot_attribute(
            SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", UserIds=["210987654321"]
        )
    assert yard.plan()["v1.0.0"].reason == "shared with 210987654321"


def test_before_each_change_it_looks_again(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    retirement = yard.retirement
    plan = retirement.plan()
    ami_id = yard.images["v1.0.0"][HERE]
    yard.here.clients.ec2.run_instances(ImageId=ami_id, MinCount=1, MaxCount=1)
    publication.roll_back(yard.here.clients, SETTINGS, [yard.there.clients])
    assert retirement.apply(plan) == []
    said = capsys.readouterr().err
    assert f"{ami_id} (v1.0.0) stays: since the plan was made it is so that used by instance" in said
    assert "(v1.1.0) stays: since the plan was made it is so that published" in said


@pytest.mark.incident("the image that production went back to was on its way out")
def test_what_is_gone_back_to_stays_where_it_is_on_its_way_out(yard: Yard) -> None:
    yard.retire()
    publication.roll_back(yard.here.clients, SETTINGS, [yard.there.clients])
    yard.day = 8
    assert yard.plan()["v1.1.0"].reason == "published"


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("DescribeInstances", "instances"),
        ("DescribeLaunchTemplates", "launch templates"),
        ("DescribeImageReferences", "references"),
    ],
)
def test_an_answer_that_fails_counts_as_use_of_every_image(yard: Yard, operation: str, what: str) -> None:
    cloud.answer(yard.there.clients.ec2, operation, lambda request: "UnauthorizedOperation")
    plan = yard.plan()
    assert {row.action for row in plan.values()} == {"keep"}
    assert f"used by {what} of {THERE} could not be asked" in plan["v1.0.0"].reason


def test_auto_scaling_that_can_not_be_asked_counts_as_use(yard: Yard) -> None:
    cloud.answer(yard.here.clients.autoscaling, "DescribeAutoScalingGroups", lambda request: "AccessDenied")
    assert {row.action for row in yard.plan().values()} == {"keep"}


def test_snapshots_that_stay_behind_are_an_error_that_says_who_takes_them(yard: Yard) -> None:
    for day in (0, 8):
        yard.day = day
        yard.retire()
    yard.day = 16

    def stay(request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "Return": True,
            "DeleteSnapshotResults": [{"SnapshotId": "snap-1", "ReturnCode": "missing-permissions"}],
        }

    cloud.answer(yard.there.clients.ec2, "DeregisterImage", stay)
    with raises("snapshots-left") as error:
        yard.retire()
    assert "snap-1: missing-permissions" in error.value.found


def test_a_snapshot_that_another_image_has_too_stays_and_is_no_error(yard: Yard) -> None:
    for day in (0, 8):
        yard.day = day
        yard.retire()
    yard.day = 16
    skipped = {"Return": True, "DeleteSnapshotResults": [{"SnapshotId": "snap-1", "ReturnCode": "skipped"}]}
    cloud.answer(yard.there.clients.ec2, "DeregisterImage", lambda request: skipped)
    assert yard.retire() == ["deregister v1.0.0", "deregister v1.1.0"]


# What an image is before each step, and how many changes the step takes of it and its copy.
BEFORE: Mapping[str, tuple[Mapping[str, str], str, int]] = {
    "deprecate": ({}, "", 3),
    "disable": ({"deprecation_time": "2026-02-01T00:00:00.000Z"}, "deprecated 2026-02-01T00:00:00+00:00", 4),
    "deregister": ({"state": "disabled"}, "disabled 2026-02-01T00:00:00+00:00", 4),
}
AFTER = {"deprecate": {"available"}, "disable": {"disabled"}, "deregister": {"gone"}}


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "its answer is lost"])
@pytest.mark.parametrize("step", BEFORE)
def test_cut_at_every_change_and_run_again_it_ends_in_the_same_state(step: str, after: bool) -> None:
    fields, tag, changes = BEFORE[step]
    for number in range(changes + 1):
        with two_regions() as (here, there):
            yard = Yard(here, there)
            for version in ("v1.0.0", "v1.9.0"):
                yard.build(version)
                # Published, each in its turn.
                here.clients.ssm.put_parameter(
                    Name="/zmanim/prod/ami-id", Value=yard.images[version][HERE], Type="String", Overwrite=True
                )
            for region, life in ((HERE, here), (THERE, there)):
                ami = life.amis[yard.images["v1.0.0"][region]]
                vars(ami).update({**fields, "deregistration_protection": "enabled"})
            if tag:
                here.amis[yard.images["v1.0.0"][HERE]].add_tags({"zmanim:retiring": tag})
            with cut_at(number, [here.clients, there.clients], after=after) as made:
                try:
                    yard.retire()
                    assert number == changes, made
                except CutOff:
                    pass
            yard.retire()
            assert yard.state("v1.9.0") == {"available"}
            assert yard.state("v1.0.0") == AFTER[step]
            assert yard.retire() == []
