"""SSM's Run Command by a fake agent: there is no agent in the machine, the cloud enters it and runs the script itself.

`AWS-RunShellScript` runs as root with the machine's own /bin/sh. A machine is Online as with the real agent: while its
amazon-ssm-agent.service is active; an image without such a unit counts as Online once its basic system is up. Whether
the instance's role allows it is not checked.
"""

from __future__ import annotations

import datetime
import threading
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ssm.responses import SimpleSystemManagerResponse as Ssm

from localcloud.api.patches import ApiError, add, in_background, replace
from localcloud.ec2.fleet import Fleet
from localcloud.imds.instance_metadata import find_instance
from localcloud.machine.interface import Ran
from support.errors import Error

_DOCUMENT = "AWS-RunShellScript"
_PLUGIN = "aws:runShellScript"
# What GetCommandInvocation shows at most.
_SHOWN = 24000
_UNITS = ("amazon-ssm-agent.service", "basic.target")
_DEFAULT_SECONDS = "3600"


def _online(shown: str) -> bool:
    """Read `systemctl show` of _UNITS: the agent decides where there is one, else the basic system."""
    units = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in shown.split("\n\n")]
    if len(units) != len(_UNITS):
        return False  # its init does not answer yet
    agent, basic = units
    decisive = agent if agent.get("LoadState") == "loaded" else basic
    return decisive.get("ActiveState") in {"active", "reloading"}


@dataclass
class Invocation:
    """A command on one instance."""

    instance_id: str
    status: str = "Pending"
    started: datetime.datetime = field(default_factory=utcnow)
    ended: datetime.datetime | None = None
    response_code: int = -1
    stdout: str = ""
    stderr: str = ""


@dataclass
class Command:
    """A command on its instances."""

    region: str
    comment: str
    parameters: dict[str, list[str]]
    invocations: dict[str, Invocation]
    timeout_seconds: int
    command_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    requested: datetime.datetime = field(default_factory=utcnow)

    @property
    def status(self) -> str:
        """The command's status: unfinished as long as one of its invocations is."""
        statuses = {invocation.status for invocation in self.invocations.values()}
        for status in ("Pending", "InProgress", "TimedOut", "Failed"):
            if status in statuses:
                return "InProgress" if status == "Pending" else status
        return "Success"


class Agent:
    """Runs commands in the fleet's machines and remembers how they went."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._commands: dict[str, Command] = {}
        self._lock = threading.Lock()

    def send(self, region: str, instance_ids: list[str], parameters: dict[str, list[str]], comment: str,
             timeout_seconds: int) -> Command:  # fmt: skip
        """Start a command on instances; return at once. Raises ApiError for one that is not online."""
        for instance_id in instance_ids:
            if not self.online(instance_id):
                raise ApiError("InvalidInstanceId", f"Instances [[{instance_id}]] not in a valid state for account")
        invocations = {name: Invocation(name) for name in instance_ids}
        command = Command(region, comment, parameters, invocations, timeout_seconds)
        with self._lock:
            self._commands[command.command_id] = command
        for invocation in invocations.values():
            in_background(f"command on {invocation.instance_id}", partial(self._run, command, invocation))
        return command

    def online(self, instance_id: str) -> bool:
        """Say whether a command could run there now."""
        if not self._fleet.known(instance_id):
            return False
        machine = self._fleet.unit(instance_id).machine
        try:
            shown = machine.run(["systemctl", "show", "--property=LoadState,ActiveState", *_UNITS], timeout=5)
        except Error:
            return False
        return _online(shown.stdout)

    def command(self, command_id: str) -> Command:
        """Return a command. Raises ApiError (InvalidCommandId)."""
        with self._lock:
            if command_id in self._commands:
                return self._commands[command_id]
        raise ApiError("InvalidCommandId", f"The command {command_id} does not exist.")

    def commands(self) -> list[Command]:
        """Return every command, the newest first."""
        with self._lock:
            return list(reversed(self._commands.values()))

    def _run(self, command: Command, invocation: Invocation) -> None:
        invocation.status, invocation.started = "InProgress", utcnow()
        script = "\n".join(command.parameters.get("commands", [])) + "\n"
        directory = (command.parameters.get("workingDirectory") or [""])[0]
        seconds = float((command.parameters.get("executionTimeout") or [_DEFAULT_SECONDS])[0])
        # The script is a file in the machine as with the real agent: its stdin is not the script's own.
        runner = 'f=$(mktemp) && cat >"$f" && cd "${1:-/}" && /bin/sh "$f" </dev/null; r=$?; rm -f "$f"; exit $r'
        try:
            machine = self._fleet.unit(invocation.instance_id).machine
            ran = machine.run(["/bin/sh", "-c", runner, "sh", directory], input=script, timeout=seconds)
        except Error as fault:
            ran = Ran(255, "", str(fault))
        invocation.stdout, invocation.stderr = ran.stdout[:_SHOWN], ran.stderr[:_SHOWN]
        invocation.response_code = ran.returncode
        invocation.ended = utcnow()
        if ran.timed_out:
            invocation.status = "TimedOut"
        else:
            invocation.status = "Success" if ran.returncode == 0 else "Failed"


def install(fleet: Fleet) -> None:
    """Put the fake agent behind moto's SSM."""
    agent = Agent(fleet)
    replace(Ssm, "send_command", lambda response: _send_command(response, agent))
    replace(Ssm, "list_commands", lambda response: _list_commands(response, agent))
    replace(Ssm, "get_command_invocation", lambda response: _get_command_invocation(response, agent))
    add(Ssm, "list_command_invocations", lambda response: _list_command_invocations(response, agent))
    add(Ssm, "cancel_command", lambda response: _cancel_command(response, agent))
    add(Ssm, "describe_instance_information", lambda response: _describe_instance_information(response, agent))


