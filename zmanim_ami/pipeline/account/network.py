"""Where verification instances run: a subnet that reaches AWS, and a security group that lets nobody in.

The default VPC is used when there is one. Else a small VPC of our own is planned, with an internet gateway: an address
of its own lets an instance reach Systems Manager without a NAT gateway, and no port is open on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from support.errors import Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, SecurityGroupTypeDef, TagTypeDef

GROUP_NAME = "zmanim-verification"
_TAG = "zmanim:verification"
_VPC_RANGE, _SUBNET_RANGE = "10.90.0.0/24", "10.90.0.0/25"


@dataclass(frozen=True)
class Network:
    """A subnet and a security group in the same VPC."""

    subnet_id: str
    security_group_id: str


def tags(name: str) -> Sequence[TagTypeDef]:
    """Return the tags by which the network of verifications is found again."""
    return [{"Key": "Name", "Value": name}, {"Key": _TAG, "Value": "true"}]


def find(clients: aws.Clients, subnet_id: str) -> Network:
    """Return the network to verify in: `subnet_id` when it is not empty, else as `subnet` finds one.

    Raises `account-not-prepared` when there is no subnet, no group of ours beside it, or when the group has an open
    port.
    """
    with aws.translate_errors("looking for the network of verifications"):
        existing = subnet(clients, subnet_id)
        group = security_group(clients, existing[1]) if existing else None
    if existing is None or group is None:
        what = "subnet" if existing is None else f"security group {GROUP_NAME}"
        raise Error(
            f"this account has no {what} to verify in",
            code="account-not-prepared",
            expected=f"a subnet (setting subnet_id, or a default VPC) and a security group {GROUP_NAME}",
            found="none",
            fix="./inv account.apply --environment verify",
        )
    if group.get("IpPermissions"):
        raise Error(
            f"the security group {GROUP_NAME} has open ports",
            code="account-not-prepared",
            expected="no ingress rule",
            found=str(group["IpPermissions"]),
            fix="./inv account.apply --environment verify",
        )
    return Network(existing[0], group["GroupId"])


def subnet(clients: aws.Clients, subnet_id: str) -> tuple[str, str] | None:
    """Return (subnet id, VPC id): the given one, else our own, else the default VPC's first by zone; None if none."""
    if subnet_id:
        subnets = clients.ec2.describe_subnets(SubnetIds=[subnet_id])["Subnets"]
    else:
        own: FilterTypeDef = {"Name": f"tag:{_TAG}", "Values": ["true"]}
        default: FilterTypeDef = {"Name": "default-for-az", "Values": ["true"]}
        subnets = (
            clients.ec2.describe_subnets(Filters=[own])["Subnets"]
            or clients.ec2.describe_subnets(Filters=[default])["Subnets"]
        )
    ordered = sorted(subnets, key=lambda item: item.get("AvailabilityZone", ""))
    return (ordered[0].get("SubnetId", ""), ordered[0].get("VpcId", "")) if ordered else None


def security_group(clients: aws.Clients, vpc_id: str) -> SecurityGroupTypeDef | None:
    """Return the VPC's security group of our name, or None."""
    groups = clients.ec2.describe_security_groups(
        Filters=[{"Name": "vpc-id", "Values": [vpc_id]}, {"Name": "group-name", "Values": [GROUP_NAME]}]
    )["SecurityGroups"]
    return groups[0] if groups else None


def plan(clients: aws.Clients, subnet_id: str) -> Iterator[Change]:
    """Yield what is missing to verify in, and what opens it. Raises botocore's errors."""
    existing = subnet(clients, subnet_id)
    if existing is None:
        resource, reason = f"VPC, subnet and internet gateway {GROUP_NAME}", "no default VPC, and no subnet was chosen"
        yield Change("create", resource, reason, partial(_create_vpc, clients))
    group = security_group(clients, existing[1]) if existing else None
    resource = f"security group {GROUP_NAME}"
    if group is None:
        create = partial(_create_security_group, clients, subnet_id)
        yield Change("create", resource, "there is none for verification instances", create)
    elif group.get("IpPermissions"):
        revoke = clients.ec2.revoke_security_group_ingress
        close = partial(revoke, GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])
        yield Change("close", resource, "it has ingress rules, and nobody is to get in", close)


def _create_vpc(clients: aws.Clients) -> None:
    """Make a VPC with one subnet, an internet gateway and the route to it."""
    ec2 = clients.ec2
    vpc = ec2.create_vpc(
        CidrBlock=_VPC_RANGE, TagSpecifications=[{"ResourceType": "vpc", "Tags": tags("zmanim-verification")}]
    )["Vpc"]["VpcId"]
    ec2.get_waiter("vpc_available").wait(VpcIds=[vpc])
    gateway = ec2.create_internet_gateway(
        TagSpecifications=[{"ResourceType": "internet-gateway", "Tags": tags("zmanim-verification")}]
    )["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["RouteTables"]
    ec2.create_route(RouteTableId=tables[0]["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    # The subnet last: it is what later plans look for, so an interrupted apply is seen as not done.
    made = ec2.create_subnet(
        VpcId=vpc,
        CidrBlock=_SUBNET_RANGE,
        TagSpecifications=[{"ResourceType": "subnet", "Tags": tags("zmanim-verification")}],
    )["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=made, MapPublicIpOnLaunch={"Value": True})


def _create_security_group(clients: aws.Clients, subnet_id: str) -> None:
    """Make the security group without ingress in the VPC that `find` will look into."""
    existing = subnet(clients, subnet_id)
    if existing is None:
        raise Error(
            "there is no subnet", code="account-not-prepared", expected="the one that was planned", found="none"
        )
    clients.ec2.create_security_group(
        GroupName=GROUP_NAME,
        Description="zmanim: verification instances, nobody gets in",
        VpcId=existing[1],
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags(GROUP_NAME)}],
    )
