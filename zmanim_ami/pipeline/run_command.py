"""A script that an instance runs as root by Systems Manager's Run Command: begun, and waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.errors import Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.instance import tail

if TYPE_CHECKING:
    from mypy_boto3_ssm.type_defs import GetCommandInvocationResultTypeDef


# What SendCommand takes at least.
_SHORTEST_SECONDS = 30


class CommandNotRun(Error):
    """Run Command did not run our script to a good end."""


@dataclass(frozen=True)
class Command:
    """A script that runs on an instance; `end` is the poller's clock by which it has to be done."""

    instance_id: str
    command_id: str
    end: float


def run_script(clients: aws.Clients, instance_id: str, script: str, timeout: float, poller: aws.Poller) -> str:
    """Run a POSIX shell script as root and return its stdout (Systems Manager keeps 24,000 characters).

    Waits for the instance's agent too, all within `timeout` seconds.

    Raises CommandNotRun, aws's errors.
    """
    return finish(clients, start(clients, instance_id, script, timeout, poller), poller)


def start(clients: aws.Clients, instance_id: str, script: str, timeout: float, poller: aws.Poller) -> Command:
    """Have an instance begin with a script that has `timeout` seconds, as soon as its agent has registered.

    Raises CommandNotRun, aws's errors.
    """
    end = poller.clock() + timeout

    def send() -> str | None:
        command = aws.unless_refused(
            lambda: clients.ssm.send_command(
                InstanceIds=[instance_id],
                DocumentName="AWS-RunShellScript",
                Comment="zmanim",
                # What nobody waits for any more is not to be run later, when the agent is back.
                TimeoutSeconds=max(_SHORTEST_SECONDS, int(timeout)),
                Parameters={"commands": script.splitlines(), "executionTimeout": [str(int(timeout))]},
            ),
            "InvalidInstanceId",  # what AWS says until the agent has registered
        )
        return command["Command"].get("CommandId") if command else None

    with aws.translate_errors(f"running a command on {instance_id}"):
        command_id = poller.wait_for(
            send,
            timeout,
            lambda: CommandNotRun(
                f"the Systems Manager agent of {instance_id} never registered",
                expected=f"an agent within {timeout:.0f} s",
                found="InvalidInstanceId for the whole time",
                fix="is the agent enabled in the image, does the role allow ssm, does the subnet reach AWS?",
            ),
        )
    return Command(instance_id, command_id, end)


def finish(clients: aws.Clients, command: Command, poller: aws.Poller) -> str:
    """Wait until a script has ended, and return its stdout. Raises CommandNotRun, aws's errors."""
    known = {"CommandId": command.command_id, "InstanceId": command.instance_id}

    def ended() -> GetCommandInvocationResultTypeDef | None:
        answer = aws.unless_refused(
            lambda: clients.ssm.get_command_invocation(**known),
            "InvocationDoesNotExist",  # the command is known some moments before its invocation is
        )
        return answer if answer and answer["Status"] not in {"Pending", "InProgress", "Delayed"} else None

    def failed(status: str, output: str = "") -> CommandNotRun:
        summary = f"the command on {command.instance_id} ended: {status}"
        return CommandNotRun(summary, expected="Success", found=tail(output).strip())

    with aws.translate_errors(f"running a command on {command.instance_id}"):
        answer = poller.wait_for(ended, max(command.end - poller.clock(), 1.0), lambda: failed("still running"))
    stdout = answer["StandardOutputContent"]
    if answer["Status"] != "Success":
        raise failed(answer["Status"], f"{stdout}\n{answer['StandardErrorContent']}")
    return stdout
