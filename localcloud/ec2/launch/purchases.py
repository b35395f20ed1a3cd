"""What else launches: CreateFleet, RequestSpotInstances, Auto Scaling groups. All of them launch as RunInstances does.

moto launches for each of them with a handful of what was asked for: no volumes, profile, metadata options, and of a
template no version but the default one. Spot capacity is always there, at any price: nobody is outbid here.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError
from moto.autoscaling.models import ASG_NAME_TAG, FakeAutoScalingGroup, FakeLaunchConfiguration, InstanceState
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.fleets import Fleet as MotoFleet
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.responses.fleets import Fleets
from moto.ec2.responses.spot_instances import SpotInstances

from localcloud.api.patches import ApiError, patch
from localcloud.ec2.launch.launches import Launches, tag_specifications
from localcloud.ec2.launch.templates import Request, fitting_type, overlaid, settle, template_of
from localcloud.ec2.launch.tokens import once

log = logging.getLogger(__name__)
# Of a fleet's or a group's override, what a launch has by the same name.
_PARAMETERS = ("ImageId", "InstanceType", "SubnetId")


@dataclass(frozen=True)
class _Launched:
    """An instance that a spot request is to be made for, and what moto notes of where it comes from."""

    instance: Any
    specification: Any = None


class Purchases:
    """What launches by a template, a specification or a launch configuration."""

    def __init__(self, launches: Launches) -> None:
        self._launches = launches

    @patch(Fleets.create_fleet, wraps=True)
    def create_fleet(self, original: Any, response: Any) -> Any:
        """CreateFleet, once for a client token. Of an instant fleet the answer also says what could not be launched."""

        def work() -> ActionResult:
            backend = response.ec2_backend
            if not (response._get_param("TargetCapacitySpecification") or {}).get("TotalTargetCapacity"):
                raise _missing("totalTargetCapacity")
            configurations = response._get_param("LaunchTemplateConfigs") or []
            if not configurations:
                raise _missing("launchTemplateConfigs")
            settled = [_with_types(backend, each) for each in configurations]
            options = {"AllocationStrategy": "lowest-price", **(response._get_param("SpotOptions") or {})}
            response.params = {**response.params, "LaunchTemplateConfigs": settled, "SpotOptions": options}
            answer = original(response).result
            fleet = backend.fleets[answer["FleetId"]]
            fleet.launch_template_configs = configurations  # as they were given, for DescribeFleets
            return ActionResult({**answer, "Errors": fleet.errors} if fleet.fleet_type == "instant" else answer)

        return once(response, "CreateFleet", work)

    @patch(MotoFleet.create_on_demand_requests)
    def create_on_demand_requests(self, fleet: Any, weight_to_add: float) -> None:
        """Launch a fleet's on-demand part."""
        for instance, spec in self._launch_for(fleet, weight_to_add, "on-demand"):
            fleet.on_demand_instances.append({"id": instance.id, "instance": instance, "launch_spec": spec})

    @patch(MotoFleet.create_spot_requests)
    def create_spot_requests(self, fleet: Any, weight_to_add: float) -> list[Any]:
        """Launch a fleet's spot part."""
        for instance, spec in self._launch_for(fleet, weight_to_add, "spot"):
            fleet.spot_requests += _spot_requests(fleet.ec2_backend, [instance], {"Type": "one-time"}, spec)
        return list(fleet.spot_requests)

    def _launch_for(self, fleet: Any, weight: float, lifecycle: str) -> list[tuple[Any, Any]]:
        """Launch what a capacity takes: of one specification, or of each in turn where spot capacity is diversified."""
        specs = list(fleet.launch_specs)
        if lifecycle != "spot" or (fleet.spot_options or {}).get("AllocationStrategy") != "diversified":
            return self._launch_first(fleet, specs, weight, lifecycle)
        launched: list[tuple[Any, Any]] = []
        smallest = min(spec.weighted_capacity for spec in specs)
        while weight > 0 and (one := self._launch_first(fleet, specs, min(weight, smallest), lifecycle)):
            ((_, used),) = one
            launched += one
            weight -= used.weighted_capacity
            place = specs.index(used) + 1
            specs = [*specs[place:], *specs[:place]]
        return launched

    def _launch_first(self, fleet: Any, specs: list[Any], weight: float, lifecycle: str) -> list[tuple[Any, Any]]:
        """Launch what a capacity takes by the first specification that can be launched; the others' errors are kept."""
        errors = vars(fleet).setdefault("errors", [])
        for spec in specs:
            template = {name: spec.launch_template_spec.get(name) for name in ("LaunchTemplateId", "Version")}
            override = spec.overrides or {}
            request = {name: override[name] for name in _PARAMETERS if override.get(name)}
            tags = {"instance": spec.tag_specifications.get("instance", {})}
            request |= {"LaunchTemplate": template, "TagSpecifications": tag_specifications(tags)}
            count = math.ceil(weight / spec.weighted_capacity)
            inner = {"lifecycle": "spot"} if lifecycle == "spot" else {}
            try:
                request = _placed(settle(fleet.ec2_backend, request), None, override.get("AvailabilityZone"))
                reservation = self._launches.launch(fleet.ec2_backend, request, count, fleet_id=fleet.id, **inner)
            except ServiceException as error:
                where = {"LaunchTemplateSpecification": spec.launch_template_spec, "Overrides": override}
                said = {"LaunchTemplateAndOverrides": where, "Lifecycle": lifecycle,
                        "ErrorCode": error.code, "ErrorMessage": error.message}  # fmt: skip
                errors += [] if said in errors else [said]
                continue
            fleet.fulfilled_capacity += count * spec.weighted_capacity
            return [(instance, spec) for instance in reservation.instances]
        return []

    @patch(SpotInstances.request_spot_instances)
    def request_spot_instances(self, response: Any) -> ActionResult:
        """RequestSpotInstances: fulfilled at once, with all of the launch specification."""

        def work() -> ActionResult:
            backend, specification = response.ec2_backend, response._get_param("LaunchSpecification") or {}
            count = int(response._get_param("InstanceCount") or 1)
            response.error_on_dryrun()
            reservation = self._launches.launch(backend, specification, count, lifecycle="spot")
            tags = response._parse_tag_specification()
            requests = _spot_requests(backend, reservation.instances, dict(response.params), tags=tags)
            return ActionResult({"SpotInstanceRequests": requests})

        answer: ActionResult = once(response, "RequestSpotInstances", work)
        return answer

    @patch(SpotInstanceRequest.launch_instance)
    def launch_instance(self, request: Any) -> Any:
        """Return the instance of a spot request: the one that was launched for it, else (a spot fleet's) a new one."""
        if isinstance(request.launch_spec, _Launched):
            launched, request.launch_spec = request.launch_spec, request.launch_spec.specification
            return launched.instance
        given = request.launch_specification
        specification = {
            "ImageId": given.image_id, "InstanceType": given.instance_type, "KeyName": given.key_name,
            "SubnetId": given.subnet_id, "UserData": request.user_data,
            "SecurityGroupIds": [group.id for group in given.groups],
            "TagSpecifications": tag_specifications({"instance": request.all_tags.get("instance", {})}),
        }  # fmt: skip
        inner = {"lifecycle": "spot", "spot_fleet_id": request.spot_fleet_id}
        return self._launches.launch(request.ec2_backend, specification, 1, **inner).instances[0]

    @patch(FakeAutoScalingGroup._set_launch_configuration, wraps=True)
    def set_launch_configuration(self, original: Any, group: Any, *arguments: Any, **given: Any) -> None:
        """Note what a group launches; a template that does not exist is refused in the service's own words."""
        try:
            original(group, *arguments, **given)
        except EC2ClientError as error:
            raise _not_fully_formed(error) from error

    @patch(FakeAutoScalingGroup.replace_autoscaling_group_instances)
    def replace_autoscaling_group_instances(
        self, group: Any, count_needed: int, propagated_tags: dict[str, str]
    ) -> None:
        """Launch a group's instances, one after the other in its subnets or zones, by its template's own version."""
        backend, launched = group.ec2_backend, []
        tags = {"instance": {**propagated_tags, ASG_NAME_TAG: group.name}}
        subnets = [each.strip() for each in (group.vpc_zone_identifier or "").split(",") if each.strip()]
        try:
            wanted = settle(backend, {**_of_group(group), "TagSpecifications": tag_specifications(tags)})
            if "InstanceType" not in wanted and "InstanceRequirements" in wanted:
                wanted["InstanceType"] = fitting_type(backend, wanted["ImageId"], wanted["InstanceRequirements"])
            for number in range(len(group.instance_states), len(group.instance_states) + count_needed):
                subnet = subnets[number % len(subnets)] if subnets else None
                zone = None if subnets else group.availability_zones[number % len(group.availability_zones)]
                launched += self._launches.launch(backend, _placed(wanted, subnet, zone), 1).instances
        except ServiceException as error:
            for instance in launched:
                instance.terminate()
            if group.name in group.autoscaling_backend.autoscaling_groups:
                # AWS answers at once and says it in the group's activities.
                log.warning("%s can't launch: %s", group.name, error)
                return
            raise _not_fully_formed(error) from error
        for instance in launched:
            instance.autoscaling_group = group
            protected = group.new_instances_protected_from_scale_in
            group.instance_states.append(InstanceState(instance, protected_from_scale_in=protected))


