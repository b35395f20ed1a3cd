"""What has to hold before an instance is launched, or takes the place of another one: each by AWS's own answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from support.errors import BadInput, Error
from zmanim_ami.pipeline import aws, instance
from zmanim_ami.pipeline.ami import image

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import InstanceTypeType


def check_available(ami: image.Image) -> None:
    """Raise `image-not-available` unless an image can be launched."""
    if ami.state != "available":
        raise Error(
            f"{ami.ami_id} ({ami.version}) can't be launched",
            code="image-not-available",
            expected="state available",
            found=ami.state,
            fix="choose a version that ./inv image.list shows as available",
        )


def zone_of(clients: aws.Clients, subnet_id: str) -> str:
    """Return the zone of a subnet. Raises `subnet-unknown`, aws's errors."""
    with aws.translate_errors(f"looking at {subnet_id or 'the subnet'}"):
        found = aws.unless_refused(
            lambda: clients.ec2.describe_subnets(SubnetIds=[subnet_id])["Subnets"],
            *("InvalidSubnetID.NotFound", "InvalidSubnetId.Malformed", "InvalidSubnetID.Malformed"),
        )
    if not found:
        raise BadInput(
            f"there is no subnet {subnet_id!r} in {clients.region}",
            code="subnet-unknown",
            expected="--subnet, such as subnet-0123456789abcdef0",
            found=subnet_id or "none given",
            fix="aws ec2 describe-subnets lists them",
        )
    return found[0].get("AvailabilityZone", "")


def check_type(clients: aws.Clients, ami: image.Image, instance_type: str, zone: str) -> None:
    """Raise `type-unfit` unless an instance type runs the image and is offered in a zone; aws's errors as well."""
    kind: InstanceTypeType = instance_type  # type: ignore[assignment]  # any type that AWS has
    with aws.translate_errors(f"looking at the instance type {instance_type}"):
        known = aws.unless_refused(
            lambda: clients.ec2.describe_instance_types(InstanceTypes=[kind])["InstanceTypes"], "InvalidInstanceType"
        )
        offered = clients.ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [instance_type]}]
        )["InstanceTypeOfferings"]
    zones = sorted(each.get("Location", "") for each in offered)
    made_for = known[0].get("ProcessorInfo", {}).get("SupportedArchitectures", []) if known else []
    found = (
        "no such type"
        if not known
        else f"it runs {', '.join(made_for)}"
        if ami.architecture not in made_for
        else f"it is offered in {', '.join(zones) or 'no zone'}"
        if zone not in zones
        else ""
    )
    if found:
        raise BadInput(
            f"{instance_type} can't run {ami.version} in {zone}",
            code="type-unfit",
            expected=f"a type for {ami.architecture} that {zone} has",
            found=found,
            fix="choose another instance type, or another subnet's zone",
        )


def check_volume(clients: aws.Clients, volume: str, zone: str) -> None:
    """Raise `volume-unfit` unless a data volume is free and in a zone; aws's errors as well."""
    with aws.translate_errors(f"looking at {volume}"):
        found = aws.unless_refused(
            lambda: clients.ec2.describe_volumes(VolumeIds=[volume])["Volumes"],
            *("InvalidVolume.NotFound", "InvalidVolumeID.Malformed", "InvalidParameterValue"),
        )
    state = f"{found[0]['State']} in {found[0]['AvailabilityZone']}" if found else "no such volume"
    if state != f"available in {zone}":
        raise BadInput(
            f"{volume} can't be this instance's data volume",
            code="volume-unfit",
            expected=f"available in {zone}, the zone of the subnet",
            found=state,
            fix="choose a subnet of the volume's zone; instance.swap takes a volume from an instance that has it",
        )


def wait_until_ready(
    clients: aws.Clients, machine: instance.Machine, timeout: float, poller: aws.Poller
) -> instance.Ready:
    """Wait until an instance says that it is ready. Raises instance.NotReady with its reasons, aws's errors."""
    ready = instance.wait_until_ready(clients, machine, timeout, poller)
    if ready.report.get("ok") is not True:
        raise instance.NotReady(
            f"{machine.instance_id} says that it is not ready",
            expected="every required check to pass",
            found="; ".join(f"{name}: {why}" for name, why in failed_checks(ready.report).items()),
            fix="it stays as it is; what it says of itself: ./inv instance.list, its console",
        )
    return ready


def failed_checks(report: Mapping[str, Any]) -> dict[str, str]:
    """Return why an instance says that it is not ready, by the names of its required checks."""
    checks: Mapping[str, Mapping[str, Any]] = report.get("checks", {})
    return {
        name: str(check.get("detail", ""))
        for name, check in checks.items()
        if check.get("required") and not check.get("ok")
    }
