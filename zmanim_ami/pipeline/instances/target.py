"""What a swap is of: the instance, its volume, the image that takes its place, and whether all of it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.errors import Error
from zmanim_ami.pipeline import aws, instance, launching, volumes
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.instances import addresses, journal, launch, rules, state
from zmanim_ami.pipeline.instances.addresses import Address
from zmanim_ami.pipeline.instances.state import State
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify.inspection import Check
from zmanim_ami.pipeline.version import Version

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

# A database that is checked, dumped and recovered needs some room beside itself.
FULL_PERCENT = 90
# Tags of an instance that the next one has not: AWS's own, consent to a blank volume, what swaps write.
_ITS_OWN = ("aws:", instance.DATA_VOLUME_TAG, instance.SWAPPED_TAG, journal.TAG)


@dataclass(frozen=True)
class Target:
    """An instance that is to be swapped; `state` is what it says of itself."""

    environment: str
    old: InstanceTypeDef
    volume: str
    ami: image.Image
    addresses: tuple[Address, ...]
    state: State
    checks: tuple[Check, ...]


def look(
    clients: aws.Clients,
    settings: Settings,
    poller: aws.Poller,
    *,
    environment: str,
    old: str,
    to: Version,
    new_address: bool,
) -> Target:
    """Return a swap's target with every check, passed or not.

    Raises image's errors, `volume-not-moved` of an instance without a data volume, state's errors, aws's errors.
    """
    question = state.ask(clients, old, poller)
    with aws.translate_errors(f"looking at {old}"):
        (shown,) = aws.instances(clients, {"instance-id": [old]})
    volume, ami = volumes.of(clients, old), image.find(clients, to, "")
    movable = tuple(addresses.of(clients, old))
    told = state.told(clients, question, poller)
    zone = shown["Placement"].get("AvailabilityZone", "")
    tags = {each.get("Key", ""): each.get("Value", "") for each in shown.get("Tags", [])}
    is_of = tags.get(instance.ENVIRONMENT_TAG, "")
    used = told.used_percent
    checks = (
        Check("environment", is_of == environment, environment, is_of or "no tag"),
        Check("another image", shown["ImageId"] != ami.ami_id, f"not {to} yet", shown["ImageId"]),
        _attempt("image", "one that is verified", lambda: _trusted(clients, settings, to)),
        _attempt("type", f"runs the image in {zone}", lambda: _fits(clients, ami, shown["InstanceType"], zone)),
        Check(
            "room",
            used is not None and used < FULL_PERCENT,
            f"less than {FULL_PERCENT} % of the data volume used",
            f"{used} %" if used is not None else "no data volume is mounted",
        ),
        Check("idle", not told.busy, "no backup and no restore runs", "one runs" if told.busy else "none runs"),
        _address_check(movable, shown, new_address=new_address),
    )
    return Target(environment, shown, volume, ami, movable, told, checks)


def order(chosen: Target, token: str) -> launching.Order:
    """Return the launch of the new instance: as the old one was, where it was, without a data volume."""
    old = chosen.old
    tags = {each.get("Key", ""): each.get("Value", "") for each in old.get("Tags", [])}
    kept = {name: value for name, value in tags.items() if not name.startswith(_ITS_OWN)}
    groups = tuple(each.get("GroupId", "") for each in old.get("SecurityGroups", []))
    # It needs the same way out to AWS, before the address is its own.
    options: dict[str, Any] = launch.options(old.get("SubnetId", ""), groups, bool(old.get("PublicIpAddress")))
    return launching.Order(
        ami_id=chosen.ami.ami_id,
        instance_type=old["InstanceType"],
        environment=chosen.environment,
        token=f"zmanim-swap-{token}",
        tags={**kept, journal.TAG: token},
        options=options,
    )


def _trusted(clients: aws.Clients, settings: Settings, to: Version) -> str:
    return f"{launch.trusted_image(clients, settings, to).ami_id} is"


def _fits(clients: aws.Clients, ami: image.Image, instance_type: str, zone: str) -> str:
    rules.check_type(clients, ami, instance_type, zone)
    return f"{instance_type} does"


def _attempt(name: str, expected: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, expected, check())
    except Error as error:
        return Check(name, False, expected, f"{error.summary}: {error.found}")


def _address_check(movable: tuple[Address, ...], shown: InstanceTypeDef, *, new_address: bool) -> Check:
    expected = "one Elastic IP address, which moves, or --new-address; and one network interface"
    interfaces = len(shown.get("NetworkInterfaces", []))
    if len(movable) > 1 or interfaces > 1:
        # All of them would go to the new one's one private address, each in the place of the one before.
        found = f"{', '.join(each.public_ip for each in movable) or 'none'}, on {interfaces} interfaces"
        return Check("address", False, expected, found)
    if movable:
        return Check("address", True, expected, ", ".join(each.public_ip for each in movable))
    return Check("address", new_address, expected, f"clients know {addresses.unmovable(shown)}: it will be another")
