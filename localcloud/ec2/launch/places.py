"""Where a launch goes: its subnet and zone, its security groups, its network interfaces and their addresses.

Which zones have a type comes from moto's table, which was taken from AWS.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from moto.ec2.exceptions import InvalidSecurityGroupNotFoundError
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.ec2.models.subnets import SubnetBackend

from localcloud.api.patches import ApiError, patch

Request = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A launch's subnet, the groups of its first interface, all interfaces as moto takes them, and its addresses.

    `public` says whether the first interface gets a public address; `address` is the private one that was asked for.
    """

    subnet: Any
    groups: list[Any]
    interfaces: list[dict[str, Any]]
    public: bool
    address: str | None


def check_place(backend: Any, request: Request, instance_type: str, count: int) -> Place:
    """Return where `count` instances of a settled request go.

    Raises ApiError (VPCIdNotSpecified, Unsupported, InvalidParameter, InvalidParameterCombination, …) or moto's errors
    for a subnet, group or interface that does not exist.
    """
    interfaces = [dict(each) for each in request.get("NetworkInterfaces") or []]
    _check_interfaces(request, interfaces)
    existing = [backend.get_network_interface(each["NetworkInterfaceId"]) for each in interfaces
                if each.get("NetworkInterfaceId")]  # fmt: skip
    for interface in existing:
        if interface.instance is not None:
            raise ApiError("InvalidNetworkInterface.InUse", f"Interface: [{interface.id}] in use.")
    first = next((each for each in interfaces if int(each.get("DeviceIndex") or 0) == 0), {})
    named = first.get("NetworkInterfaceId")
    own = next((each for each in existing if each.id == named), None)
    subnet = own.subnet if own else _subnet(backend, request, first, instance_type)
    wanted = (request.get("Placement") or {}).get("AvailabilityZone")
    if wanted and wanted != subnet.availability_zone:
        raise _wrong(f"Invalid availability-zone {wanted}: the subnet {subnet.id} is in {subnet.availability_zone}.")
    check_zone(backend.region_name, instance_type, subnet.availability_zone)
    groups = own.group_set if own else _groups(backend, subnet, {**request, **_of_interface(first)}, interfaces)
    asked = first.get("AssociatePublicIpAddress")
    public = bool(subnet.map_public_ip_on_launch) if asked is None else bool(asked)
    address = own.private_ip_address if own else _address(request, first, subnet, count)
    made = [_as_moto_has_it(backend, subnet, each) for each in interfaces or [{"DeviceIndex": 0}]]
    return Place(subnet, list(groups), made, public and own is None, address)


def _as_moto_has_it(backend: Any, subnet: Any, interface: Request) -> Request:
    """Return an interface's specification with what moto is to know of it: no address, which is the machine's."""
    if interface.get("NetworkInterfaceId"):
        return interface
    made = {"DeleteOnTermination": True, **interface}
    if int(interface["DeviceIndex"]) == 0:
        return {name: made[name] for name in ("DeviceIndex", "DeleteOnTermination")}
    made["SubnetId"] = backend.get_subnet(made.get("SubnetId") or subnet.id).id
    made["Groups"] = [group.id for group in _groups(backend, subnet, _of_interface(made), [made])]
    return made


def _of_interface(interface: Request) -> Request:
    return {"SecurityGroupIds": interface["Groups"]} if interface.get("Groups") else {}


def _check_interfaces(request: Request, interfaces: list[Request]) -> None:
    for name, what in (
        ("SubnetId", "subnet ID"), ("SecurityGroupIds", "security groups"), ("SecurityGroups", "security groups"),
        ("PrivateIpAddress", "private address"),
    ):  # fmt: skip
        if interfaces and request.get(name):
            raise ApiError(
                "InvalidParameterCombination",
                f"Network interfaces and an instance-level {what} may not be specified on the same request",
            )
    numbers = [each.get("DeviceIndex") for each in interfaces]
    if None in numbers:
        raise ApiError("MissingParameter", "The request must contain the parameter networkInterface.deviceIndex")
    if interfaces and 0 not in {int(number) for number in numbers if number is not None}:
        raise _wrong("Each network interface requires a device index, and the first one is 0.")
    if len(set(numbers)) != len(numbers):
        raise _wrong("Each network interface requires a unique device index.")


