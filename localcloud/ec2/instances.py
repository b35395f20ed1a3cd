"""EC2 instances that run: RunInstances to TerminateInstances over the fleet, with EC2's states.

A call records the transitional state and returns; the machine's part happens in a thread, one operation per instance
at a time. A machine that can't boot ends as `terminated` with a StateReason, never as a hanging `pending`.
"""

from __future__ import annotations

import base64
import copy
import logging
from functools import partial
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceBackend, InstanceState, MetadataOptions, StateReason
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse

from localcloud.api.patches import ApiError, in_background, patch
from localcloud.ec2.block_devices import launch_mappings
from localcloud.ec2.fleet import Attachment, Fleet
from localcloud.ec2.image_attributes import note_launch
from localcloud.ec2.launch_rules import check_place, credits_of
from localcloud.ended import note_end
from localcloud.faults.injection import Faults
from localcloud.settings import ACCOUNT
from support.errors import Error

log = logging.getLogger(__name__)
CONSOLE_BYTES = 64 << 10
_SSH_SECONDS = 4.0
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
_USER = StateReason("Client.UserInitiatedShutdown: User initiated shutdown", "Client.UserInitiatedShutdown")
_ITSELF = StateReason(
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown", "Client.InstanceInitiatedShutdown"
)


def find_instance(instance_id: str) -> Any:
    """Return moto's instance of that id in any region, or None."""
    backends = list(ec2_backends[ACCOUNT].values())
    return next((instance for backend in backends if (instance := backend.get_instance_by_id(instance_id))), None)


def attachments(instance: Any) -> list[Attachment]:
    """Return the volumes of an instance that its machine sees: all but the root volume."""
    return [
        Attachment(mapped.volume_id, int(instance.ec2_backend.get_volume(mapped.volume_id).size), name)
        for name, mapped in instance.get_block_device_mapping
        if name != instance.root_device_name
    ]


class Instances:
    """moto's instances as the fleet's machines: their states, and what happens to their machines meanwhile."""

    def __init__(self, fleet: Fleet, faults: Faults) -> None:
        self._fleet = fleet
        self._faults = faults

    @patch(InstanceBackend.run_instances, wraps=True)
    def run_instances(self, original: Any, backend: Any, image_id: str, *arguments: Any, **given: Any) -> Any:
        """Launch instances, each with a machine that boots."""
        image = backend.describe_images(ami_ids=[image_id] if image_id else ["ami-"])[0]
        if image.state != "available":
            raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is not available")
        memory = _memory_bytes(given["instance_type"], image)
        check_place(backend, given)
        given["block_device_mappings"] = launch_mappings(image, given.pop("block_device_mappings", []))
        reservation = original(backend, image_id, *arguments, **given)
        note_launch(image)
        for instance in reservation.instances:
            if image.imds_support == "v2.0":
                defaults = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
                instance.metadata_options = MetadataOptions({**defaults, **(given.get("metadata_options") or {})})
            machine = self._fleet.create(instance.id, instance.image_id, memory)
            _set_address(instance, machine.spec.interface.address, machine.spec.interface.mac)
            self._enter(instance, "pending")
            in_background(f"boot {instance.id}", partial(self._boot, instance, "terminated"))
        return reservation

    @patch(Instance.start)
    def start(self, instance: Any) -> Any:
        """StartInstances: a stopped instance goes to pending, then running."""
        previous = copy.copy(instance._state)
        if previous.name not in {"running", "pending"}:
            _expect(instance, "stopped", "started")
            self._enter(instance, "pending", StateReason())
            instance.launch_time = utcnow()
            in_background(f"boot {instance.id}", partial(self._boot, instance, "stopped"))
        return previous

    @patch(Instance.stop)
    def stop(self, instance: Any) -> Any:
        """StopInstances: to stopping, then stopped. With Force, as EC2 has it: no flushing, a power cut."""
        previous = copy.copy(instance._state)
        power_cut = bool(getattr(instance, "force_stop", False))
        if previous.name in {"stopped", "stopping"} and not power_cut:
            return previous
        if previous.name in {"shutting-down", "terminated"}:
            _expect(instance, "running", "stopped")
        self._enter(instance, "stopping", _USER)

        def work() -> None:
            with self._fleet.in_turn(instance.id):
                if instance._state.name == "stopping":
                    self._fleet.halt(instance.id, power_cut=power_cut)
                    self._enter(instance, "stopped", _USER)

        in_background(f"stop {instance.id}", work)
        return previous

    @patch(Instance.terminate, wraps=True)
    def terminate(self, original: Any, instance: Any) -> Any:
        """TerminateInstances: to shutting-down, then terminated; volumes go or stay as they are told to."""
        previous = copy.copy(instance._state)
        if previous.name in {"shutting-down", "terminated"}:
            return previous
        self._enter(instance, "shutting-down", _USER)

        def work() -> None:
            with self._fleet.in_turn(instance.id):
                try:
                    self._fleet.halt(instance.id)
                    self._fleet.destroy(instance.id)
                except Exception:
                    # Whatever stayed goes with the cloud: the instance must not hang in shutting-down for it.
                    log.exception("%s could not be taken away cleanly", instance.id)
                self._fleet.note(instance.id, "terminated")
                # moto's own terminate detaches volumes, deletes those that go with the instance, frees its interface,
                # and shows the state.
                original(instance)
                self._enter(instance, "terminated", _USER)

        in_background(f"terminate {instance.id}", work)
        return previous

    @patch(Instance.reboot)
    def reboot(self, instance: Any) -> None:
        """RebootInstances: the machine reboots by its own init; EC2 shows `running` throughout."""
        _expect(instance, "running", "rebooted")

        def work() -> None:
            with self._fleet.in_turn(instance.id) as own:
                own.machine.reboot()

        in_background(f"reboot {instance.id}", work)

    @patch(General.get_console_output)
    def get_console_output(self, response: Any) -> ActionResult:
        """GetConsoleOutput: the newest 64 KiB of what the machine has written; with Latest on Nitro only."""
        instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
        if response._get_param("Latest", False) and INSTANCE_TYPES[instance.instance_type].get("Hypervisor") == "xen":
            raise ApiError("UnsupportedOperation", "This instance type does not support retrieving the latest output.")
        output = self._fleet.console(instance.id) if self._fleet.known(instance.id) else b""
        output = self._faults.console(instance.id, output)[-CONSOLE_BYTES:]
        text = base64.b64encode(output).decode()
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": text})

    def _boot(self, instance: Any, state_after_failure: str) -> None:
        with self._fleet.in_turn(instance.id):
            if instance._state.name != "pending":
                return  # stopped or terminated before its turn came
            try:
                self._fleet.boot(instance.id, attachments(instance), lambda: self._ended(instance))
                # EC2 says `running` many seconds after a machine's start, when most answer already. A machine here
                # starts at once: a client that tries SSH as soon as it reads `running` (Packer, which then sleeps for
                # 5 s) would always come too early.
                self._fleet.wait_for_ssh(instance.id, _SSH_SECONDS)
            except Exception as error:
                # Not only an Error: whatever it was, an instance must not hang in pending.
                log.exception("%s can't boot", instance.id)
                if state_after_failure == "terminated":
                    self._fleet.destroy(instance.id)
                summary = error.summary if isinstance(error, Error) else repr(error)
                reason = StateReason(f"Server.InternalError: {summary}", "Server.InternalError")
                self._enter(instance, state_after_failure, reason)
            else:
                if instance._state.name == "pending":
                    self._enter(instance, "running", StateReason())

    def _ended(self, instance: Any) -> None:
        """Stop or terminate an instance whose machine shut itself down, whichever the instance says."""
        if instance._state.name not in {"running", "pending"}:
            return
        if instance.instance_initiated_shutdown_behavior == "terminate":
            instance.terminate()
            return
        with self._fleet.in_turn(instance.id):
            self._fleet.halt(instance.id)
            self._enter(instance, "stopped", _ITSELF)

    def _enter(self, instance: Any, state: str, reason: StateReason | None = None) -> None:
        instance._state = InstanceState(state, CODES[state])
        if state == "terminated":
            note_end(instance)
        if reason is not None:
            instance.state_reason = reason
            stamp = utcnow().strftime("%Y-%m-%d %H:%M:%S UTC")
            instance._reason = f"User initiated ({stamp})" if reason is _USER else reason.message
        self._fleet.note(instance.id, state)


