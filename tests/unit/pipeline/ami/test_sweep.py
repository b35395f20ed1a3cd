from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.image_life import Life
from zmanim_ami.pipeline.ami import sweep
from zmanim_ami.pipeline.ami.sweep import Leftover, Scope
from zmanim_ami.pipeline.aws import Clients

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import TagTypeDef

RUN: Sequence[TagTypeDef] = [{"Key": "zmanim:run", "Value": "7"}]
OTHER: Sequence[TagTypeDef] = [{"Key": "zmanim:run", "Value": "8"}]


@pytest.fixture
def clients() -> Iterator[Clients]:
    with cloud.account() as made:
        yield made


def tagged(kind: Any, tags: Sequence[TagTypeDef]) -> Any:
    return [{"ResourceType": kind, "Tags": tags}]


def kinds(leftovers: list[Leftover]) -> list[str]:
    return [each.kind for each in leftovers]


def image(clients: Clients, name: str, tags: Sequence[TagTypeDef]) -> str:
    mapping: Any = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8}}
    made = clients.ec2.register_image(Name=name, RootDeviceName="/dev/xvda", BlockDeviceMappings=[mapping])["ImageId"]
    (shown,) = clients.ec2.describe_images(ImageIds=[made])["Images"]
    snapshots = [each["Ebs"]["SnapshotId"] for each in shown["BlockDeviceMappings"]]
    clients.ec2.create_tags(Resources=[made, *snapshots], Tags=tags)
    return made


def leave(clients: Clients, tags: Sequence[TagTypeDef]) -> str:
    """Leave one of each in the account; return the instance."""
    ec2, name = clients.ec2, f"packer-{tags[0]['Value']}"
    group = ec2.create_security_group(
        GroupName=name,
        Description="x",
        TagSpecifications=tagged("security-group", tags),
    )["GroupId"]
    ec2.create_key_pair(KeyName=name, TagSpecifications=tagged("key-pair", tags))
    ec2.create_volume(
        Size=1,
        AvailabilityZone="eu-west-1a",
        TagSpecifications=tagged("volume", tags),
    )
    built = image(clients, f"zmanim-{name}", tags)
    launched = ec2.run_instances(
        ImageId=built,
        MinCount=1,
        MaxCount=1,
        SecurityGroupIds=[group],
        TagSpecifications=tagged("instance", tags),
    )
    return launched["Instances"][0]["InstanceId"]


def test_what_a_run_left_is_found_taken_away_and_gone(clients: Clients) -> None:
    leave(clients, RUN)
    leftovers = sweep.plan(clients, Scope("7"))
    assert kinds(leftovers) == ["instance", "volume", "image", "snapshot", "security group", "key pair"]
    assert all(each.reason for each in leftovers)
    sweep.apply(clients, leftovers, cloud.hurried())
    assert sweep.plan(clients, Scope("7")) == []


@pytest.mark.incident("a failed verification was run again, and the sweep had taken its image")
def test_an_image_that_was_finished_can_be_kept_for_its_verification_with_what_it_needs(clients: Clients) -> None:
    leave(clients, RUN)
    leftovers = sweep.plan(clients, Scope("7"), keep_image=True)
    assert kinds(leftovers) == ["instance", "volume", "security group", "key pair"]
    sweep.apply(clients, leftovers, cloud.hurried())
    assert kinds(sweep.plan(clients, Scope("7"))) == ["image", "snapshot"]  # and goes when nobody keeps it


def test_an_image_that_is_still_being_made_is_not_kept(clients: Clients) -> None:
    made = image(clients, "zmanim-v1.2.3", RUN)
    (shown,) = clients.ec2.describe_images(ImageIds=[made])["Images"]
    cloud.answer(clients.ec2, "DescribeImages", lambda request: {"Images": [{**shown, "State": "pending"}]})
    assert "image" in kinds(sweep.plan(clients, Scope("7"), keep_image=True))


def test_a_plan_takes_nothing_away(clients: Clients) -> None:
    leave(clients, RUN)
    assert sweep.plan(clients, Scope("7")) == sweep.plan(clients, Scope("7"))


def test_what_another_run_made_and_what_has_no_tag_stays(clients: Clients) -> None:
    leave(clients, RUN)
    retained = leave(clients, OTHER)
    clients.ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")
    before = sweep.plan(clients, Scope("8"))
    sweep.apply(clients, sweep.plan(clients, Scope("7")), cloud.hurried())
    assert sweep.plan(clients, Scope("8")) == before
    assert retained in {each.id for each in before}
    assert len(clients.ec2.describe_volumes()["Volumes"]) >= 2


@pytest.mark.incident("old images were deleted before the new one had booted")
def test_a_verified_image_and_its_snapshot_stay(clients: Clients) -> None:
    retained = image(clients, "zmanim-v1.0.0", [*RUN, {"Key": "zmanim:verified", "Value": cloud.SHA}])
    gone = image(clients, "zmanim-v1.1.0", RUN)
    leftovers = sweep.plan(clients, Scope("7"))
    assert leftovers[0].id == gone
    assert kinds(leftovers) == ["image", "snapshot"]
    sweep.apply(clients, leftovers, cloud.hurried())
    assert clients.ec2.describe_images(ImageIds=[retained])["Images"]


