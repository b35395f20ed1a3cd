"""DescribeInstances' filters.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from moto.ec2.exceptions import InvalidInstanceIdError
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import get_object_value

from localcloud.api.patches import ApiError, patch

_PAGE = 1000
_ID = re.compile(r"i-([0-9a-f]{8}|[0-9a-f]{17})")
# Where moto's object has what a filter compares.
_PATHS = {
    "architecture": "architecture",
    "availability-zone": "placement.zone",
    "client-token": "client_token",
    "dns-name": "public_dns_name",
    "ebs-optimized": "ebs_optimized",
    "group-id": "security_groups.id",
    "group-name": "security_groups.name",
    "host-id": "placement.host_id",
    "hypervisor": "hypervisor",
    "image-id": "image_id",
    "instance-id": "id",
    "instance-lifecycle": "lifecycle",
    "instance-state-code": "state_code",
    "instance-state-name": "state",
    "instance-status.status": "instance_status.Status",
    "instance-type": "instance_type",
    "instance.group-id": "security_groups.id",
    "instance.group-name": "security_groups.name",
    "ip-address": "public_ip",
    "kernel-id": "kernel",
    "key-name": "key_name",
    "launch-index": "ami_launch_index",
    "metadata-options.http-endpoint": "metadata_options.http_endpoint",
    "metadata-options.http-put-response-hop-limit": "metadata_options.http_put_response_hop_limit",
    "metadata-options.http-tokens": "metadata_options.http_tokens",
    "metadata-options.instance-metadata-tags": "metadata_options.instance_metadata_tags",
    "monitoring-state": "monitoring_state",
    "network-interface.addresses.private-ip-address": "network_interfaces.private_ip_address",
    "network-interface.description": "network_interfaces.description",
    "network-interface.group-id": "security_groups.id",
    "network-interface.group-name": "security_groups.name",
    "network-interface.mac-address": "network_interfaces.mac_address",
    "network-interface.network-interface-id": "network_interfaces.id",
    "network-interface.private-dns-name": "private_dns_name",
    "network-interface.status": "network_interfaces.status",
    "network-interface.subnet-id": "network_interfaces.subnet_id",
    "network-interface.vpc-id": "network_interfaces.vpc_id",
    "owner-id": "owner_id",
    "platform": "platform",
    "private-dns-name": "private_dns_name",
    "private-ip-address": "private_ip",
    "product-code": "product_codes",
    "reason": "state_transition_reason",
    "root-device-name": "root_device_name",
    "root-device-type": "root_device_type",
    "source-dest-check": "source_dest_check",
    "spot-instance-request-id": "spot_instance_request_id",
    "state-reason-code": "state_reason.code",
    "state-reason-message": "state_reason.message",
    "subnet-id": "subnet_id",
    "system-status.status": "system_status.Status",
    "tenancy": "placement.tenancy",
    "virtualization-type": "virtualization_type",
    "vpc-id": "vpc_id",
}
# What AWS knows of an instance, and no instance here has.
_NOTHING = re.compile(
    r"affinity|availability-zone-id|(current-instance-)?boot-mode|capacity-reservation.*|ena-support|enclave-options.*"
    r"|event\..*|hibernation-options.*|(instance|system)-status\..*|ipv6-address|maintenance-options.*|network-interface\..*"
    r"|network-performance.*|operator\..*|outpost-arn|placement-.*|platform-details|private-dns-name-options.*|ramdisk-id"
    r"|requester-id|tpm-support|usage-operation.*"
)
_VALUES: dict[str, Callable[[Any], list[Any]]] = {
    "launch-time": lambda instance: [_date(instance.launch_time)],
    "iam-instance-profile.arn": lambda instance: [(instance.iam_instance_profile or {}).get("Arn")],
    "iam-instance-profile.id": lambda instance: [(instance.iam_instance_profile or {}).get("Id")],
    "block-device-mapping.device-name": lambda instance: [name for name, _ in instance.get_block_device_mapping],
    "block-device-mapping.volume-id": lambda instance: [each.volume_id for each in _mapped(instance)],
    "block-device-mapping.status": lambda instance: [
        instance.get_block_device_status(each.status) for each in _mapped(instance)
    ],
    "block-device-mapping.delete-on-termination": lambda instance: [
        bool(each.delete_on_termination) for each in _mapped(instance)
    ],
    "block-device-mapping.attach-time": lambda instance: [_date(each.attach_time) for each in _mapped(instance)],
    "tag-key": lambda instance: [tag["key"] for tag in instance.get_tags()],
    "tag-value": lambda instance: [tag["value"] for tag in instance.get_tags()],
}


def check_names(filters: Mapping[str, Any]) -> None:
    """Raise ApiError (InvalidParameterValue) for a filter that EC2 does not have."""
    for name in filters:
        known = name in _VALUES or name in _PATHS or name == "reservation-id" or _NOTHING.fullmatch(name)
        if not known and not name.startswith("tag:"):
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")


def matches(instance: Any, filters: Mapping[str, list[str]], reservation_id: str = "") -> bool:
    """Say whether an instance has one value of each filter."""
    return all(
        any(_fits(wanted, value) for wanted in values for value in _values(instance, name, reservation_id))
        for name, values in filters.items()
    )


def _values(instance: Any, name: str, reservation_id: str) -> Iterator[str]:
    if name == "reservation-id":
        found: Any = [reservation_id]
    elif name.startswith("tag:"):
        found = [tag["value"] for tag in instance.get_tags() if tag["key"] == name.removeprefix("tag:")]
    elif name in _VALUES:
        found = _VALUES[name](instance)
    elif name in _PATHS:
        found = get_object_value(instance, _PATHS[name])
    else:
        found = []
    for value in found if isinstance(found, list) else [found]:
        if value is not None:
            yield str(value).lower() if isinstance(value, bool) else str(value)


def _fits(wanted: str, value: str) -> bool:
    r"""Say whether a value is as a filter wants it: * and ? stand for any text and any character, \ for itself."""
    parts = re.findall(r"\\.|.", wanted, re.DOTALL)
    pattern = "".join({"*": ".*", "?": "."}.get(part, re.escape(part.removeprefix("\\") or part)) for part in parts)
    return re.fullmatch(pattern, value, re.DOTALL) is not None


def _mapped(instance: Any) -> list[Any]:
    return [mapped for _name, mapped in instance.get_block_device_mapping]


def _date(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%dT%H:%M:%S.000Z"))


def _shown(backend: Any, filters: Mapping[str, list[str]] | None, named: list[str]) -> list[Any]:
    reservations = []
    for reservation in backend.all_reservations():  # copies: they may be cut down
        reservation.instances = [
            instance
            for instance in reservation.instances
            if (not named or instance.id in named) and matches(instance, filters or {}, reservation.id)
        ]
        if reservation.instances:
            reservations.append(reservation)
    return reservations


@patch(InstanceResponse.describe_instances, wraps=True)
def describe_pages(original: Any, response: Any) -> Any:
    """DescribeInstances, 5 to 1,000 at a time."""
    size = response._get_param("MaxResults")
    if size is not None and not 5 <= int(size) <= _PAGE:
        bound = "greater than 5" if int(size) < 5 else f"less than {_PAGE}"
        raise ApiError(
            "InvalidParameterValue", f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value {bound}."
        )
    return original(response)


@patch(InstanceBackend.describe_instances)
def describe_instances(backend: Any, filters: Any = None) -> list[Any]:
    """Return the reservations whose instances have what the filters want, with those instances alone."""
    check_names(filters or {})
    return _shown(backend, filters, [])


@patch(InstanceBackend.get_reservations_by_instance_ids)
def get_reservations_by_instance_ids(backend: Any, instance_ids: list[str], filters: Any = None) -> list[Any]:
    """Return the reservations of the named instances. Raises moto's error for those that there are not."""
    check_names(filters or {})
    known = {instance.id for each in _shown(backend, None, []) for instance in each.instances}
    for each in instance_ids:
        if not _ID.fullmatch(each):
            raise ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{each}" (expecting "i-...")')
    if unknown := [each for each in instance_ids if each not in known]:
        raise InvalidInstanceIdError(unknown)
    return _shown(backend, filters, instance_ids)


@patch(Instance.applies)
def applies(instance: Any, filters: list[dict[str, Any]] | None) -> bool:
    """Say whether an instance has what a list of filters wants (DescribeInstanceStatus); moto knows two of them."""
    wanted = {each["name"]: each["values"] for each in filters or []}
    check_names(wanted)
    return matches(instance, wanted)