def _expect(instance: Any, state: str, verb: str) -> None:
    if instance._state.name != state:
        raise ApiError(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
        )


def _memory_bytes(instance_type: str, image: Any) -> int:
    """Return an instance type's memory. Raises ApiError for a type that does not exist or can't run the image."""
    if instance_type not in INSTANCE_TYPES:
        raise ApiError("InvalidInstanceType", f"The instance type '{instance_type}' does not exist")
    supported = INSTANCE_TYPES[instance_type]["ProcessorInfo"]["SupportedArchitectures"]
    if image.architecture not in supported:
        raise ApiError(
            "InvalidParameterValue",
            f"The architecture '{','.join(supported)}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI.",
        )
    return int(INSTANCE_TYPES[instance_type]["MemoryInfo"]["SizeInMiB"]) << 20


def _set_address(instance: Any, address: str, mac: str) -> None:
    """Show the machine's real address wherever moto would show an invented one.

    There is one network: the private address is also the public one, as it is where Packer's host can reach it.
    """
    interface = instance.nics[0]
    interface.private_ip_address = address
    interface.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
    interface.mac_address = mac
    interface.public_ip = address
    interface.stop = lambda: None  # moto would drop the public address on stop and invent another on start
    interface.start = lambda: None


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


@patch(InstanceResponse._parse_block_device_mapping)
def block_device_mappings(response: Any) -> Any:
    """Return a launch's mappings as they are: moto refuses a root volume without a size, which EC2 has of the image."""
    return response._get_param("BlockDeviceMappings", [])


@patch(InstanceResponse.run_instances, wraps=True)
def run_instances(original: Any, response: Any) -> Any:
    """RunInstances with CPU credits; a call that repeats a client token launches nothing more."""
    kind = response._get_param("InstanceType") or "m1.small"
    cpu_credits = credits_of(kind, response._get_param("CreditSpecification"))
    token = response._get_param("ClientToken")
    reservations = list(response.ec2_backend.reservations.values()) if token else []
    existing = next((one for one in reservations if one.instances[0].client_token == token), None)
    if existing:
        return ActionResult(existing)
    launched = original(response)
    for instance in launched.result.instances:
        instance.cpu_credits = cpu_credits
    return launched


@patch(InstanceResponse.stop_instances)
def stop_instances(response: Any) -> ActionResult:
    """StopInstances with Force, which moto does not know."""
    response.error_on_dryrun()
    ids = response._get_param("InstanceIds", [])
    for instance in response.ec2_backend.get_multi_instances_by_id(ids):
        instance.force_stop = bool(response._get_param("Force", False))
    rows = [
        {"InstanceId": instance.id, "CurrentState": {"Code": 64, "Name": "stopping"}, "PreviousState": previous}
        for instance, previous in response.ec2_backend.stop_instances(ids)
    ]
    return ActionResult({"StoppingInstances": rows})
