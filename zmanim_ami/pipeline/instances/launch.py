"""instance.launch: an instance of a verified image, with the options that the image is made for (docs/on-aws.md)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.errors import BadInput
from support.progress import say
from zmanim_ami.pipeline import attestation, aws, instance, launching, volumes
from zmanim_ami.pipeline.account import roles
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.images.advisories import published
from zmanim_ami.pipeline.instances import rules
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version

# How an instance gets a public address: one, none, or as its subnet has it.
ADDRESSES: Mapping[str, bool | None] = {"public": True, "private": False, "subnet": None}
_FIX = "choose another --instance-type or --subnet, or have the limit raised"


@dataclass(frozen=True)
class Wanted:
    """What a person chooses of a launch: `address` is one of ADDRESSES.

    `volume` is the id of a data volume that is there, empty for a new one of `volume_gib`. `another` lets an
    environment have a second instance.
    """

    environment: str
    instance_type: str
    subnet_id: str
    security_group_ids: tuple[str, ...]
    address: str = "public"
    volume: str = ""
    volume_gib: int = 20
    another: bool = False


@dataclass(frozen=True)
class Launched:
    """An instance that was launched; `seconds` later it was ready, None where nobody waited for that."""

    instance_id: str
    version: str
    ami_id: str
    environment: str
    seconds: float | None


def trusted_image(clients: aws.Clients, settings: Settings, version: Version | None) -> image.Image:
    """Return the image of a version, or the published one, if its verification is vouched for.

    Raises `nothing-published`, image's errors, `image-not-available`, `not-attested`, aws's errors.
    """
    ami = image.find(clients, version or published(clients, settings), "")
    rules.check_available(ami)
    attestation.check(clients, ami)
    return ami


def launch(
    clients: aws.Clients,
    settings: Settings,
    wanted: Wanted,
    *,
    poller: aws.Poller,
    version: Version | None = None,
    wait: bool = False,
    dry: bool = False,
) -> Launched | Plan:
    """Launch an instance of a version's image, or the published one's; with `wait` until it says that it serves.

    What was launched stays, whatever comes after.

    Raises `address-unknown`, `security-group-missing`, `environment-has-one`, as `trusted_image` does, `type-unfit`,
    `volume-unfit`, `not-launched`, `account-not-prepared`, instance.NotReady, aws's errors.
    """
    if wanted.address not in ADDRESSES:
        raise BadInput(
            f"{wanted.address!r} is no kind of address",
            code="address-unknown",
            expected=", ".join(ADDRESSES),
            found=wanted.address,
        )
    if not wanted.security_group_ids:
        raise BadInput(
            "nobody says who may reach the instance",
            code="security-group-missing",
            expected="--security-group: without one the VPC's default group is worn, which lets in who else wears it",
            found="none given",
            fix="aws ec2 describe-security-groups lists them",
        )
    ami = trusted_image(clients, settings, version)
    zone = rules.zone_of(clients, wanted.subnet_id)
    rules.check_type(clients, ami, wanted.instance_type, zone)
    if wanted.volume:
        rules.check_volume(clients, wanted.volume, zone)
    if not wanted.another:
        _check_alone(clients, wanted.environment)
    if dry:
        return _plan(wanted, ami)
    began = poller.clock()
    order = _order(wanted, ami)
    instance_id = launching.run_instance(clients, order, poller, fix=_FIX)
    say(f"launched {instance_id} ({wanted.instance_type}, {ami.version}) in {wanted.environment}")
    if wanted.volume:
        volumes.attach(clients, wanted.volume, instance_id, poller)
    if not wait:
        return Launched(instance_id, ami.version, ami.ami_id, wanted.environment, None)
    machine = instance.Machine(instance_id, began)
    ready = rules.wait_until_ready(clients, machine, settings.boot_timeout, poller)
    return Launched(instance_id, ami.version, ami.ami_id, wanted.environment, ready.seconds)


def options(subnet_id: str, group_ids: tuple[str, ...], public: bool | None) -> dict[str, Any]:
    """Return the parameters of RunInstances that say where an instance is; `public` None leaves that to the subnet."""
    interface: dict[str, Any] = {"DeviceIndex": 0, "SubnetId": subnet_id, "Groups": list(group_ids)}
    if public is not None:
        interface["AssociatePublicIpAddress"] = public
    # A shutdown by itself is no end: its disk, and what it says on it, are still there to be read.
    return {"NetworkInterfaces": [interface], "InstanceInitiatedShutdownBehavior": "stop"}


def _order(wanted: Wanted, ami: image.Image) -> launching.Order:
    tags = {"Name": f"zmanim-{wanted.environment}", instance.ENVIRONMENT_TAG: wanted.environment}
    given = options(wanted.subnet_id, wanted.security_group_ids, ADDRESSES[wanted.address])
    if not wanted.volume:
        tags[instance.DATA_VOLUME_TAG] = "new"
        ebs = {"VolumeSize": wanted.volume_gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": False}
        given["BlockDeviceMappings"] = [{"DeviceName": instance.DATA_DEVICE, "Ebs": ebs}]
    return launching.Order(
        ami_id=ami.ami_id,
        instance_type=wanted.instance_type,
        environment=wanted.environment,
        token=uuid.uuid4().hex,
        tags=tags,
        volume_tags={"Name": f"zmanim-{wanted.environment}", instance.ENVIRONMENT_TAG: wanted.environment},
        options=given,
    )


def _check_alone(clients: aws.Clients, environment: str) -> None:
    with aws.translate_errors(f"looking for instances of {environment}"):
        filters = {f"tag:{instance.ENVIRONMENT_TAG}": [environment], "instance-state-name": ["pending", "running"]}
        there = [each["InstanceId"] for each in aws.instances(clients, filters)]
    if there:
        raise BadInput(
            f"{environment} has an instance",
            code="environment-has-one",
            expected="none: two of them share no database, and are one environment's backups",
            found=", ".join(there),
            fix="instance.swap puts a new one in its place; --another launches one beside it",
        )


def _plan(wanted: Wanted, ami: image.Image) -> Plan:
    volume = (
        Step("attach", wanted.volume, "as soon as it runs, which it waits 90 s for")
        if wanted.volume
        else Step("create", f"a data volume of {wanted.volume_gib} GiB", "encrypted, and kept when the instance ends")
    )
    where = f"in {wanted.subnet_id} with {', '.join(wanted.security_group_ids)}, the profile of {wanted.environment}"
    profile = f"{where} ({roles.name(wanted.environment)}), address: {wanted.address}"
    return Plan((Step("launch", f"{wanted.instance_type} of {ami.ami_id} ({ami.version})", profile), volume))