def _subnet(backend: Any, request: Request, first: Request, instance_type: str) -> Any:
    if name := request.get("SubnetId") or first.get("SubnetId"):
        return backend.get_subnet(name)
    if backend.get_default_vpc() is None:
        raise _no_default_vpc(" GroupName is only supported for EC2-Classic and default VPC.")
    zone = (request.get("Placement") or {}).get("AvailabilityZone")
    if zone and zone not in {each.name for each in backend.describe_availability_zones()}:
        raise _wrong(f"Invalid availability zone: [{zone}]")
    subnets = dict(sorted(backend.get_default_subnets().items()))
    if zone and zone not in subnets:
        raise ApiError("MissingInput", f"No default subnet for availability zone: '{zone}'. Please specify a subnet.")
    if not subnets:
        vpc = backend.get_default_vpc().id
        raise ApiError("MissingInput", f"No subnets found for the default VPC '{vpc}'. Please specify a subnet.")
    offered = [subnet for name, subnet in subnets.items() if name in _zones(backend.region_name, instance_type)]
    # Where nobody says, AWS takes a zone that has the type.
    return subnets[zone] if zone else next(iter([*offered, *subnets.values()]))


def _groups(backend: Any, subnet: Any, request: Request, interfaces: list[Request]) -> list[Any]:
    """Return the groups that a request names, else the default one of its VPC, which every instance wears then."""
    named, ids = request.get("SecurityGroups") or [], request.get("SecurityGroupIds") or []
    if named and not interfaces and request.get("SubnetId"):
        raise ApiError(
            "InvalidParameterCombination",
            "The parameter groupName cannot be used with the parameter subnet",
        )
    groups = [backend.get_security_group_by_name_or_id(name, subnet.vpc_id) for name in named]
    groups += [backend.get_security_group_from_id(identifier) for identifier in ids]
    for name, group in zip([*named, *ids], groups, strict=True):
        if group is None:
            raise InvalidSecurityGroupNotFoundError(name)
        if group.vpc_id != subnet.vpc_id:
            raise ApiError(
                "InvalidParameter",
                f"Security group {group.id} and subnet {subnet.id} belong to different networks.",
            )
    return groups or [backend.get_default_security_group(subnet.vpc_id)]


def _address(request: Request, first: Request, subnet: Any, count: int) -> str | None:
    listed = first.get("PrivateIpAddresses") or []
    primary = next((each.get("PrivateIpAddress") for each in listed if each.get("Primary")), None)
    asked = request.get("PrivateIpAddress") or first.get("PrivateIpAddress") or primary
    if not asked:
        return None
    if count > 1:
        raise ApiError(
            "InvalidParameterCombination",
            "A private IP address can be specified for one instance alone, and more than one are asked for.",
        )
    try:
        inside = ipaddress.ip_address(asked) in subnet.cidr
    except ValueError:
        raise _wrong(f"Invalid value '{asked}' for IPv4 address.") from None
    if not inside:
        raise _wrong(f"Address {asked} does not fall within the subnet's address range")
    return str(asked)


def check_zone(region: str, instance_type: str, zone: str) -> None:
    """Raise ApiError (Unsupported) for a type that a zone does not have."""
    zones = _zones(region, instance_type)
    if not zones:
        raise ApiError(
            "Unsupported",
            "The requested configuration is currently not supported. Please check the documentation for supported "
            "configurations.",
        )
    if zone not in zones:
        raise ApiError(
            "Unsupported",
            f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone "
            f"({zone}). Please retry your request by not specifying an Availability Zone or choosing "
            f"{', '.join(zones)}.",
        )


def _zones(region: str, instance_type: str) -> list[str]:
    offers = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    return sorted(offer["Location"] for offer in offers if offer["InstanceType"] == instance_type)


def _no_default_vpc(more: str = "") -> ApiError:
    return ApiError("VPCIdNotSpecified", f"No default VPC for this user{more and '.'}{more}")


def _wrong(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)


@patch(SecurityGroupBackend.create_security_group, wraps=True)
def create_security_group(
    original: Any, backend: Any, name: str, description: str, vpc_id: str | None = None, **given: Any
) -> Any:
    """Make a group in the default VPC when none is named, while the account has one: moto goes on with one deleted."""
    if not vpc_id:
        default = backend.get_default_vpc()
        if default is None:
            raise _no_default_vpc()
        vpc_id = str(default.id)
    backend.get_vpc(vpc_id)  # moto's error for one that does not exist
    return original(backend, name, description, vpc_id=vpc_id, **given)


@patch(SubnetBackend.create_subnet, wraps=True)
def create_subnet(original: Any, backend: Any, vpc_id: str, *arguments: Any, **given: Any) -> Any:
    """Make a subnet that is no default one outside of the default VPC; moto makes the first of each zone one."""
    subnet = original(backend, vpc_id, *arguments, **given)
    if not backend.get_vpc(vpc_id).is_default:
        subnet.default_for_az = False
        subnet.map_public_ip_on_launch = False
    return subnet
