"""Who uses an image, asked of everybody who knows."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from tests.support.image_life import HERE, Life, two_regions
from zmanim_ami.pipeline.images import usage

PREFIX = "/zmanim/prod"


@pytest.fixture
def life() -> Iterator[Life]:
    with two_regions() as (here, _):
        yield here


def users(life: Life, ami_id: str) -> tuple[str, ...]:
    found = usage.look(life.clients, [ami_id], PREFIX)
    assert found.unknown == ()
    return found.of(ami_id)


def test_nobody_uses_an_image_that_nobody_names(life: Life) -> None:
    assert users(life, life.image()) == ()


def test_an_instance_uses_it_until_it_is_terminated_whatever_it_does_meanwhile(life: Life) -> None:
    ami_id, ec2 = life.image(), life.clients.ec2
    instance = ec2.run_instances(ImageId=ami_id, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    assert users(life, ami_id) == (f"instance {instance}",)
    ec2.stop_instances(InstanceIds=[instance])
    assert users(life, ami_id) == (f"instance {instance}",)
    ec2.terminate_instances(InstanceIds=[instance])
    assert users(life, ami_id) == ()


@pytest.mark.incident("a launch template's older version named an image that was deregistered")
def test_every_version_of_a_launch_template_uses_its_image(life: Life) -> None:
    older, newer, ec2 = life.image("v1.0.0"), life.image("v1.1.0"), life.clients.ec2
    ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData={"ImageId": older})
    ec2.create_launch_template_version(LaunchTemplateName="web", LaunchTemplateData={"ImageId": newer})
    assert users(life, older) == users(life, newer) == ("launch template web",)


def test_a_launch_template_that_names_our_own_pointer_uses_nothing_by_that(life: Life) -> None:
    ami_id, ec2 = life.image(), life.clients.ec2
    data = {"ImageId": f"resolve:ssm:{PREFIX}/ami-id"}
    ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)  # type: ignore[arg-type]
    assert users(life, ami_id) == ()


def test_a_launch_configuration_of_auto_scaling_uses_its_image(life: Life) -> None:
    ami_id = life.image()
    scaling = boto3.client("autoscaling", region_name=HERE)
    scaling.create_launch_configuration(LaunchConfigurationName="old", ImageId=ami_id, InstanceType="m7g.medium")
    assert users(life, ami_id) == ("auto scaling's old",)


def test_what_aws_itself_knows_of_uses_it_but_for_our_own_parameters(life: Life) -> None:
    ami_id = life.image()
    own = f"arn:aws:ssm:{HERE}:123456789012:parameter{PREFIX}/ami-id"
    other = f"arn:aws:ssm:{HERE}:123456789012:parameter/somebody/ami"
    life.references[ami_id] = [own, f"arn:aws:ec2:{HERE}:123456789012:instance/i-0terminated"]
    assert users(life, ami_id) == ()
    life.references[ami_id] = [own, other]
    assert users(life, ami_id) == (other,)


def test_more_images_than_one_question_takes_are_asked_about_in_several(life: Life) -> None:
    made = [life.image(f"v1.{number}.0") for number in range(23)]
    life.references[made[22]] = ["arn:aws:imagebuilder:x"]
    found = usage.look(life.clients, made, PREFIX)
    assert found.unknown == ()
    assert found.users == {made[22]: ("arn:aws:imagebuilder:x",)}
