"""The addresses by which clients reach an instance: those that can move to another one, and those that can't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.progress import say
from zmanim_ami.pipeline import aws

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef


@dataclass(frozen=True)
class Address:
    """An Elastic IP address."""

    allocation_id: str
    public_ip: str


def of(clients: aws.Clients, instance_id: str) -> list[Address]:
    """Return the Elastic IP addresses of an instance. Raises aws's errors."""
    with aws.translate_errors(f"looking for the addresses of {instance_id}"):
        found = clients.ec2.describe_addresses(Filters=[{"Name": "instance-id", "Values": [instance_id]}])["Addresses"]
    return [Address(each.get("AllocationId", ""), each.get("PublicIp", "")) for each in found]


def move(clients: aws.Clients, address: Address, instance_id: str) -> None:
    """Let an address lead to another instance. Raises aws's errors."""
    with aws.translate_errors(f"moving {address.public_ip} to {instance_id}"):
        clients.ec2.associate_address(
            AllocationId=address.allocation_id, InstanceId=instance_id, AllowReassociation=True
        )
    say(f"{address.public_ip} leads to {instance_id}")


def unmovable(item: InstanceTypeDef) -> str:
    """Return by which addresses an instance without an Elastic IP address is known: they end with it."""
    public, private = item.get("PublicIpAddress"), item.get("PrivateIpAddress", "")
    return f"{public}, which AWS gave it, and {private}" if public else f"{private} of its own interface only"
