"""EC2 as the local cloud has it, in this process: its changes of moto over a fleet whose machines never boot."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from moto.ec2.models import ec2_backends

from localcloud.api import patches
from localcloud.ec2 import (
    account_settings,
    amis,
    dependencies,
    image_attributes,
    instance_attributes,
    instance_filters,
    instances,
    snapshots,
    volumes,
)
from localcloud.ec2 import fleet as fleets
from localcloud.ec2.images import describing, references
from localcloud.ec2.launch import launches, places, purchases, rules, templates, tokens
from localcloud.faults.injection import Faults
from localcloud.net.network import Interfaces
from localcloud.services import pretended, public_parameters
from localcloud.settings import ACCOUNT, BaseImage, Cloud
from support.waiting import wait_for
from tests.support.localcloud.iam import KEY, REGION, IamLab, iam_lab
from zmanim_ami.pipeline.aws import Clients

BASE = BaseImage("al2023-ami-2023.12.20260930.0-kernel-6.12-arm64", Path("/nowhere"))


class Layers:
    """Which images and snapshots have layers."""

    def __init__(self) -> None:
        self.images: set[str] = set()

    def share(self, image: str, copy: str) -> None:
        if image in self.images or not image.startswith("snap-"):
            self.images |= {image, copy}

    def holds(self, image: str) -> bool:
        return image in self.images

    def forget_image(self, image: str) -> None:
        self.images.discard(image)


class Volumes:
    """What was copied where."""

    def __init__(self) -> None:
        self.copied: list[tuple[str, str]] = []

    def snapshot(self, volume: str, snapshot: str) -> None:
        self.copied.append((volume, snapshot))

    def copy_snapshot(self, snapshot: str, copy: str) -> None:
        self.copied.append((snapshot, copy))

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None


class Fleet:
    """Machines by their addresses alone."""

    def __init__(self) -> None:
        self._numbers = count(10)
        self.calls: list[str] = []
        self._held, self._reached, self._released = "", threading.Event(), threading.Event()
        self.layers: Any = Layers()
        self.volumes: Any = Volumes()

    def create(self, *_: Any) -> Any:
        interface = SimpleNamespace(address=f"10.213.0.{next(self._numbers)}", mac="06:ec:00:00:00:01")
        return SimpleNamespace(spec=SimpleNamespace(interface=interface))

    @contextmanager
    def in_turn(self, _instance_id: str) -> Iterator[None]:
        yield

    def room(self) -> int:
        return 200

    def hold(self, name: str) -> threading.Event:
        """Let the next call of that name wait for `release`; return what is set once it waits."""
        self._held = name
        self._reached.clear()
        self._released.clear()
        return self._reached

    def release(self) -> None:
        self._released.set()

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any, **__: Any) -> None:
            self.calls.append(name)
            if name == self._held:
                self._held = ""
                self._reached.set()
                self._released.wait(20)

        return call


@dataclass(frozen=True)
class Ec2Lab(IamLab):
    """The account, and the fleet that never boots behind it."""

    fleet: Any = None

    def metadata(self, instance: str) -> Any:
        """Return what the metadata service knows of an instance."""
        lookup = importlib.import_module("localcloud.imds.instance_metadata").MetadataLookup(self.fleet)
        return lookup.by_address(self.fleet.instance(instance).spec.interface.address)

    def image(self, name: str) -> Any:
        """Return moto's image of that id."""
        return ec2_backends[ACCOUNT][REGION].amis[name]


def fleet_of_files(directory: Path) -> Any:
    """The cloud's own fleet, whose machines have all that they have before they boot, and never do."""
    fleet: Any = fleets.Fleet(directory, Interfaces(Cloud("default", REGION, directory, 7, KEY)))
    (directory / "layers").mkdir()
    for region in amis.regions():
        fleet.layers.images[amis.base_image_id(BASE.name, region)] = ("base0",)
    fleet.boot = fleet.wait_for_ssh = lambda *_: None
    return fleet


@contextmanager
def ec2_lab(directory: Path, fleet: Any = None) -> Iterator[Ec2Lab]:
    """An account with a base image; moto is as it was when this ends."""
    fleet = fleet or Fleet()
    fleet_of = instances.Instances(fleet, Faults(directory))
    images = (amis, amis.Images(fleet, (BASE,)), image_attributes, describing, references)
    of_account = (snapshots, snapshots.Snapshots(fleet), account_settings, public_parameters, pretended)
    into = launches.Launches(fleet, fleet_of.begin)
    of_launches = (into, purchases, purchases.Purchases(into), places, rules, templates, tokens)
    of_machines = (instances, fleet_of, instance_attributes, instance_attributes.InstanceAttributes(fleet))
    of_volumes = (volumes, volumes.Volumes(fleet), dependencies, instance_filters)
    holders = (*images, *of_account, *of_launches, *of_machines, *of_volumes)
    with iam_lab(directory) as made, pytest.MonkeyPatch.context() as monkey:
        for change in patches.REGISTRY:
            monkey.setattr(change.owner, change.name, getattr(change.owner, change.name, None), raising=False)
        patches.apply(*holders)
        monkey.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "true")  # load_base_images stands for them
        ec2_backends[ACCOUNT].reset()  # moto keeps what other tests have made: now it has the base images
        yield Ec2Lab(made.api, made.directory, fleet=fleet)


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
    instance = launched(ec2, BlockDeviceMappings=mapping)
    made = ec2.create_image(InstanceId=instance, Name=name, NoReboot=True)["ImageId"]
    assert wait_for(lambda: ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "available", 60)
    ec2.terminate_instances(InstanceIds=[instance])
    until_state(ec2, instance, "terminated")
    return str(made)


def described(ec2: Any, instance: str) -> dict[str, Any]:
    """Return what DescribeInstances shows of an instance."""
    shown: dict[str, Any] = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    return shown


def launched(ec2: Any, state: str = "running", **given: Any) -> str:
    """Launch an instance of the base image and return its id once it has a state."""
    request = {"ImageId": base(ec2), "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1, **given}
    instance = str(ec2.run_instances(**request)["Instances"][0]["InstanceId"])
    until_state(ec2, instance, state)
    return instance


def until_state(ec2: Any, instance: str, state: str) -> None:
    """Wait until an instance has a state."""
    assert wait_for(lambda: described(ec2, instance)["State"]["Name"] == state, 60, 0.01)


def delete_default_vpc(ec2: Any) -> None:
    """Take the default VPC of a region away, as an account's owner may."""
    for subnet in ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    for group in ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["SecurityGroups"]:
        if group["GroupName"] != "default":
            ec2.delete_security_group(GroupId=group["GroupId"])
    ec2.delete_vpc(VpcId=vpc["VpcId"])
