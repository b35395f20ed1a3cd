"""What of an instance can be changed, and when: its attributes, its monitoring."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import camelcase_to_underscores
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.monitoring import Monitoring

from localcloud.api.patches import ApiError, patch
from localcloud.ec2.fleet import Fleet
from localcloud.ec2.launch.places import check_zone
from localcloud.ec2.launch.rules import checked_user_data, size_of

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html
_TRUTHS = ("DisableApiStop", "DisableApiTermination", "EbsOptimized", "SourceDestCheck")
_TEXTS = ("InstanceInitiatedShutdownBehavior", "InstanceType", "Kernel", "Ramdisk", "UserData")
_ONLY_STOPPED = {"EbsOptimized", "InstanceType", "Kernel", "Ramdisk", "UserData"}
_BEHAVIOURS = ("stop", "terminate")


class InstanceAttributes:
    """Changes of instances; `fleet` is told of those that its machines see."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @patch(InstanceResponse.modify_instance_attribute)
    def modify_instance_attribute(self, response: Any) -> EmptyResult:
        """ModifyInstanceAttribute: one attribute, and those that a machine boots with of a stopped instance alone."""
        backend = response.ec2_backend
        instance = backend.get_instance(response._get_param("InstanceId"))
        name, value = _change(response)
        if name in _ONLY_STOPPED and instance.state != "stopped":
            raise ApiError("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")
        if name == "InstanceType":
            size = size_of(str(value), instance)
            check_zone(backend.region_name, str(value), instance.availability_zone)
            response.error_on_dryrun()
            self._fleet.resize(instance.id, size)
        response.error_on_dryrun()
        if name == "BlockDeviceMappings":
            _keep_or_delete(instance, value)
        elif name == "Groups":
            _wear(backend, instance, value)
        else:
            setattr(instance, camelcase_to_underscores(name), value)
        return EmptyResult()


def _change(response: Any) -> tuple[str, Any]:
    """Return the one attribute that a call changes, and its new value."""
    given = {name: response._get_param(f"{name}.Value") for name in (*_TRUTHS, *_TEXTS)}
    given |= {name: response._get_param(name) for name in ("Groups", "BlockDeviceMappings")}
    if attribute := response._get_param("Attribute"):
        name = {"groupSet": "Groups"}.get(attribute, attribute[0].upper() + attribute[1:])
        if name not in given:
            raise ApiError(
                "InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
            )
        value = response._get_param("Value")
        given[name] = given[name] if value is None else value
    changed = {name: value for name, value in given.items() if value is not None}
    if len(changed) != 1:
        what = "Fields for multiple attribute types specified" if changed else "No attributes specified."
        raise ApiError("InvalidParameterCombination", what)
    ((name, value),) = changed.items()
    if name in _TRUTHS:
        return name, str(value).lower() == "true"
    if name == "UserData":
        return name, checked_user_data(value)
    if name == "InstanceInitiatedShutdownBehavior" and value not in _BEHAVIOURS:
        raise ApiError(
            "InvalidParameterValue", f"Value ({value}) for parameter instanceInitiatedShutdownBehavior is invalid."
        )
    return name, value


def _keep_or_delete(instance: Any, mappings: list[dict[str, Any]]) -> None:
    for mapping in mappings:
        mapped = instance.block_device_mapping.get(mapping.get("DeviceName"))
        if mapped is None:
            raise ApiError(
                "InvalidInstanceAttributeValue", f"No device is currently mapped at {mapping.get('DeviceName')}"
            )
        if (wanted := (mapping.get("Ebs") or {}).get("DeleteOnTermination")) is not None:
            mapped.delete_on_termination = bool(wanted)


def _wear(backend: Any, instance: Any, identifiers: list[str]) -> None:
    """Give an instance, and its first interface, these security groups."""
    groups = [backend.get_security_group_from_id(identifier) for identifier in identifiers]
    for identifier, group in zip(identifiers, groups, strict=True):
        if group is None:
            raise ApiError("InvalidGroup.NotFound", f"The security group '{identifier}' does not exist")
        if group.vpc_id != instance.vpc_id:
            raise ApiError(
                "InvalidParameter",
                f"Security group {group.id} and instance {instance.id} belong to different networks.",
            )
    instance.security_groups = groups
    instance.nics[0]._group_set = list(groups)


@patch(InstanceBackend.modify_instance_metadata_options)
def modify_instance_metadata_options(backend: Any, instance_id: str, **given: Any) -> Any:
    """Change the options that a call names; moto's own sets every other one to None."""
    options = backend.get_instance(instance_id).metadata_options
    options.http_tokens = given["http_tokens"] or options.http_tokens
    options.http_put_response_hop_limit = given["hop_limit"] or options.http_put_response_hop_limit
    options.http_endpoint = given["http_endpoint"] or options.http_endpoint
    options.http_protocol_ipv6 = given["http_protocol"] or options.http_protocol_ipv6
    options.instance_metadata_tags = given["metadata_tags"] or options.instance_metadata_tags
    return options


@patch(Monitoring.monitor_instances)
def monitor_instances(response: Any) -> ActionResult:
    """MonitorInstances: on at once, though the answer says `pending` as AWS's does."""
    return _monitor(response, "enabled", "pending")


@patch(Monitoring.unmonitor_instances)
def unmonitor_instances(response: Any) -> ActionResult:
    """UnmonitorInstances."""
    return _monitor(response, "disabled", "disabling")


def _monitor(response: Any, state: str, shown: str) -> ActionResult:
    instances = response.ec2_backend.get_multi_instances_by_id(response._get_param("InstanceIds", []))
    response.error_on_dryrun()
    for instance in instances:
        instance.monitoring_state = state
    rows = [{"InstanceId": instance.id, "Monitoring": {"State": shown}} for instance in instances]
    return ActionResult({"InstanceMonitorings": rows})
