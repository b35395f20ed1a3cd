"""sweep: take away what a run left behind, found by its tag zmanim:run, and nothing else.

A build and a verification clean up behind themselves. What is left here is what was left when even that could not run:
a cancelled job, a lost runner. A verified image is never taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import botocore.exceptions

from support.errors import BadInput, Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami.image import PROJECT_TAG, VERIFIED_TAG
from zmanim_ami.pipeline.aws import Clients, Pace

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef

# One run makes two instances with their volumes and one image: whatever finds more than this has found something else.
LIMIT = 30
_ENDING_SECONDS = 300.0
_ALIVE = ("pending", "running", "stopping", "stopped")


@dataclass(frozen=True)
class Leftover:
    """One thing to take away, and why."""

    kind: str
    id: str
    reason: str


def plan(clients: Clients, run: str) -> list[Leftover]:
    """Return what carries the tag of `run`, in the order in which it can be taken away; changes nothing.

    Raises `sweep-too-large`, aws's faults.
    """
    with aws.translate_errors(f"looking for what run {run} left"):
        found = [*_instances(clients, run), *_volumes(clients, run), *_images(clients, run), *_groups(clients, run)]
        found += _key_pairs(clients, run)
    if len(found) > LIMIT:
        raise BadInput(
            f"run {run} seems to have left {len(found)} things",
            code="sweep-too-large",
            expected=f"at most {LIMIT}",
            found=", ".join(f"{each.kind} {each.id}" for each in found[:LIMIT]) + ", …",
            fix="look whether the tag is on what it should be on; take away by hand what is surely left over",
        )
    return found


def apply(clients: Clients, found: Sequence[Leftover], pace: Pace) -> None:
    """Take away what was planned, saying each; what is gone already is no error.

    Raises `not-ended` when an instance does not end, aws's faults. What was taken stays taken: sweep again.
    """
    instances = [each.id for each in found if each.kind == "instance"]
    for each in found:
        if each.kind != "instance" and instances:
            _wait_until_ended(clients, instances, pace)
            instances = []
        say(f"taking {each.kind} {each.id} away ({each.reason})")
        with aws.translate_errors(f"taking {each.kind} {each.id} away"):
            try:
                _take(clients, each)
            except botocore.exceptions.ClientError as error:
                if not aws.error_code(error).endswith((".NotFound", ".Unavailable")):
                    raise
    if instances:
        _wait_until_ended(clients, instances, pace)


def _tagged(run: str) -> FilterTypeDef:
    return {"Name": f"tag:{PROJECT_TAG}", "Values": [run]}


def _instances(clients: Clients, run: str) -> Iterator[Leftover]:
    alive: FilterTypeDef = {"Name": "instance-state-name", "Values": list(_ALIVE)}
    pages = clients.ec2.get_paginator("describe_instances").paginate(Filters=[_tagged(run), alive])
    for page in pages:
        for instance in (each for item in page["Reservations"] for each in item["Instances"]):
            identifier = instance["InstanceId"]
            reason = f"it is {instance['State'].get('Name')}"
            yield Leftover("instance", identifier, reason)


def _volumes(clients: Clients, run: str) -> Iterator[Leftover]:
    pages = clients.ec2.get_paginator("describe_volumes").paginate(Filters=[_tagged(run)])
    for page in pages:
        for volume in page["Volumes"]:
            identifier = volume["VolumeId"]
            # One that goes with its instance is gone by the time that it is asked for: no error.
            reason = f"it is {volume.get('State')}"
            yield Leftover("volume", identifier, reason)


def _images(clients: Clients, run: str) -> Iterator[Leftover]:
    images = clients.ec2.describe_images(Owners=["self"], Filters=[_tagged(run)])["Images"]
    kept: set[str] = set()
    for image in images:
        if any(tag.get("Key") == VERIFIED_TAG for tag in image.get("Tags", [])):
            kept |= set(_snapshots_of(image))
            continue
        identifier = image.get("ImageId", "")
        yield Leftover("image", identifier, f"{image.get('Name')} was not verified")
    pages = clients.ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=[_tagged(run)])
    for snapshot in (each for page in pages for each in page["Snapshots"]):
        identifier = snapshot["SnapshotId"]
        if identifier not in kept:
            yield Leftover("snapshot", identifier, "no verified image needs it")


def _snapshots_of(image: ImageTypeDef) -> list[str]:
    return [mapping.get("Ebs", {}).get("SnapshotId", "") for mapping in image.get("BlockDeviceMappings", [])]


def _groups(clients: Clients, run: str) -> Iterator[Leftover]:
    for group in clients.ec2.describe_security_groups(Filters=[_tagged(run)])["SecurityGroups"]:
        identifier = group["GroupId"]
        yield Leftover("security group", identifier, f"{group['GroupName']} was a builder's")


def _key_pairs(clients: Clients, run: str) -> Iterator[Leftover]:
    for pair in clients.ec2.describe_key_pairs(Filters=[_tagged(run)])["KeyPairs"]:
        name = pair.get("KeyName", "")
        yield Leftover("key pair", name, "it was a builder's")


def _take(clients: Clients, leftover: Leftover) -> None:
    ec2, identifier = clients.ec2, leftover.id
    match leftover.kind:
        case "instance":
            ec2.terminate_instances(InstanceIds=[identifier])
        case "volume":
            ec2.delete_volume(VolumeId=identifier)
        case "image":
            ec2.deregister_image(ImageId=identifier)
        case "snapshot":
            ec2.delete_snapshot(SnapshotId=identifier)
        case "security group":
            ec2.delete_security_group(GroupId=identifier)
        case "key pair":
            ec2.delete_key_pair(KeyName=identifier)
        case kind:
            raise AssertionError(kind)


def _wait_until_ended(clients: Clients, instances: Sequence[str], pace: Pace) -> None:
    """Wait until instances are gone: until then their volumes and security groups can't go."""

    def look() -> bool | None:
        pages = clients.ec2.get_paginator("describe_instances").paginate(
            Filters=[
                {"Name": "instance-id", "Values": list(instances)},
                {"Name": "instance-state-name", "Values": [*_ALIVE, "shutting-down"]},
            ]
        )
        return None if any(page["Reservations"] for page in pages) else True

    with aws.translate_errors(f"waiting until {', '.join(instances)} end"):
        if pace.until(look, _ENDING_SECONDS) is None:
            raise Error(
                f"{', '.join(instances)} did not end within {_ENDING_SECONDS:.0f} s",
                code="not-ended",
                expected="state terminated",
                found="still there",
                fix="sweep again in some minutes",
            )
