"""EC2 instances that run: RunInstances to TerminateInstances over the fleet, with EC2's states.

A call records the transitional state and returns; the machine's part happens in a thread, one operation per instance
at a time. A machine that can't boot ends as `terminated` with a StateReason, never as a hanging `pending`.
"""

from __future__ import annotations

import base64
import copy
import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceState, StateReason
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse

from localcloud.api.patches import ApiError, in_background, patch
from localcloud.ec2.fleet import Attachment, Fleet
from localcloud.ended import note_end
from localcloud.faults.injection import Faults
from localcloud.settings import ACCOUNT
from support.errors import Error

log = logging.getLogger(__name__)
CONSOLE_BYTES = 64 << 10
_SSH_SECONDS = 4.0
_moto_s_terminate = Instance.terminate
_moto_s_association: Any = NetworkInterface.association
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

    def begin(self, instance: Any) -> None:
        """Boot the machine of an instance that has just been launched."""
        self._enter(instance, "pending")
        in_background(f"boot {instance.id}", partial(self._boot, instance, "terminated"))

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
                    self._halt(instance, _USER, power_cut=power_cut)

        in_background(f"stop {instance.id}", work)
        return previous

    @patch(Instance.terminate)
    def terminate(self, instance: Any) -> Any:
        """TerminateInstances: to shutting-down, then terminated; volumes go or stay as they are told to."""
        previous = copy.copy(instance._state)
        if previous.name in {"shutting-down", "terminated"}:
            return previous
        self._enter(instance, "shutting-down", _USER)

        def work() -> None:
            with self._fleet.in_turn(instance.id):
                self._take_away(instance)
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
                    self._enter(instance, "shutting-down")
                    self._take_away(instance)
                self._enter(instance, state_after_failure, _failure(error))
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
            if instance._state.name in {"running", "pending"}:
                self._halt(instance, _ITSELF)

    def _take_away(self, instance: Any) -> None:
        """Take an instance's machine, volumes and interfaces away. What can't be goes with the cloud."""
        # moto's own terminate detaches volumes, deletes those that go with the instance, and frees its interface.
        for step in (self._fleet.halt, self._fleet.destroy, lambda _id: _moto_s_terminate(instance)):
            try:
                step(instance.id)
            except Exception:
                # The instance must not hang in shutting-down for it.
                log.exception("%s could not be taken away cleanly", instance.id)
        for interface in instance.nics.values():
            if interface.id in instance.ec2_backend.enis:  # it stays
                interface.instance = interface.attachment_id = interface.attach_time = None
                interface.status = "available"

    def _halt(self, instance: Any, reason: StateReason, *, power_cut: bool = False) -> None:
        """Stop an instance's machine. Whatever that raises, the instance is stopped then, and can be started again."""
        try:
            self._fleet.halt(instance.id, power_cut=power_cut)
        except Exception as error:
            log.exception("%s could not be stopped cleanly", instance.id)
            reason = _failure(error)
            try:
                self._fleet.halt(instance.id, power_cut=True)
            except Exception:
                log.exception("%s could not be cut off", instance.id)
        self._enter(instance, "stopped", reason)

    def _enter(self, instance: Any, state: str, reason: StateReason | None = None) -> None:
        instance._state = InstanceState(state, CODES[state])
        if state in {"running", "stopped"}:
            for interface in instance.nics.values():
                interface.start() if state == "running" else interface.stop()
        if state == "terminated":
            note_end(instance)
        if reason is not None:
            instance.state_reason = reason
            stamp = utcnow().strftime("%Y-%m-%d %H:%M:%S UTC")
            instance._reason = f"User initiated ({stamp})" if reason is _USER else reason.message
        self._fleet.note(instance.id, state)


def _failure(error: Exception) -> StateReason:
    summary = error.summary if isinstance(error, Error) else repr(error)
    return StateReason(f"Server.InternalError: {summary}", "Server.InternalError")


@patch(NetworkInterface.association)
def association(interface: Any) -> Any:
    """Return an interface's public address with what belongs to it, None without one; moto says {} then."""
    return _moto_s_association.fget(interface) if interface.public_ip else None


def _expect(instance: Any, state: str, verb: str) -> None:
    if instance._state.name != state:
        raise ApiError(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is not in a state from which it can be {verb}.",
        )


@patch(InstanceResponse.stop_instances)
def stop_instances(response: Any) -> ActionResult:
    """StopInstances with Force, which moto does not know."""
    response.error_on_dryrun()
    ids = response._get_param("InstanceIds", [])
    for instance in response.ec2_backend.get_multi_instances_by_id(ids):
        instance.force_stop = bool(response._get_param("Force", False))
    return _changed("StoppingInstances", response.ec2_backend.stop_instances(ids), {"stopped": "stopped"}, "stopping")


@patch(InstanceResponse.start_instances)
def start_instances(response: Any) -> ActionResult:
    """StartInstances, where a running one stays so."""
    response.error_on_dryrun()
    started = response.ec2_backend.start_instances(response._get_param("InstanceIds", []))
    return _changed("StartingInstances", started, {"running": "running"}, "pending")


@patch(InstanceResponse.terminate_instances, wraps=True)
def terminate_instances(original: Any, response: Any) -> ActionResult:
    """TerminateInstances, where a terminated one stays so."""
    rows = original(response).result["TerminatingInstances"]
    before = [(SimpleNamespace(id=row["InstanceId"]), row["PreviousState"]) for row in rows]
    return _changed("TerminatingInstances", before, {"terminated": "terminated"}, "shutting-down")


def _changed(name: str, instances: list[Any], stays: dict[str, str], becomes: str) -> ActionResult:
    """Return the answer of a call that changes states, by the instances and their states before."""
    rows = []
    for instance, previous in instances:
        state = stays.get(previous.name, becomes)
        rows.append(
            {
                "InstanceId": instance.id,
                "CurrentState": {"Code": CODES[state], "Name": state},
                "PreviousState": previous,
            }
        )
    return ActionResult({name: rows})
