"""What can't be deleted while something needs it. moto deletes most of it from under an instance.

A key pair is none of that: EC2 deletes it also while instances have it, and they keep its public key.
"""

from __future__ import annotations

from typing import Any

from moto.ec2.models.subnets import SubnetBackend
from moto.ec2.models.vpcs import VPCBackend
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.ec2.responses.security_groups import SecurityGroups

from localcloud.api.patches import ApiError, patch


@patch(SubnetBackend.delete_subnet, wraps=True)
def delete_subnet(original: Any, backend: Any, subnet_id: str) -> Any:
    """Delete a subnet without network interfaces."""
    if any(interface.subnet.id == subnet_id for interface in list(backend.enis.values())):
        raise _needed(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
    return original(backend, subnet_id)


@patch(SecurityGroups.delete_security_group, wraps=True)
def delete_security_group(original: Any, response: Any) -> Any:
    """DeleteSecurityGroup: not the default one, and none that an interface wears or a rule names."""
    backend, name = response.ec2_backend, response._get_param("GroupName")
    identifier = response._get_param("GroupId")
    group = (
        backend.get_security_group_from_id(identifier) if identifier else backend.get_security_group_by_name_or_id(name)
    )
    if group is None:
        return original(response)  # moto's error for it
    if group.is_default or group.name == "default":
        raise ApiError("CannotDelete", f'the specified group: "{group.id}" name: "default" cannot be deleted by a user')
    worn = any(group.id == each.id for interface in list(backend.enis.values()) for each in interface.group_set)
    if worn or any(_names(other, group.id) for other in backend.describe_security_groups() if other.id != group.id):
        raise _needed(f"resource {group.id} has a dependent object")
    return original(response)


def _names(group: Any, group_id: str) -> bool:
    rules = [*group.ingress_rules, *group.egress_rules]
    return any((rule.source_group or {}).get("GroupId") == group_id for rule in rules)


@patch(VPCBackend.delete_vpc, wraps=True)
def delete_vpc(original: Any, backend: Any, vpc_id: str) -> Any:
    """Delete a VPC without gateways and groups of its owner's; moto looks at its subnets and route tables."""
    gateways = [each for each in backend.internet_gateways.values() if each.vpc and each.vpc.id == vpc_id]
    groups = [each for each in backend.groups.get(vpc_id, {}).values() if not each.is_default]
    if gateways or groups:
        raise _needed(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")
    return original(backend, vpc_id)


@patch(ElasticNetworkInterfaces.delete_network_interface, wraps=True)
def delete_network_interface(original: Any, response: Any) -> Any:
    """DeleteNetworkInterface of one that is not attached."""
    interface = response.ec2_backend.get_network_interface(response._get_param("NetworkInterfaceId"))
    if interface.instance is not None:
        raise ApiError("InvalidParameterValue", f"Network interface '{interface.id}' is currently in use.")
    return original(response)


def _needed(message: str) -> ApiError:
    return ApiError("DependencyViolation", message)
