"""sweep: take away what a run left behind, found by its tag zmanim:run, and nothing else.

A build and a verification clean up behind themselves. What is left here is what was left when even that could not run:
a cancelled job, a lost runner. It is looked for by the run, or by age, whichever run it was. A verified image is never
taken (image.retire does that), nor one that is protected because it was published; one that a build finished can be
kept for the verification that is run again; what stays keeps its copies in other regions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from support.errors import BadInput, Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami.distribution import COPY_OF_TAG
from zmanim_ami.pipeline.ami.image import PROJECT_TAG, VERIFIED_TAG, Image, as_image, was_published

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagTypeDef

# One run makes two instances with their volumes and one image: whatever finds more than this has found something else.
LIMIT = 30
# And of all runs that were ever cut short, since the last sweep by age.
LIMIT_BY_AGE = 100
_ENDING_SECONDS = 300.0
# Which environment an instance is of; a builder has none.
_ENVIRONMENT_TAG = "zmanim:environment"
_SWEPT = {"", "verify"}


@dataclass(frozen=True)
class Leftover:
    """One thing to take away, and why; `take` does it."""

    kind: str
    id: str
    reason: str
    take: Callable[[], object] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Scope:
    """What is looked at: what the run `run` left, or what whichever run made `before` a time.

    By age, `prefix` is the setting parameter_prefix: what was published stays.
    """

    run: str = ""
    before: datetime | None = None
    prefix: str = ""

    def __str__(self) -> str:
        return f"run {self.run}" if self.run else f"every run before {self.before:%Y-%m-%d}"

    @property
    def tag(self) -> tuple[str, list[str]]:
        """The filter that finds it: its name and values."""
        return (f"tag:{PROJECT_TAG}", [self.run]) if self.run else ("tag-key", [PROJECT_TAG])

    @property
    def filters(self) -> list[FilterTypeDef]:
        """The filter as most operations take it."""
        name, values = self.tag
        return [{"Name": name, "Values": values}]

    def old(self, made: datetime | str | None) -> bool:
        """Whether what was made then is looked at; of a run, all is. Nobody knows the age of what has no time."""
        if self.before is None:
            return True
        if isinstance(made, str):
            made = datetime.fromisoformat(made) if made else None
        return made is not None and made.astimezone(UTC) < self.before


def plan(
    clients: aws.Clients, scope: Scope, elsewhere: Sequence[aws.Clients] = (), *, keep_image: bool = False
) -> list[Leftover]:
    """Return what there is of `scope`, in the order in which it can be taken away; changes nothing.

    `elsewhere` are the clients of the regions that images are copied to. With `keep_image` an image that is available
    stays, verified or not, and its snapshots and copies with it.

    Raises `sweep-too-large`, aws's errors.
    """
    with aws.translate_errors(f"looking for what {scope} left"):
        leftovers = list(_leftovers(clients, scope, elsewhere, keep_image=keep_image))
    limit = LIMIT if scope.run else LIMIT_BY_AGE
    if len(leftovers) > limit:
        raise BadInput(
            f"{scope} seems to have left {len(leftovers)} things",
            code="sweep-too-large",
            expected=f"at most {limit}",
            found=", ".join(f"{each.kind} {each.id}" for each in leftovers[:limit]) + ", …",
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
    clients: aws.Clients, scope: Scope, elsewhere: Sequence[aws.Clients], *, keep_image: bool
) -> Iterator[Leftover]:
    ec2, busy = clients.ec2, set[str]()  # the runs of which something is too young
    name, values = scope.tag
    taken, staying = set[str](), set[str]()
    for instance in aws.instances(clients, {name: values, "instance-state-name": aws.ALIVE}):
        ident, state, tags = instance["InstanceId"], instance["State"].get("Name"), _tags(instance.get("Tags", []))
        if tags.get(_ENVIRONMENT_TAG, "") not in _SWEPT:
            say(f"{ident} stays: it is of the environment {tags[_ENVIRONMENT_TAG]}, whatever else it is tagged with")
        elif scope.old(instance.get("LaunchTime")):
            taken.add(ident)
            yield Leftover("instance", ident, f"it is {state}", partial(ec2.terminate_instances, InstanceIds=[ident]))
            continue
        staying.add(ident)
        busy.add(tags.get(PROJECT_TAG, ""))
    # One that goes with its instance is gone by the time that it is asked for: no error.
    for volume in ec2.get_paginator("describe_volumes").paginate(Filters=scope.filters).search("Volumes[]"):
        ident, state = volume["VolumeId"], volume["State"]
        users = {each["InstanceId"] for each in volume.get("Attachments", [])}
        if not users & staying and (scope.run or users <= taken) and scope.old(volume["CreateTime"]):
            yield Leftover("volume", ident, f"it is {state}", partial(ec2.delete_volume, VolumeId=ident))
        else:
            busy.add(_tags(volume.get("Tags", [])).get(PROJECT_TAG, ""))
    yield from _all_images(clients, scope, elsewhere, busy, keep_image=keep_image)
    pairs = [
        (pair.get("KeyName", ""), _tags(pair.get("Tags", [])).get(PROJECT_TAG, ""), scope.old(pair.get("CreateTime")))
        for pair in ec2.describe_key_pairs(Filters=scope.filters)["KeyPairs"]
    ]
    busy |= {run for _, run, old in pairs if not old}
    for group in ec2.describe_security_groups(Filters=scope.filters)["SecurityGroups"]:
        # A group has no time: it is as old as all that its run has left.
        if scope.run or _tags(group.get("Tags", [])).get(PROJECT_TAG) not in busy:
            reason, delete_group = f"{group['GroupName']} was a builder's", ec2.delete_security_group
            yield Leftover("security group", group["GroupId"], reason, partial(delete_group, GroupId=group["GroupId"]))
    for ident in [ident for ident, _, old in pairs if old]:
        yield Leftover("key pair", ident, "it was a builder's", partial(ec2.delete_key_pair, KeyName=ident))


def _all_images(
    clients: aws.Clients, scope: Scope, elsewhere: Sequence[aws.Clients], busy: set[str], *, keep_image: bool
) -> Iterator[Leftover]:
    """Yield the images and copies that go, with what has none of them; add the runs of those that are too young."""
    kept: set[str] = set()

    def stays(image: Image) -> bool:
        if VERIFIED_TAG in image.tags or image.protected:
            kept.add(image.ami_id)
            return True
        if not scope.old(image.created):
            kept.add(image.ami_id)
            busy.add(image.tags.get(PROJECT_TAG, ""))
            return True
        if scope.prefix and was_published(clients, scope.prefix, image.ami_id):
            say(f"keeping {image.ami_id}: {image.name} was published once, and is not verified any more")
            kept.add(image.ami_id)
            return True
        if keep_image and image.state == "available":
            kept.add(image.ami_id)
            say(f"keeping {image.ami_id} for a verification that is run again: {image.name} is not verified yet")
            say(f"  without one: ./inv sweep --run {scope.run} --apply takes it away")
            return True
        return False

    yield from _images(clients, scope, stays)
    verified: list[FilterTypeDef] = [{"Name": "tag-key", "Values": [VERIFIED_TAG]}]
    if elsewhere:
        items = clients.ec2.describe_images(Owners=["self"], Filters=verified, IncludeDisabled=True)["Images"]
        kept |= {one.get("ImageId", "") for one in items}
    for region in elsewhere:
        yield from _images(
            region,
            scope,
            lambda image: image.tags.get(COPY_OF_TAG) in kept or image.protected or not scope.old(image.created),
        )


def _images(clients: aws.Clients, scope: Scope, stays: Callable[[Image], bool]) -> Iterator[Leftover]:
    """Yield the images that do not stay, and the snapshots that none of the others has."""
    ec2, kept = clients.ec2, set[str]()
    pages = ec2.get_paginator("describe_images").paginate(
        Owners=["self"], Filters=scope.filters, IncludeDisabled=True, PaginationConfig={"PageSize": 500}
    )
    for image in [as_image(item) for page in pages for item in page["Images"]]:
        if stays(image):
            kept |= set(image.snapshots)
        else:
            deregister = partial(ec2.deregister_image, ImageId=image.ami_id)
            yield Leftover("image", image.ami_id, f"{image.name} in {clients.region} was not verified", deregister)
    snapshots = ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=scope.filters)
    for item in [item for page in snapshots for item in page["Snapshots"]]:
        name = item.get("SnapshotId", "")
        if name not in kept and scope.old(item.get("StartTime")):
            delete = partial(ec2.delete_snapshot, SnapshotId=name)
            yield Leftover("snapshot", name, "no image that stays needs it", delete)


def _tags(tags: Collection[TagTypeDef]) -> dict[str, str]:
    return {tag.get("Key", ""): tag.get("Value", "") for tag in tags}


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
