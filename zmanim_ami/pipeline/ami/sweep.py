"""sweep: take away what a run left behind, found by its tag zmanim:run, and nothing else.

A build and a verification clean up behind themselves. What is left here is what was left when even that could not run:
a cancelled job, a lost runner. A verified image is never taken, and one that a build finished can be kept for the
verification that is run again; what stays keeps its copies in other regions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from support.errors import BadInput, Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami.distribution import COPY_OF_TAG
from zmanim_ami.pipeline.ami.image import PROJECT_TAG, VERIFIED_TAG, Image, as_image

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

# One run makes two instances with their volumes and one image: whatever finds more than this has found something else.
LIMIT = 30
_ENDING_SECONDS = 300.0


@dataclass(frozen=True)
class Leftover:
    """One thing to take away, and why; `take` does it."""

    kind: str
    id: str
    reason: str
    take: Callable[[], object] = field(repr=False, compare=False)


def plan(
    clients: aws.Clients, run: str, elsewhere: Sequence[aws.Clients] = (), *, keep_image: bool = False
) -> list[Leftover]:
    """Return what carries the tag of `run`, in the order in which it can be taken away; changes nothing.

    `elsewhere` are the clients of the regions that images are copied to. With `keep_image` an image that is available
    stays, verified or not, and its snapshots and copies with it.

    Raises `sweep-too-large`, aws's errors.
    """
    with aws.translate_errors(f"looking for what run {run} left"):
        leftovers = list(_leftovers(clients, run, elsewhere, keep_image=keep_image))
    if len(leftovers) > LIMIT:
        raise BadInput(
            f"run {run} seems to have left {len(leftovers)} things",
            code="sweep-too-large",
            expected=f"at most {LIMIT}",
            found=", ".join(f"{each.kind} {each.id}" for each in leftovers[:LIMIT]) + ", …",
            fix="look whether the tag is on what it should be on; take away by hand what is surely left over",
        )
    return leftovers


def apply(clients: aws.Clients, leftovers: Sequence[Leftover], poller: aws.Poller) -> None:
    """Take away what was planned, saying each; what is gone already is no error.

    Raises `not-ended` when an instance does not end, aws's errors. What was taken stays taken: sweep again.
    """
    instances = [each for each in leftovers if each.kind == "instance"]
    _take(instances)
    if instances:
        _wait_until_ended(clients, [each.id for each in instances], poller)
    _take([each for each in leftovers if each.kind != "instance"])


def _leftovers(
    clients: aws.Clients, run: str, elsewhere: Sequence[aws.Clients], *, keep_image: bool
) -> Iterator[Leftover]:
    ec2 = clients.ec2
    mine: list[FilterTypeDef] = [{"Name": f"tag:{PROJECT_TAG}", "Values": [run]}]
    for instance in aws.instances(clients, {f"tag:{PROJECT_TAG}": [run], "instance-state-name": aws.ALIVE}):
        name, state = instance["InstanceId"], instance["State"].get("Name")
        yield Leftover("instance", name, f"it is {state}", partial(ec2.terminate_instances, InstanceIds=[name]))
    # One that goes with its instance is gone by the time that it is asked for: no error.
    for volume in ec2.get_paginator("describe_volumes").paginate(Filters=mine).search("Volumes[]"):
        name, state = volume["VolumeId"], volume["State"]
        yield Leftover("volume", name, f"it is {state}", partial(ec2.delete_volume, VolumeId=name))
    kept: set[str] = set()

    def stays(image: Image) -> bool:
        if VERIFIED_TAG in image.tags:
            return True
        if keep_image and image.state == "available":
            kept.add(image.ami_id)
            say(f"keeping {image.ami_id} for a verification that is run again: {image.name} is not verified yet")
            say(f"  without one: ./inv sweep --run {run} --apply takes it away")
            return True
        return False

    yield from _images(clients, mine, stays)
    verified: list[FilterTypeDef] = [{"Name": "tag-key", "Values": [VERIFIED_TAG]}]
    if elsewhere:
        kept |= {one.get("ImageId", "") for one in ec2.describe_images(Owners=["self"], Filters=verified)["Images"]}
    for region in elsewhere:
        yield from _images(region, mine, lambda image: image.tags.get(COPY_OF_TAG) in kept)
    for group in ec2.describe_security_groups(Filters=mine)["SecurityGroups"]:
        reason, delete_group = f"{group['GroupName']} was a builder's", ec2.delete_security_group
        yield Leftover("security group", group["GroupId"], reason, partial(delete_group, GroupId=group["GroupId"]))
    for pair in ec2.describe_key_pairs(Filters=mine)["KeyPairs"]:
        name = pair.get("KeyName", "")
        yield Leftover("key pair", name, "it was a builder's", partial(ec2.delete_key_pair, KeyName=name))


def _images(clients: aws.Clients, mine: Sequence[FilterTypeDef], stays: Callable[[Image], bool]) -> Iterator[Leftover]:
    """Yield the images that do not stay, and the snapshots that none of the others has."""
    ec2, kept = clients.ec2, set[str]()
    for image in map(as_image, ec2.describe_images(Owners=["self"], Filters=mine)["Images"]):
        if stays(image):
            kept |= set(image.snapshots)
        else:
            deregister = partial(ec2.deregister_image, ImageId=image.ami_id)
            yield Leftover("image", image.ami_id, f"{image.name} in {clients.region} was not verified", deregister)
    snapshots = ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=mine)
    for name in snapshots.search("Snapshots[].SnapshotId"):
        if name not in kept:
            delete = partial(ec2.delete_snapshot, SnapshotId=name)
            yield Leftover("snapshot", name, "no image that stays needs it", delete)


def _take(leftovers: Sequence[Leftover]) -> None:
    for each in leftovers:
        say(f"taking {each.kind} {each.id} away ({each.reason})")
        with aws.translate_errors(f"taking {each.kind} {each.id} away"), aws.ignoring(".NotFound", ".Unavailable"):
            each.take()


def _wait_until_ended(clients: aws.Clients, instance_ids: Sequence[str], poller: aws.Poller) -> None:
    """Wait until instances are gone: until then their volumes and security groups can't go."""
    names = ", ".join(instance_ids)

    def ended() -> bool | None:
        states = [*aws.ALIVE, "shutting-down"]
        return not aws.instances(clients, {"instance-id": instance_ids, "instance-state-name": states}) or None

    with aws.translate_errors(f"waiting until {names} end"):
        poller.wait_for(
            ended,
            _ENDING_SECONDS,
            lambda: Error(
                f"{names} did not end within {_ENDING_SECONDS:.0f} s",
                code="not-ended",
                expected="state terminated",
                found="still there",
                fix="sweep again in some minutes",
            ),
        )