@patch(FakeLaunchConfiguration.create_from_instance, wraps=True)
def launch_configuration_of(original: Any, name: str, instance: Any, backend: Any) -> Any:
    """Make the launch configuration of a group that is made of an instance, with its groups' ids.

    It is called on the class. Names, which moto takes, are the default VPC's alone.
    """
    made = original(name, instance, backend)
    made.security_groups = [group.id for group in instance.security_groups]
    return made


def _with_types(backend: Any, configuration: dict[str, Any]) -> dict[str, Any]:
    """Return a fleet's configuration whose overrides all name an instance type. Raises ApiError."""
    named = configuration.get("LaunchTemplateSpecification") or {}
    template = template_of(backend, named)
    data = template.get_version(named.get("Version") or "$Default").data
    overrides = []
    for override in configuration.get("Overrides") or [{}]:
        merged = overlaid(data, override)
        if "ImageId" not in merged:
            raise _missing("ImageId")
        if "InstanceType" not in merged or ("InstanceRequirements" in override and "InstanceType" not in override):
            if "InstanceRequirements" not in merged:
                raise _missing("InstanceType")
            image = settle(backend, {"ImageId": merged["ImageId"]})["ImageId"]
            merged["InstanceType"] = fitting_type(backend, image, merged["InstanceRequirements"])
        overrides.append({**override, "InstanceType": merged["InstanceType"]})
    return {**configuration, "Overrides": overrides}


