"""RunInstances: all of a launch or nothing of it, for whoever launches.

moto writes a reservation first and then makes what it holds, so that a launch which fails halfway leaves an instance
that runs without a machine. Here everything is looked at before anything is made (rules.py), and what was made of a
launch that fails all the same is taken back. Whatever else of moto launches (groups, fleets, spot requests, stacks)
comes through here too.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.instances import Instance, InstanceBackend, MetadataOptions
from moto.ec2.responses.instances import InstanceResponse

from localcloud.api.patches import ApiError, patch
from localcloud.ec2.fleet import Fleet
from localcloud.ec2.image_attributes import note_launch
from localcloud.ec2.launch import rules
from localcloud.ec2.launch.rules import Launch, Request
from localcloud.ec2.launch.templates import settle
from localcloud.ec2.launch.tokens import once
from localcloud.net.network import AddressRefused
from support.errors import Error

log = logging.getLogger(__name__)
_moto_s = InstanceBackend.run_instances
_IMDS_V2 = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
# What moto's own callers say that no request has.
_INNER = ("fleet_id", "lifecycle", "spot_fleet_id")


class Launches:
    """Launches into a fleet; `begin` takes a complete instance over and boots its machine."""

    def __init__(self, fleet: Fleet, begin: Callable[[Any], None]) -> None:
        self._fleet = fleet
        self._begin = begin
        self._lock = threading.Lock()

    @patch(InstanceResponse.run_instances)
    def run(self, response: Any) -> ActionResult:
        """RunInstances; a call that repeats a client token launches nothing more."""
        answer: ActionResult = once(response, "RunInstances", lambda: self._run(response))
        return answer

    def _run(self, response: Any) -> ActionResult:
        launch = rules.check(response.ec2_backend, settle(response.ec2_backend, dict(response.params)))
        response.error_on_dryrun()
        return ActionResult(_as_answered(self._launch(response.ec2_backend, launch)))

    @patch(InstanceBackend.run_instances)
    def run_instances(
        self, backend: Any, image_id: str, count: int, user_data: Any, security_group_names: list[Any], **given: Any
    ) -> Any:
        """Launch for moto's stacks, in its words."""
        groups = [*security_group_names, *(given.get("security_group_ids") or [])]
        request = {
            "ImageId": image_id, "InstanceType": given.get("instance_type"), "KeyName": given.get("key_name"),
            "SubnetId": given.get("subnet_id"), "PrivateIpAddress": given.get("private_ip"), "UserData": user_data,
            "SecurityGroupIds": [getattr(each, "id", each) for each in groups],
            "BlockDeviceMappings": given.get("block_device_mappings"),
            "TagSpecifications": tag_specifications(given.get("tags") or {}),
        }  # fmt: skip
        return self.launch(backend, request, count, **{name: given[name] for name in _INNER if name in given})

    def launch(self, backend: Any, request: Request, count: int, **inner: Any) -> Any:
        """Launch `count` instances as a request of RunInstances says; `inner` is what moto notes of who asked.

        Returns moto's reservation. Raises ApiError, or moto's errors: then nothing was made.
        """
        request = {**request, "MinCount": count, "MaxCount": count}
        return self._launch(backend, rules.check(backend, settle(backend, request)), **inner)

    def _launch(self, backend: Any, launch: Launch, **inner: Any) -> Any:
        least, most = launch.counts
        room = min(self._fleet.room(), launch.subnet.available_ip_address_count)
        if room < least:
            raise ApiError(
                "InsufficientFreeAddressesInSubnet",
                "The specified subnet does not have enough free addresses to satisfy the request.",
            )
        # One launch at a time: whatever of moto's state is new when one fails is that one's.
        with self._lock, self._all_or_nothing(backend, launch.subnet):
            reservation = _moto_s(backend, launch.image.id, min(room, most), launch.user_data, [],
                                  **_arguments(backend, launch), **inner)  # fmt: skip
            for instance in reservation.instances:
                self._complete(backend, instance, launch)
        note_launch(launch.image)
        for instance in reservation.instances:
            self._begin(instance)
        return reservation

    def _complete(self, backend: Any, instance: Any, launch: Launch) -> None:
        """Give an instance what moto does not: a machine, its address, its volumes as they were asked for."""
        instance.cpu_credits = launch.cpu_credits
        instance.key_pair = backend.key_pairs.get(instance.key_name)
        defaults = _IMDS_V2 if launch.image.imds_support == "v2.0" else {}
        options = launch.request.get("MetadataOptions") or {}
        instance.metadata_options = MetadataOptions({**defaults, **options})
        machine = self._fleet.create(instance.id, launch.image.id, launch.size, launch.address)
        _set_address(instance, machine.spec.interface.address, machine.spec.interface.mac, public=launch.public)
        for mapping in launch.volumes:
            _make_volume(backend, instance, mapping["DeviceName"], mapping["Ebs"], launch.tags.get("volume", {}))
        for interface in instance.nics.values():
            interface.add_tags(launch.tags.get("network-interface", {}))
        if launch.profile is not None:
            backend.associate_iam_instance_profile(instance_id=instance.id, iam_instance_profile_arn=launch.profile.arn)

    @contextlib.contextmanager
    def _all_or_nothing(self, backend: Any, subnet: Any) -> Iterator[None]:
        reservations, interfaces = set(backend.reservations), set(backend.enis)
        existing = {name: (nic.private_ip_address, nic.mac_address) for name, nic in backend.enis.items()}
        try:
            yield
        except BaseException as error:
            made = [backend.reservations.pop(name) for name in set(backend.reservations) - reservations]
            instances = [instance for reservation in made for instance in reservation.instances]
            for instance in instances:
                self._undo(backend, instance)
            ours = {id(instance) for instance in instances}
            known = {id(one) for each in list(backend.reservations.values()) for one in each.instances}
            for name, interface in list(backend.enis.items()):
                holder = interface.instance
                if holder is None or (id(holder) in known and id(holder) not in ours):
                    continue
                if name not in interfaces:
                    del backend.enis[name]
                    backend.tags.pop(name, None)
                elif holder is not None:
                    holder.detach_eni(interface)
                    interface.private_ip_address, interface.mac_address = existing[name]
            for address, holder in list(subnet._subnet_ips.items()):
                if isinstance(holder, Instance) and id(holder) not in known:
                    subnet.del_subnet_ip(address)
            raise _api_error(error) from error

    def _undo(self, backend: Any, instance: Any) -> None:
        """Take away what an instance has by now. Nothing of it is to hinder the rest."""
        volumes = [(device, mapped.volume_id) for device, mapped in instance.get_block_device_mapping]
        steps = [partial(_drop_volume, backend, instance, device, volume_id) for device, volume_id in volumes]
        if self._fleet.known(instance.id):
            steps.append(partial(self._fleet.discard, instance.id))
        for step in steps:
            try:
                step()
            except Exception:
                log.exception("something of %s, whose launch failed, stays", instance.id)
        backend.iam_instance_profile_associations.pop(instance.id, None)
        backend.tags.pop(instance.id, None)


