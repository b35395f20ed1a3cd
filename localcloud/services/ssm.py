"""SSM's Run Command without an agent in the machine: the cloud enters it and runs the script itself.

`AWS-RunShellScript` runs as root with the machine's own /bin/sh. A machine is Online as with the real agent: while its
amazon-ssm-agent.service is active; an image without such a unit counts as Online once its basic system is up. Whether
the instance's role allows it is not checked.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ssm.models import Command, SimpleSystemManagerBackend
from moto.ssm.responses import SimpleSystemManagerResponse

from localcloud.api.patches import ApiError, add, in_background, patch
from localcloud.ec2.fleet import Fleet
from localcloud.faults.injection import Faults
from localcloud.machine.interface import Ran
from support.errors import Error

_DOCUMENT = "AWS-RunShellScript"
# What GetCommandInvocation shows at most.
_SHOWN = 24000
_UNITS = ("amazon-ssm-agent.service", "basic.target")
_DEFAULT_SECONDS = "3600"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
# The script is a file in the machine as with the real agent: its stdin is not the script's own.
_RUNNER = 'f=$(mktemp) && cat >"$f" && cd "${1:-/}" && /bin/sh "$f" </dev/null; r=$?; rm -f "$f"; exit $r'


def is_online(unit_properties: str) -> bool:
    """Read `systemctl show` of _UNITS: the agent decides where there is one, else the basic system."""
    blocks = unit_properties.split("\n\n")
    units = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    if len(units) != len(_UNITS):
        return False  # its init does not answer yet
    agent, basic = units
    decisive = agent if agent.get("LoadState") == "loaded" else basic
    return decisive.get("ActiveState") in {"active", "reloading"}


class Agent:
    """moto's commands, which really run in the fleet's machines."""

    def __init__(self, fleet: Fleet, faults: Faults) -> None:
        self._fleet = fleet
        self._faults = faults

    def online(self, instance_id: str) -> bool:
        """Say whether a command could run there now."""
        if not self._fleet.known(instance_id):
            return False
        machine = self._fleet.instance(instance_id).machine
        try:
            ran = machine.run(["systemctl", "show", "--property=LoadState,ActiveState", *_UNITS], timeout=5)
        except Error:
            return False
        return is_online(ran.stdout)

    @patch(Command._get_instance_ids_from_targets)
    def target_instances(self, command: Any) -> list[str]:
        """Return the running instances that a new command's targets name, by their ids or by EC2's filters.

        moto takes no targets for all instances, and InstanceIds for no target. Raises ApiError when one of the
        command's instances is not online, and when there is none.
        """
        targets = {target["Key"]: target["Values"] for target in command.targets}
        ids = [name for key in list(targets) if key.lower() == "instanceids" for name in targets.pop(key)]
        if targets:
            targets["instance-state-name"] = ["running"]
            reservations = ec2_backends[command.account_id][command.backend_region].all_reservations(filters=targets)
            ids += [instance.id for reservation in reservations for instance in reservation.instances]
        if not command.instance_ids + ids:
            raise ApiError("InvalidInstanceId", "No instance is named, and no running one matches the targets.")
        for instance_id in command.instance_ids + ids:
            if not self.online(instance_id):
                raise ApiError("InvalidInstanceId", f"Instances [[{instance_id}]] not in a valid state for account")
            if code := self._faults.unregistered(instance_id):
                raise ApiError(code, f"{instance_id} has not registered yet")
        return ids

    @patch(SimpleSystemManagerBackend.send_command, wraps=True)
    def send_command(self, original: Any, backend: Any, **given: Any) -> Any:
        """Start a command on instances; return at once."""
        if given["document_name"] != _DOCUMENT:
            raise ApiError("InvalidDocument", f"The local cloud runs {_DOCUMENT} only, not {given['document_name']}.")
        if not given["parameters"].get("commands"):
            raise ApiError("InvalidParameters", "Missing required parameter: commands")
        command = original(backend, **given)
        for invocation in command.invocations:
            _update(command, invocation, "Pending", ResponseCode=-1, ExecutionElapsedTime="", ExecutionEndDateTime="")
        for invocation in command.invocations:
            in_background(f"command on {invocation['InstanceId']}", partial(self._run, command, invocation))
        return command

    def _run(self, command: Any, invocation: dict[str, Any]) -> None:
        started = utcnow()
        _update(command, invocation, "InProgress", ExecutionStartDateTime=started.strftime(_TIME))
        script = "\n".join(command.parameters["commands"]) + "\n"
        directory = (command.parameters.get("workingDirectory") or [""])[0]
        seconds = float((command.parameters.get("executionTimeout") or [_DEFAULT_SECONDS])[0])
        try:
            machine = self._fleet.instance(invocation["InstanceId"]).machine
            ran = machine.run(["/bin/sh", "-c", _RUNNER, "sh", directory], input=script, timeout=seconds)
        except Error as error:
            ran = Ran(255, "", str(error))
        ended = utcnow()
        _update(
            command,
            invocation,
            "TimedOut" if ran.timed_out else "Failed" if ran.returncode else "Success",
            ResponseCode=ran.returncode,
            StandardOutputContent=ran.stdout[:_SHOWN],
            StandardErrorContent=ran.stderr[:_SHOWN],
            ExecutionElapsedTime=f"PT{(ended - started).total_seconds():.3f}S",
            ExecutionEndDateTime=ended.strftime(_TIME),
        )

    @add(SimpleSystemManagerResponse)
    def describe_instance_information(self, response: Any) -> ActionResult:
        """DescribeInstanceInformation: the machines that are online."""
        wanted = {
            value
            for each in response._get_param("Filters", []) + response._get_param("InstanceInformationFilterList", [])
            if str(each.get("Key") or each.get("key")).lower() == "instanceids"
            for value in each.get("Values") or each.get("valueSet") or []
        }
        rows = [
            {
                "InstanceId": instance.id,
                "PingStatus": "Online",
                "LastPingDateTime": utcnow(),
                "AgentVersion": "3.3.0.0",
                "IsLatestVersion": True,
                "PlatformType": "Linux",
                "PlatformName": "Amazon Linux",
                "PlatformVersion": "2023",
                "ResourceType": "EC2Instance",
                "IPAddress": instance.private_ip,
                "ComputerName": instance.private_dns_name,
            }
            for instance in ec2_backends[response.current_account][response.region].all_instances()
            if (not wanted or instance.id in wanted) and self.online(instance.id)
        ]
        return ActionResult({"InstanceInformationList": rows})


def _update(command: Any, invocation: dict[str, Any], status: str, **changes: Any) -> None:
    """Change an invocation, and with it the command's status: unfinished as long as one of its invocations is."""
    invocation.update(Status=status, StatusDetails=status, **changes)
    statuses = [each["Status"] for each in command.invocations]
    worst = next(each for each in ("Pending", "InProgress", "TimedOut", "Failed", "Success") if each in statuses)
    command.status = command.status_details = "InProgress" if worst == "Pending" else worst
    command.error_count = statuses.count("TimedOut") + statuses.count("Failed")
    command.completed_count = command.error_count + statuses.count("Success")