def _send_command(response: Any, agent: Agent) -> ActionResult:
    document = response._get_param("DocumentName")
    if document != _DOCUMENT:
        raise ApiError("InvalidDocument", f"The local cloud runs {_DOCUMENT} only, not {document}.")
    parameters = response._get_param("Parameters", {})
    if not parameters.get("commands"):
        raise ApiError("InvalidParameters", "Missing required parameter: commands")
    ids = list(dict.fromkeys(response._get_param("InstanceIds", []) + _targets(response)))
    if not ids:
        raise ApiError("InvalidInstanceId", "No instance is named, and no running one matches the targets.")
    command = agent.send(response.region, ids, parameters, response._get_param("Comment", ""),
                         response._get_int_param("TimeoutSeconds", 3600))  # fmt: skip
    return ActionResult({"Command": _command_row(command)})


def _targets(response: Any) -> list[str]:
    targets = response._get_param("Targets", [])
    if not targets:
        return []
    named = [name for target in targets if target["Key"].lower() == "instanceids" for name in target["Values"]]
    filters = {target["Key"]: target["Values"] for target in targets if target["Key"].lower() != "instanceids"}
    if not filters:
        return named
    filters["instance-state-name"] = ["running"]
    backend = ec2_backends[response.current_account][response.region]
    return named + [each.id for found in backend.all_reservations(filters=filters) for each in found.instances]


def _list_commands(response: Any, agent: Agent) -> ActionResult:
    command_id, instance_id = response._get_param("CommandId"), response._get_param("InstanceId")
    commands = [agent.command(command_id)] if command_id else agent.commands()
    rows = [_command_row(one) for one in commands if not instance_id or instance_id in one.invocations]
    return ActionResult({"Commands": rows})


def _get_command_invocation(response: Any, agent: Agent) -> ActionResult:
    command = agent.command(response._get_param("CommandId"))
    invocation = command.invocations.get(response._get_param("InstanceId"))
    if invocation is None:
        raise ApiError("InvocationDoesNotExist", "The command was not sent to that instance.")
    plugin = response._get_param("PluginName")
    if plugin not in {None, _PLUGIN}:
        raise ApiError("InvalidPluginName", f"The plugin {plugin} is not part of the document.")
    end = invocation.ended
    return ActionResult(
        {
            **_invocation_basics(command, invocation),
            "PluginName": _PLUGIN,
            "ResponseCode": invocation.response_code,
            "ExecutionStartDateTime": invocation.started.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "ExecutionElapsedTime": "" if end is None else f"PT{(end - invocation.started).total_seconds():.3f}S",
            "ExecutionEndDateTime": "" if end is None else end.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "StandardOutputContent": invocation.stdout,
            "StandardErrorContent": invocation.stderr,
            "StandardOutputUrl": "",
            "StandardErrorUrl": "",
        }
    )