def _as_answered(reservation: Any) -> Any:
    """Return a new reservation as RunInstances' answer has it: pending, and without public addresses yet."""
    answer = copy.copy(reservation)
    answer.instances = [copy.copy(instance) for instance in reservation.instances]
    for instance in answer.instances:
        instance.nics = {number: copy.copy(interface) for number, interface in instance.nics.items()}
        for interface in instance.nics.values():
            interface.public_ip = None
    return answer


def _arguments(backend: Any, launch: Launch) -> dict[str, Any]:
    """Return moto's arguments for a launch: no volumes, which are made with all that was asked of them afterwards."""
    request, placement = launch.request, launch.request.get("Placement") or {}
    return {
        "instance_type": launch.instance_type,
        "is_instance_type_default": False,
        "placement": launch.subnet.availability_zone,
        "placement_hostid": placement.get("HostId"),
        "region_name": backend.region_name,
        "subnet_id": launch.subnet.id,
        "key_name": request.get("KeyName"),
        "security_group_ids": launch.groups,
        "nics": launch.interfaces,
        "associate_public_ip": False,
        "tags": {"instance": launch.tags.get("instance", {})},
        "ebs_optimized": bool(request.get("EbsOptimized")),
        "disable_api_stop": bool(request.get("DisableApiStop")),
        "disable_api_termination": bool(request.get("DisableApiTermination")),
        "instance_market_options": (request.get("InstanceMarketOptions") or {}).get("MarketType"),
        "instance_initiated_shutdown_behavior": request.get("InstanceInitiatedShutdownBehavior"),
        "hibernation_options": request.get("HibernationOptions") or {},
        "monitoring_state": "enabled" if (request.get("Monitoring") or {}).get("Enabled") else "disabled",
        "ipv6_address_count": request.get("Ipv6AddressCount"),
        "client_token": request.get("ClientToken", ""),
        "block_device_mappings": [],
    }


def _make_volume(backend: Any, instance: Any, device: str, ebs: dict[str, Any], tags: dict[str, str]) -> None:
    volume = backend.create_volume(
        size=ebs["VolumeSize"],
        zone_name=instance.availability_zone,
        snapshot_id=ebs["SnapshotId"],
        encrypted=ebs["Encrypted"],
        kms_key_id=ebs["KmsKeyId"],
        volume_type=ebs["VolumeType"],
        iops=ebs["Iops"],
        throughput=ebs["Throughput"],
    )
    try:
        backend.attach_volume(volume.id, instance.id, device, ebs["DeleteOnTermination"])
        volume.add_tags(tags)
    except BaseException:
        _drop_volume(backend, instance, device, volume.id)
        raise


def _drop_volume(backend: Any, instance: Any, device: str, volume_id: str) -> None:
    instance.block_device_mapping.pop(device, None)
    backend.get_volume(volume_id).attachment = None
    backend.delete_volume(volume_id)
    backend.tags.pop(volume_id, None)


def _set_address(instance: Any, address: str, mac: str, *, public: bool) -> None:
    """Show the machine's real address wherever moto would show an invented one.

    There is one network: the private address is also the public one, as it is where Packer's host can reach it. It is
    public while the instance runs, and not in RunInstances' answer yet, as on AWS.
    """
    interface = instance.nics[0]
    for taken in instance._private_ips:
        interface.subnet.del_subnet_ip(taken)  # no instance has it
    instance._private_ips.clear()
    interface.private_ip_address = address
    interface.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
    if hasattr(interface, "private_dns_name"):
        interface.private_dns_name = instance.private_dns_name
        interface.private_ip_addresses[0]["PrivateDnsName"] = instance.private_dns_name
    interface.mac_address = mac
    interface.public_ip = None

    # moto's would invent another public address on each start.
    def start() -> None:
        interface.public_ip = interface.public_ip or (address if public else None)

    def stop() -> None:
        interface.public_ip = None if interface.public_ip == address else interface.public_ip

    interface.start, interface.stop = start, stop


def _api_error(error: BaseException) -> BaseException:
    if isinstance(error, AddressRefused):
        return ApiError(error.aws_code, error.summary)
    return ApiError("InternalError", error.summary) if isinstance(error, Error) else error


def tag_specifications(tags: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Return tags by the kind of what gets them (moto's form) as a request has them."""
    return [
        {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in own.items()]}
        for kind, own in tags.items()
    ]