@patch(SimpleSystemManagerBackend.get_command_by_id)
def get_command_by_id(backend: Any, command_id: str) -> Any:
    """Return a command. Raises ApiError (InvalidCommandId for what is no id, InvocationDoesNotExist)."""
    if not _ID.fullmatch(command_id):
        raise ApiError("InvalidCommandId", f"{command_id} is no id of a command.")
    command = next((each for each in backend._commands if each.command_id == command_id), None)
    if command is None:
        raise ApiError("InvocationDoesNotExist", "")
    return command


@add(SimpleSystemManagerResponse)
def list_command_invocations(response: Any) -> ActionResult:
    """ListCommandInvocations, with their plugins when details are asked for."""
    instance_id = response._get_param("InstanceId")
    rows = []
    for command in response.ssm_backend.list_commands(response._get_param("CommandId"), instance_id):
        for invocation in command.invocations:
            if instance_id in {None, invocation["InstanceId"]}:
                output = invocation["StandardOutputContent"] + invocation["StandardErrorContent"]
                plugin = {"Name": invocation["PluginName"], **invocation, "Output": output[:2500]}
                plugins = [plugin] if response._get_bool_param("Details", False) else []
                rows.append({**invocation, "RequestedDateTime": command.requested_date_time, "CommandPlugins": plugins})
    return ActionResult({"CommandInvocations": rows})
