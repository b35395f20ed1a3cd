"""instance.launch: only a verified image, where it fits, with the options that the image is made for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.stages.instances import NEW, OLD, TYPE, World, world
from zmanim_ami.pipeline.account import roles
from zmanim_ami.pipeline.instances.launch import Launched, Wanted, launch
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse


@pytest.fixture
def stage() -> Iterator[World]:
    with world(address=False) as made:
        made.clients.iam.create_instance_profile(InstanceProfileName=roles.name("staging"))
        yield made


def place(stage: World, **options: Any) -> Wanted:
    (subnet,) = stage.clients.ec2.describe_subnets(
        Filters=[{"Name": "availability-zone", "Values": ["eu-west-1a"]}]  # the one of the type's offers
    )["Subnets"]
    (group,) = stage.clients.ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    given: dict[str, Any] = {
        "environment": "staging",
        "instance_type": TYPE,
        "subnet_id": subnet["SubnetId"],
        **options,
    }
    return Wanted(**{"security_group_ids": (group["GroupId"],), **given})


def started(stage: World, wanted: Wanted, version: str = NEW, **options: Any) -> Launched | Plan:
    chosen = parse(version) if version else None
    return launch(stage.clients, Settings(), wanted, poller=stage.poller, version=chosen, **options)


def test_it_is_launched_as_the_image_wants_it(stage: World) -> None:
    asked: list[Mapping[str, object]] = []
    cloud.answer(stage.clients.ec2, "RunInstances", lambda request: asked.append(request["body"]))
    result = started(stage, place(stage), wait=True)
    assert isinstance(result, Launched)
    assert result.seconds is not None
    (body,) = asked
    assert body["MetadataOptions.HttpTokens"] == "required"
    assert body["MetadataOptions.InstanceMetadataTags"] == "enabled"
    assert body["MetadataOptions.HttpPutResponseHopLimit"] == 1
    assert body["IamInstanceProfile.Name"] == "zmanim-staging-instance"
    assert body["NetworkInterface.1.AssociatePublicIpAddress"] == "true"
    assert body["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "false"
    assert body["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    assert stage.tags(result.instance_id) == {
        "Name": "zmanim-staging",
        "zmanim:environment": "staging",
        "zmanim:data-volume": "new",
    }


def test_with_a_volume_that_is_there_it_consents_to_no_blank_one(stage: World) -> None:
    volume = stage.clients.ec2.create_volume(Size=9, AvailabilityZone="eu-west-1a")["VolumeId"]
    result = started(stage, place(stage, volume=volume))
    assert isinstance(result, Launched)
    assert stage.data_volume(result.instance_id) == volume
    assert "zmanim:data-volume" not in stage.tags(result.instance_id)


def test_without_a_version_it_is_the_published_one(stage: World) -> None:
    with raises("nothing-published"):
        started(stage, place(stage), version="")
    stage.clients.ssm.put_parameter(Name="/zmanim/prod/ami-version", Value=OLD, Type="String")
    result = started(stage, place(stage), version="")
    assert isinstance(result, Launched)
    assert (result.version, result.ami_id) == (OLD, stage.images[OLD])


def _unverify(stage: World) -> None:
    stage.clients.ec2.delete_tags(Resources=[stage.images[NEW]], Tags=[{"Key": "zmanim:verified"}])


def _forge(stage: World) -> None:
    tag: Any = {"Key": "zmanim:verified", "Value": "ab" * 32}
    stage.clients.ec2.create_tags(Resources=[stage.images[NEW]], Tags=[tag])


@pytest.mark.incident("an image that nobody had verified was launched by hand, and served")
@pytest.mark.parametrize("prepare", [_unverify, _forge])
def test_an_image_that_nobody_vouches_for_is_not_launched(stage: World, prepare: Callable[[World], None]) -> None:
    prepare(stage)
    with raises("not-attested"):
        started(stage, place(stage))
    assert cloud.alive(stage.clients) == [stage.old]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"subnet_id": ""}, "subnet-unknown"),
        ({"subnet_id": "subnet-0123456789abcdef0"}, "subnet-unknown"),
        ({"instance_type": "m5.large"}, "type-unfit"),
        ({"instance_type": "m7g.enormous"}, "type-unfit"),
        ({"address": "elastic"}, "address-unknown"),
        ({"volume": "vol-0123456789abcdef0"}, "volume-unfit"),
        ({"environment": "prod"}, "environment-has-one"),
        ({"security_group_ids": ()}, "security-group-missing"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_launched(
    stage: World, options: Mapping[str, Any], code: str
) -> None:
    with raises(code):
        started(stage, place(stage, **options))
    assert cloud.alive(stage.clients) == [stage.old]


def test_a_volume_that_an_instance_has_is_not_taken_from_it(stage: World) -> None:
    with raises("volume-unfit", match="in-use"):
        started(stage, place(stage, volume=stage.volume))


def test_an_instance_that_is_not_ready_is_an_error_with_the_reason_and_stays(stage: World) -> None:
    stage.broken = {NEW}
    with raises("not-ready", match="api: it does not answer"):
        started(stage, place(stage), wait=True)
    assert len(cloud.alive(stage.clients)) == 2


def test_a_dry_run_shows_the_plan_and_launches_nothing(stage: World) -> None:
    plan = started(stage, place(stage, environment="prod", another=True), dry=True)
    assert isinstance(plan, Plan)
    assert [each.action for each in plan.steps] == ["launch", "create"]
    assert cloud.alive(stage.clients) == [stage.old]