def _placed(request: Request, subnet: str | None, zone: str | None) -> Request:
    """Return a settled request that goes to a subnet or a zone, where its caller says so."""
    subnet = subnet or request.get("SubnetId")
    if zone:
        request = {**request, "Placement": {**(request.get("Placement") or {}), "AvailabilityZone": zone}}
    if not subnet:
        return request
    interfaces = request.get("NetworkInterfaces")
    if not interfaces:
        return {**request, "SubnetId": subnet}
    first, *others = interfaces
    return {**{name: value for name, value in request.items() if name != "SubnetId"},
            "NetworkInterfaces": [{**first, "SubnetId": subnet}, *others]}  # fmt: skip


def _of_group(group: Any) -> Request:
    """Return what an Auto Scaling group launches, by its template's version or its launch configuration."""
    if group.ec2_launch_template:
        version = group.launch_template_version or "$Default"
        request: Request = {"LaunchTemplate": {"LaunchTemplateId": group.ec2_launch_template.id, "Version": version}}
        overrides = ((group.mixed_instances_policy or {}).get("LaunchTemplate") or {}).get("Overrides") or [{}]
        named = overrides[0].get("LaunchTemplateSpecification")
        return {**request, **({"LaunchTemplate": named} if named else {}),
                **{name: overrides[0][name] for name in _PARAMETERS if overrides[0].get(name)}}  # fmt: skip
    given = group.launch_config
    profile = given.iam_instance_profile
    groups = list(given.security_groups)
    request = {
        "ImageId": given.image_id, "InstanceType": given.instance_type, "KeyName": given.key_name,
        "UserData": given.user_data, "BlockDeviceMappings": given.block_device_mapping_dict or [],
        "IamInstanceProfile": {"Arn" if str(profile).startswith("arn:") else "Name": profile} if profile else {},
        "MetadataOptions": given.metadata_options or {}, "EbsOptimized": bool(given.ebs_optimized),
        "Monitoring": {"Enabled": bool(given.instance_monitoring_enabled)},
    }  # fmt: skip
    if given.associate_public_ip_address is None:
        ids = [each for each in groups if each.startswith("sg-")]
        return {**request, "SecurityGroupIds": ids, "SecurityGroups": [each for each in groups if each not in ids]}
    interface = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": bool(given.associate_public_ip_address),
        "Groups": groups,
    }
    return {**request, "NetworkInterfaces": [interface]}


def _spot_requests(
    backend: Any, instances: list[Any], given: Request, specification: Any = None, tags: dict[str, Any] | None = None
) -> list[Any]:
    """Make the spot requests that have led to these instances."""
    requests = []
    for instance in instances:
        requests += backend.request_spot_instances(
            price=given.get("SpotPrice"), image_id=instance.image_id, count=1,
            spot_instance_type=given.get("Type") or "one-time", valid_from=given.get("ValidFrom"),
            valid_until=given.get("ValidUntil"), launch_group=given.get("LaunchGroup"),
            availability_zone_group=given.get("AvailabilityZoneGroup"), key_name=instance.key_name,
            security_groups=[group.id for group in instance.security_groups], user_data=instance.user_data,
            instance_type=instance.instance_type, placement=instance.availability_zone, kernel_id=None,
            ramdisk_id=None, monitoring_enabled=instance.monitored, subnet_id=instance.subnet_id, tags=tags or {},
            instance_interruption_behaviour=given.get("InstanceInterruptionBehavior"),
            launch_spec=_Launched(instance, specification),
        )  # fmt: skip
        instance.spot_instance_request_id = requests[-1].id
    return requests


def _not_fully_formed(error: ServiceException) -> AutoscalingClientError:
    reason = f"You must use a valid fully-formed launch template. {error.message}"
    return AutoscalingClientError("ValidationError", reason)


def _missing(name: str) -> ApiError:
    return ApiError("MissingParameter", f"The request must contain the parameter {name}")
