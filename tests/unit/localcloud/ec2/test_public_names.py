"""What AWS offers everybody: parameters that name images, and keys for an SSH session."""

from __future__ import annotations

from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, base

PATH = "/aws/service/ami-amazon-linux-latest"


def test_public_parameters_name_images_that_are_here(lab: Ec2Lab) -> None:
    for region in ("eu-west-1", "us-west-2"):
        ssm, ec2 = lab.client("ssm", region=region), lab.client("ec2", region=region)
        found = ssm.get_parameters_by_path(Path=PATH)["Parameters"]
        assert {each["Name"]: each["Value"] for each in found} == {
            f"{PATH}/al2023-ami-kernel-6.12-arm64": base(ec2),
            f"{PATH}/al2023-ami-kernel-default-arm64": base(ec2),
        }
        assert ssm.get_parameter(Name=f"{PATH}/al2023-ami-kernel-default-arm64")["Parameter"]["Value"] == base(ec2)
    ecs = "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended"
    assert refused(lab.client("ssm").get_parameter, Name=ecs) == "ParameterNotFound"
    assert lab.client("ssm").get_parameters_by_path(Path="/aws/service/global-infrastructure/regions")["Parameters"]


def test_a_key_for_an_ssh_session_is_refused_for_nothing_would_take_it(lab: Ec2Lab) -> None:
    connect = lab.client("ec2-instance-connect")
    given = {
        "InstanceId": "i-0123456789abcdef0",
        "InstanceOSUser": "ec2-user",
        "SSHPublicKey": "ssh-ed25519 " + "A" * 256,
    }
    assert refused(connect.send_ssh_public_key, **given) == "UnsupportedOperation"
