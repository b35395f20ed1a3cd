"""EC2 as the local cloud has it, in this process: its changes of moto over a fleet whose machines never boot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from moto.ec2.models import ec2_backends

from localcloud.api import patches
from localcloud.ec2 import amis, image_attributes, instances, launch_rules
from localcloud.faults.injection import Faults
from localcloud.settings import ACCOUNT, BaseImage
from support.waiting import wait_for
from tests.support.localcloud_iam import REGION, IamLab, iam_lab
from zmanim_ami.pipeline.aws import Clients

BASE = BaseImage("al2023-ami-2023.12.20260930.0-kernel-6.12-arm64", Path("/nowhere"))


class Fleet:
    """Machines by their addresses alone."""

    def __init__(self) -> None:
        self._numbers = count(10)
        self.layers: Any = SimpleNamespace(share=lambda *_: None, forget_image=lambda *_: None)

    def create(self, *_: Any) -> Any:
        interface = SimpleNamespace(address=f"10.213.0.{next(self._numbers)}", mac="06:ec:00:00:00:01")
        return SimpleNamespace(spec=SimpleNamespace(interface=interface))

    @contextmanager
    def in_turn(self, _instance_id: str) -> Iterator[None]:
        yield

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None


@contextmanager
def ec2_lab(directory: Path) -> Iterator[IamLab]:
    """An account with a base image; moto is as it was when this ends."""
    fleet: Any = Fleet()
    fleet_of = instances.Instances(fleet, Faults(directory))
    holders = (amis, amis.Images(fleet, (BASE,)), image_attributes, instances, fleet_of, launch_rules)
    with iam_lab(directory) as made, pytest.MonkeyPatch.context() as monkey:
        for change in patches.REGISTRY:
            monkey.setattr(change.owner, change.name, getattr(change.owner, change.name, None), raising=False)
        patches.apply(*holders)
        monkey.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "true")  # load_base_images stands for them
        ec2_backends[ACCOUNT].reset()  # moto keeps what other tests have made: now it has the base images
        yield made


def clients(lab: IamLab, region: str = REGION, credentials: Any = None) -> Clients:
    """Return the pipeline's clients of a region."""
    services = [each.name for each in fields(Clients) if each.name not in {"region", "written"}]
    made = {name: lab.client(name, credentials, region) for name in services}
    return cast(Clients, SimpleNamespace(**made, region=region))


def base(ec2: Any) -> str:
    """Return the base image's id."""
    return str(ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"])


def made_image(ec2: Any, name: str, **root: Any) -> str:
    """Make an image of an instance whose root volume is as `root` says."""
    mapping = [{"DeviceName": "/dev/xvda", "Ebs": root}] if root else []
    launched = ec2.run_instances(
        ImageId=base(ec2), InstanceType="t4g.small", MinCount=1, MaxCount=1, BlockDeviceMappings=mapping
    )["Instances"][0]["InstanceId"]

    def state() -> str:
        shown = ec2.describe_instances(InstanceIds=[launched])["Reservations"][0]["Instances"][0]
        return str(shown["State"]["Name"])

    assert wait_for(lambda: state() == "running", 60)
    made = ec2.create_image(InstanceId=launched, Name=name, NoReboot=True)["ImageId"]
    assert wait_for(lambda: ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "available", 60)
    return str(made)


def delete_default_vpc(ec2: Any) -> None:
    """Take the default VPC of a region away, as an account's owner may."""
    for subnet in ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    ec2.delete_vpc(VpcId=vpc["VpcId"])