def test_what_is_gone_by_the_time_it_is_taken_is_no_error(clients: Clients) -> None:
    leave(clients, RUN)
    leftovers = sweep.plan(clients, Scope("7"))
    sweep.apply(clients, leftovers, cloud.hurried())
    sweep.apply(clients, [each for each in leftovers if each.kind != "key pair"], cloud.hurried())


def test_a_refusal_is_an_error(clients: Clients) -> None:
    leave(clients, RUN)
    cloud.answer(clients.ec2, "DeleteSecurityGroup", lambda request: "DependencyViolation")
    with pytest.raises(Exception, match="DependencyViolation"):
        sweep.apply(clients, sweep.plan(clients, Scope("7")), cloud.hurried())


def test_more_than_a_run_can_have_left_is_refused(clients: Clients) -> None:
    for number in range(sweep.LIMIT + 1):
        clients.ec2.create_key_pair(KeyName=f"k{number}", TagSpecifications=tagged("key-pair", RUN))
    with raises("sweep-too-large"):
        sweep.plan(clients, Scope("7"))


def test_an_instance_that_does_not_end_is_said_before_anything_else_is_taken(clients: Clients) -> None:
    leave(clients, RUN)
    leftovers = sweep.plan(clients, Scope("7"))
    cloud.answer(clients.ec2, "TerminateInstances", lambda request: {"TerminatingInstances": []})
    with raises("not-ended"):
        sweep.apply(clients, leftovers, cloud.hurried())
    assert kinds(sweep.plan(clients, Scope("7"))) == kinds(leftovers)


# ---- by age ----


def by_age(clients: Clients, days: float = -1) -> list[Leftover]:
    """What was made that long ago; by default all that is there, for a test's things are seconds old."""
    return sweep.plan(clients, Scope("", datetime.now(UTC) - timedelta(days=days), "/zmanim/prod"))


def test_by_age_what_any_run_left_is_found_and_taken_and_nothing_without_the_tag(clients: Clients) -> None:
    leave(clients, RUN)
    leave(clients, OTHER)
    clients.ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")
    leftovers = by_age(clients)
    assert [kinds(leftovers).count(kind) for kind in ("instance", "volume", "image", "snapshot")] == [2] * 4
    assert kinds(leftovers)[-4:] == ["security group"] * 2 + ["key pair"] * 2
    sweep.apply(clients, leftovers, cloud.hurried())
    assert by_age(clients) == []
    assert len(clients.ec2.describe_volumes()["Volumes"]) >= 1


def test_what_is_younger_is_left_to_its_run(clients: Clients) -> None:
    leave(clients, RUN)
    assert by_age(clients, days=1) == []


def test_a_group_whose_run_has_anything_young_stays_for_it_has_no_age_itself(clients: Clients) -> None:
    clients.ec2.create_security_group(GroupName="old", Description="x", TagSpecifications=tagged("security-group", RUN))
    assert kinds(by_age(clients, days=1)) == ["security group"]
    clients.ec2.create_key_pair(KeyName="young", TagSpecifications=tagged("key-pair", RUN))
    assert by_age(clients, days=1) == []


@pytest.mark.parametrize("how", ["verified", "published once", "protected"])
def test_by_age_no_image_goes_that_was_verified_or_published(clients: Clients, how: str) -> None:
    tags = [*RUN, {"Key": "zmanim:verified", "Value": cloud.SHA}] if how == "verified" else RUN
    retained = image(clients, "zmanim-v1.0.0", tags)  # type: ignore[arg-type]
    if how == "published once":
        clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value=retained, Type="String")
    if how == "protected":
        Life(clients).answer()
        clients.ec2.enable_image_deregistration_protection(ImageId=retained)
    assert [each for each in by_age(clients) if each.kind in {"image", "snapshot"}] == []


@pytest.mark.incident("snapshots of an image that nobody was shown were taken for leftovers")
def test_the_snapshots_of_a_verified_image_that_is_disabled_stay(clients: Clients) -> None:
    life = Life(clients)
    life.amis[
        image(clients, "zmanim-v1.0.0", [*RUN, {"Key": "zmanim:verified", "Value": cloud.SHA}])
    ].state = "disabled"
    hidden = clients.ec2.describe_images

    def describe(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None if request["body"].get("IncludeDisabled") == "true" else {"Images": []}

    cloud.answer(clients.ec2, "DescribeImages", describe)
    assert hidden(Owners=["self"])["Images"] == []
    assert by_age(clients) == sweep.plan(clients, Scope("7")) == []


@pytest.mark.parametrize("scope", [Scope("7"), Scope("", datetime(2100, 1, 1, tzinfo=UTC))], ids=str)
def test_a_machine_of_another_environment_is_never_ended_whatever_it_is_tagged_with(
    clients: Clients, scope: Scope
) -> None:
    served = image(clients, "zmanim-v1.0.0", OTHER)
    tags = [*RUN, {"Key": "zmanim:environment", "Value": "prod"}]
    launched = clients.ec2.run_instances(
        ImageId=served,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=tagged("instance", tags),  # type: ignore[arg-type]
    )
    assert launched["Instances"][0]["InstanceId"] not in {each.id for each in sweep.plan(clients, scope)}


def test_more_than_was_ever_left_is_refused_by_age_as_well(clients: Clients) -> None:
    for number in range(sweep.LIMIT_BY_AGE + 1):
        clients.ec2.create_key_pair(KeyName=f"k{number}", TagSpecifications=tagged("key-pair", RUN))
    with raises("sweep-too-large"):
        by_age(clients)
