"""What a launch is refused for: no default VPC, an instance type that a zone lacks, CPU credits of a type without.

Which zones have a type comes from moto's table, which was taken from AWS.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.ec2.models.subnets import SubnetBackend
from moto.ec2.responses.instances import InstanceResponse

from localcloud.api.patches import ApiError, patch

# Types whose processors are paid for by credits, and what each does when a launch does not say.
_BURSTABLE = {"t2": "standard", "t3": "unlimited", "t3a": "unlimited", "t4g": "unlimited"}
_CREDITS = ("standard", "unlimited")


def credits_of(instance_type: str, requested: dict[str, Any] | None) -> str | None:
    """Return how an instance's processors are paid for, None for a type that has no credits.

    `requested` is a launch's CreditSpecification. Raises ApiError (InstanceCreditSpecification.NotSupported,
    InvalidParameterValue).
    """
    default = _BURSTABLE.get(instance_type.partition(".")[0])
    if not requested:
        return default
    wanted = str(requested.get("CpuCredits", ""))
    if wanted not in _CREDITS:
        raise ApiError("InvalidParameterValue", f"Value ({wanted}) for parameter CpuCredits is invalid.")
    if default is None:
        raise ApiError(
            "InstanceCreditSpecification.NotSupported",
            f"The {instance_type} instance type does not support T2 Unlimited.",
        )
    return wanted


def check_zone(region: str, instance_type: str, zone: str) -> None:
    """Raise ApiError (Unsupported) for a type that a zone does not have."""
    offers = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    zones = sorted(offer["Location"] for offer in offers if offer["InstanceType"] == instance_type)
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


def check_place(backend: Any, given: dict[str, Any]) -> None:
    """Refuse a launch (moto's arguments) that has no subnet to go to, or whose subnet's zone lacks the type.

    Raises ApiError (VPCIdNotSpecified, Unsupported).
    """
    subnets = [given.get("subnet_id"), *(nic.get("SubnetId") for nic in given.get("nics") or [])]
    named = [backend.get_subnet(subnet) for subnet in subnets if subnet]
    if not named and backend.get_default_vpc() is None and not given.get("nics"):
        raise _no_default_vpc()
    zone = named[0].availability_zone if named else given.get("placement") or f"{backend.region_name}a"
    check_zone(backend.region_name, given["instance_type"], zone)


def _no_default_vpc() -> ApiError:
    return ApiError("VPCIdNotSpecified", "No default VPC for this user")


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
    return original(backend, name, description, vpc_id=vpc_id, **given)


@patch(SubnetBackend.create_subnet, wraps=True)
def create_subnet(original: Any, backend: Any, vpc_id: str, *arguments: Any, **given: Any) -> Any:
    """Make a subnet that is no default one outside of the default VPC; moto makes the first of each zone one."""
    subnet = original(backend, vpc_id, *arguments, **given)
    if not backend.get_vpc(vpc_id).is_default:
        subnet.default_for_az = False
        subnet.map_public_ip_on_launch = False
    return subnet


@patch(InstanceResponse.describe_instance_credit_specifications)
def describe_instance_credit_specifications(response: Any) -> ActionResult:
    """DescribeInstanceCreditSpecifications: of the named instances, else of all that are `unlimited`.

    Recently terminated ones are among them, as on AWS.
    """
    named = response._get_param("InstanceIds", [])
    backend = response.ec2_backend
    instances = backend.get_multi_instances_by_id(named) if named else backend.all_instances()
    rows = [
        {"InstanceId": instance.id, "CpuCredits": getattr(instance, "cpu_credits", None) or "standard"}
        for instance in instances
    ]
    return ActionResult(
        {"InstanceCreditSpecifications": [row for row in rows if named or row["CpuCredits"] == "unlimited"]}
    )