def _list_command_invocations(response: Any, agent: Agent) -> ActionResult:
    command_id, instance_id = response._get_param("CommandId"), response._get_param("InstanceId")
    details = response._get_bool_param("Details", False)
    commands = [agent.command(command_id)] if command_id else agent.commands()
    rows = [
        {
            **_invocation_basics(command, invocation),
            "RequestedDateTime": command.requested,
            "CommandPlugins": [_plugin_row(invocation)] if details else [],
        }
        for command in commands
        for invocation in command.invocations.values()
        if not instance_id or invocation.instance_id == instance_id
    ]
    return ActionResult({"CommandInvocations": rows})


def _cancel_command(response: Any, agent: Agent) -> EmptyResult:
    # As on AWS, cancelling is an attempt: what has begun already goes on to its end.
    agent.command(response._get_param("CommandId"))
    return EmptyResult()


def _describe_instance_information(response: Any, agent: Agent) -> ActionResult:
    wanted = {
        value
        for each in response._get_param("Filters", []) + response._get_param("InstanceInformationFilterList", [])
        if str(each.get("Key") or each.get("key")).lower() == "instanceids"
        for value in each.get("Values") or each.get("valueSet") or []
    }
    rows = []
    for found in ec2_backends[response.current_account][response.region].all_instances():
        if agent.online(found.id) and (not wanted or found.id in wanted):
            rows.append(
                {
                    "InstanceId": found.id,
                    "PingStatus": "Online",
                    "LastPingDateTime": utcnow(),
                    "AgentVersion": "3.3.0.0",
                    "IsLatestVersion": True,
                    "PlatformType": "Linux",
                    "PlatformName": "Amazon Linux",
                    "PlatformVersion": "2023",
                    "ResourceType": "EC2Instance",
                    "IPAddress": found.private_ip,
                    "ComputerName": found.private_dns_name,
                }
            )
    return ActionResult({"InstanceInformationList": rows})


def _command_row(command: Command) -> dict[str, Any]:
    ended = [one for one in command.invocations.values() if one.ended is not None]
    return {
        "CommandId": command.command_id,
        "DocumentName": _DOCUMENT,
        "Comment": command.comment,
        "ExpiresAfter": command.requested + datetime.timedelta(seconds=command.timeout_seconds),
        "Parameters": command.parameters,
        "InstanceIds": list(command.invocations),
        "Targets": [],
        "RequestedDateTime": command.requested,
        "Status": command.status,
        "StatusDetails": command.status,
        "TargetCount": len(command.invocations),
        "CompletedCount": len(ended),
        "ErrorCount": sum(one.status != "Success" for one in ended),
    }


def _invocation_basics(command: Command, invocation: Invocation) -> dict[str, Any]:
    instance = find_instance(invocation.instance_id)
    return {
        "CommandId": command.command_id,
        "InstanceId": invocation.instance_id,
        "InstanceName": "" if instance is None else instance.private_dns_name,
        "Comment": command.comment,
        "DocumentName": _DOCUMENT,
        "DocumentVersion": "",
        "Status": invocation.status,
        "StatusDetails": invocation.status,
    }


def _plugin_row(invocation: Invocation) -> dict[str, Any]:
    return {
        "Name": _PLUGIN,
        "Status": invocation.status,
        "StatusDetails": invocation.status,
        "ResponseCode": invocation.response_code,
        "ResponseStartDateTime": invocation.started,
        "ResponseFinishDateTime": invocation.ended,
        "Output": (invocation.stdout + invocation.stderr)[:2500],
    }
