"""EC2 as the local cloud has it, in this process: its changes of moto over a fleet whose machines never boot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localcloud.api import patches
from localcloud.ec2 import amis, image_attributes, instances, launch_rules
from localcloud.settings import BaseImage
from support.waiting import wait_for
from tests.support.localcloud_iam import IamLab, iam_lab

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


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    """An account with a base image; moto is as it was when the test has ended."""
    fleet: Any = Fleet()
    holders = (amis, amis.Images(fleet, (BASE,)), image_attributes, instances, instances.Instances(fleet), launch_rules)
    with iam_lab(tmp_path) as made, pytest.MonkeyPatch.context() as monkey:
        for change in patches.REGISTRY:
            monkey.setattr(change.owner, change.name, getattr(change.owner, change.name, None), raising=False)
        patches.apply(*holders)
        monkey.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "true")  # load_base_images stands for them
        yield made


@pytest.fixture
def image(lab: IamLab) -> str:
    """An image of the account's own, unencrypted, in eu-west-1."""
    ec2 = lab.client("ec2")
    return str(made_image(ec2, "own"))


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
