"""The role of the people who run an environment's instances: what it can't do."""

from __future__ import annotations

from typing import Any

import pytest
from moto.ec2.models import ec2_backends

from localcloud.settings import ACCOUNT
from tests.support.localcloud.iam import REGION, IamLab, refused
from tests.unit.infrastructure.iam.test_policies import DENIED
from zmanim_ami.pipeline.account import roles

ROLE = roles.operate_name("prod")


def tags(kind: str, **values: str) -> list[dict[str, Any]]:
    listed = [{"Key": f"zmanim:{name.replace('_', '-')}", "Value": value} for name, value in values.items()]
    return [{"ResourceType": kind, "Tags": listed}]


@pytest.fixture
def verified(lab: IamLab, image: str) -> str:
    """An image of the account that carries the tag of a verification."""
    ec2 = lab.client("ec2")
    (instance,) = ec2.run_instances(ImageId=image, InstanceType="m7g.medium", MinCount=1, MaxCount=1)["Instances"]
    made: str = ec2.create_image(
        InstanceId=instance["InstanceId"],
        Name=f"verified-{instance['InstanceId']}",
        TagSpecifications=tags("image", verified="ab" * 32),
    )["ImageId"]
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    return made


def test_operators_launch_only_images_of_this_account_that_were_verified_and_only_in_their_environment(
    lab: IamLab, image: str, verified: str
) -> None:
    ec2 = lab.client("ec2", lab.session(ROLE))
    profile = {"Name": roles.name("prod")}
    launch = {"InstanceType": "m7g.medium", "MinCount": 1, "MaxCount": 1, "IamInstanceProfile": profile}
    own, other = tags("instance", environment="prod"), tags("instance", environment="verify")
    assert refused(ec2.run_instances, **launch, ImageId=image, TagSpecifications=own) == DENIED
    assert refused(ec2.run_instances, **launch, ImageId=verified, TagSpecifications=other) == DENIED
    theirs = {**launch, "IamInstanceProfile": {"Name": roles.name("verify")}}
    assert refused(ec2.run_instances, **theirs, ImageId=verified, TagSpecifications=own) == DENIED
    owner = lab.client("ec2")
    shared = owner.register_image(Name="shared-by-others", RootDeviceName="/dev/xvda")["ImageId"]
    owner.create_tags(Resources=[shared], Tags=tags("image", verified="ab" * 32)[0]["Tags"])
    ec2_backends[ACCOUNT][REGION].amis[shared].owner_id = "210987654321"
    assert refused(ec2.run_instances, **launch, ImageId=shared, TagSpecifications=own) == DENIED
    assert ec2.run_instances(**launch, ImageId=verified, TagSpecifications=own)["Instances"]
    assert refused(ec2.create_tags, Resources=[image], Tags=tags("image", verified="ab" * 32)[0]["Tags"]) == DENIED


def test_operators_end_only_what_a_swap_launched_and_make_nothing_else_look_like_that(lab: IamLab, image: str) -> None:
    owner, ec2 = lab.client("ec2"), lab.client("ec2", lab.session(ROLE))

    def launched(**values: str) -> str:
        made = owner.run_instances(
            ImageId=image,
            InstanceType="m7g.medium",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=tags("instance", **values),
        )
        return str(made["Instances"][0]["InstanceId"])

    serving, new, elsewhere = (
        launched(environment="prod"),
        launched(environment="prod", swap="ab"),
        launched(environment="verify", swap="ab"),
    )
    for instance in (serving, elsewhere):
        assert refused(ec2.terminate_instances, InstanceIds=[instance]) == DENIED
        mark = [{"Key": "zmanim:swap", "Value": "ab"}]
        assert refused(ec2.create_tags, Resources=[instance], Tags=mark) == DENIED
    assert refused(ec2.stop_instances, InstanceIds=[elsewhere]) == DENIED
    assert refused(ec2.delete_tags, Resources=[elsewhere], Tags=[{"Key": "zmanim:environment"}]) == DENIED
    assert refused(ec2.delete_tags, Resources=[serving], Tags=[{"Key": "zmanim:environment"}]) == DENIED
    assert ec2.terminate_instances(InstanceIds=[new])["TerminatingInstances"]
    owner.terminate_instances(InstanceIds=[serving, elsewhere])


def test_operators_ask_machines_of_their_environment_only_read_no_secret_and_publish_nothing(
    lab: IamLab, image: str
) -> None:
    owner = lab.client("ec2")
    made = owner.run_instances(
        ImageId=image,
        InstanceType="m7g.medium",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=tags("instance", environment="verify"),
    )
    other = made["Instances"][0]["InstanceId"]
    ssm = lab.client("ssm", lab.session(ROLE))
    command = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["id"]}}
    assert refused(ssm.send_command, **command, InstanceIds=[other]) == "AccessDeniedException"
    assert refused(ssm.get_parameter, Name="/zmanim/prod/jwt-secret") == "AccessDeniedException"
    put = {"Name": "/zmanim/prod/ami-id", "Value": image, "Type": "String", "Overwrite": True}
    assert refused(ssm.put_parameter, **put) == "AccessDeniedException"
    kms = lab.client("kms", lab.session(ROLE))
    sign = {"KeyId": "alias/zmanim-verification", "Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256"}
    assert refused(kms.sign, **sign) == "AccessDeniedException"
    owner.terminate_instances(InstanceIds=[other])


def test_nobody_is_an_operator_but_whom_the_account_lets(lab: IamLab) -> None:
    request = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}", "RoleSessionName": "a-session"}
    instance = lab.client("sts", lab.session_of_instance(roles.name("prod")))
    assert refused(instance.assume_role, **request) == "AccessDenied"
