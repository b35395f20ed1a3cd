"""One verification instance: launched as production's are, watched by its console, asked by Run Command, terminated.

No port is opened on it and nothing connects to it: the console and Systems Manager are AWS's own ways in.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import botocore.exceptions

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import network, roles
from zmanim_ami.pipeline.account.requirements import VERIFY
from zmanim_ami.pipeline.ami.image import PROJECT_TAG, Image
from zmanim_ami.pipeline.ready_report import ready_reports
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.visibility import PATIENCE_SECONDS

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import InstanceTypeType
    from mypy_boto3_ssm.type_defs import GetCommandInvocationResultTypeDef

TAG, RUN_TAG = "zmanim:verification", "zmanim:verification-run"
_CONSOLE_LINES = 40
# No verification takes that long: an older instance of another image was left behind, however it happened.
_LEFT_BEHIND = timedelta(hours=2)
# How the codes begin by which EC2 says that it can't launch what the settings ask for.
_NOT_LAUNCHED = (
    *("Insufficient", "VcpuLimit", "InstanceLimit", "MaxSpot", "Unsupported", "InvalidParameter", "InvalidSubnet"),
)


class CommandNotRun(Error):
    """Run Command did not run our script to a good end."""


@dataclass(frozen=True)
class Machine:
    """A running verification instance; `launched` is the poller's clock at RunInstances."""

    instance_id: str
    launched: float


@dataclass(frozen=True)
class Ready:
    """What the instance said of itself on its console, and after how many seconds from RunInstances that was seen."""

    report: Mapping[str, object]
    running_seconds: float
    seconds: float


def leftovers(clients: aws.Clients, ami_id: str, now: datetime) -> list[str]:
    """Return verification instances that a killed run left: all of this image, and others' that are hours old."""
    with aws.translate_errors("looking for instances of earlier verifications"):
        return [
            item["InstanceId"]
            for item in aws.instances(clients, {f"tag:{TAG}": ["true"], "instance-state-name": aws.ALIVE})
            if item.get("ImageId") == ami_id or now - item.get("LaunchTime", now) > _LEFT_BEHIND
        ]


def terminate(clients: aws.Clients, instance_ids: Sequence[str]) -> None:
    """Terminate the instances; their volumes go with them. One that is gone already is no error."""
    for instance_id in instance_ids:
        with aws.translate_errors(f"terminating {instance_id}"), aws.ignoring("InvalidInstanceID.NotFound"):
            clients.ec2.terminate_instances(InstanceIds=[instance_id])
        say(f"terminated {instance_id}")


@contextmanager
def launched(
    clients: aws.Clients,
    settings: Settings,
    image: Image,
    poller: aws.Poller,
    *,
    environment: str = VERIFY,
    user_data: str = "",
) -> Iterator[Machine]:
    """Launch an instance of `image` in `environment` for the body of a `with`, and terminate it whatever happens there.

    Raises `account-not-prepared`, `not-launched`, aws's errors.
    """
    place = network.find(clients, settings.subnet_id)
    run = uuid.uuid4().hex
    known: list[str] = []
    unanswered = False
    try:
        start = poller.clock()
        instance_id = _run_instance(
            clients, settings, image, place=place, run=run, poller=poller, environment=environment, user_data=user_data
        )
        known.append(instance_id)
        say(f"launched {instance_id} ({settings.verify_instance_type})")
        yield Machine(instance_id, start)
    except (KeyboardInterrupt, aws.Unreachable):
        unanswered = not known
        raise
    finally:
        # By the run's tag as well as by the id: an interrupt may have come between AWS's launch and its answer. By the
        # id as well as by the tag: it is no search that could come too early.
        def mine() -> list[str]:
            found = aws.instances(clients, {f"tag:{RUN_TAG}": [run], "instance-state-name": aws.ALIVE})
            return [item["InstanceId"] for item in found]

        with aws.translate_errors("looking for this run's instance"):
            if unanswered:
                clients.written.settled("an instance that may have been launched", lambda: bool(mine()))
            known += [each for each in mine() if each not in known]
        terminate(clients, known)


def wait_until_ready(clients: aws.Clients, machine: Machine, timeout: float, poller: aws.Poller) -> Ready:
    """Wait for the console's report `zmanim-ready …`, good or bad, at most `timeout` seconds from the launch.

    Raises `instance-died`, `never-ready` (both with the console's last lines), aws's errors.
    """
    running: list[float] = []

    def look() -> Mapping[str, object] | None:
        # Launched so lately that this part of EC2 may not know it yet.
        instance = next(iter(aws.instances(clients, {"instance-id": [machine.instance_id]})), None)
        state = instance["State"].get("Name") if instance else "pending"
        reason = instance.get("StateReason", {}).get("Message") if instance else None
        if state == "running" and not running:
            running.append(poller.clock() - machine.launched)
        if state not in {"pending", "running"}:
            raise Error(
                f"{machine.instance_id} is {state}",
                code="instance-died",
                expected="running until it is terminated here",
                found=f"{reason or 'no reason given'}\n{tail(console(clients, machine.instance_id))}",
            )
        reports = ready_reports(console(clients, machine.instance_id)) if running else []
        return reports[-1] if reports else None

    with aws.translate_errors(f"waiting for {machine.instance_id}"):
        report = poller.wait_for(
            look,
            timeout - (poller.clock() - machine.launched),
            lambda: Error(
                f"{machine.instance_id} is not ready after {timeout:.0f} s",
                code="never-ready",
                expected="a line zmanim-ready … on the console, whole",
                found="the console's last lines:\n" + tail(console(clients, machine.instance_id)),
                fix="correct what hangs; setting boot_timeout if it is only slow",
            ),
        )
    return Ready(report, round(running[0], 3), round(poller.clock() - machine.launched, 3))


def console(clients: aws.Clients, instance_id: str) -> str:
    """Return the console's text so far (at most its last 64 KiB, as AWS keeps it)."""
    with aws.translate_errors(f"reading the console of {instance_id}"):
        return clients.ec2.get_console_output(InstanceId=instance_id, Latest=True).get("Output", "")


def tail(text: str) -> str:
    """Return a console's last lines, indented; of what is there several times, the last."""
    said = [line.rstrip() for line in text.splitlines() if line.strip()]
    lines = list(dict.fromkeys(reversed(said)))[::-1]
    return "\n".join(f"    {line}" for line in lines[-_CONSOLE_LINES:]) or "    (nothing)"


def run_script(clients: aws.Clients, instance_id: str, script: str, timeout: float, poller: aws.Poller) -> str:
    """Run a POSIX shell script as root by Run Command and return its stdout (Systems Manager keeps 24,000 characters).

    Waits for the instance's agent too, all within `timeout` seconds.

    Raises CommandNotRun, aws's errors.
    """
    end = poller.clock() + timeout

    def send() -> str | None:
        command = aws.unless_refused(
            lambda: clients.ssm.send_command(
                InstanceIds=[instance_id],
                DocumentName="AWS-RunShellScript",
                Comment="zmanim verification",
                Parameters={"commands": script.splitlines(), "executionTimeout": [str(int(timeout))]},
            ),
            "InvalidInstanceId",  # what AWS says until the agent has registered
        )
        return command["Command"].get("CommandId") if command else None

    with aws.translate_errors(f"running a command on {instance_id}"):
        command = poller.wait_for(
            send,
            timeout,
            lambda: CommandNotRun(
                f"the Systems Manager agent of {instance_id} never registered",
                expected=f"an agent within {timeout:.0f} s",
                found="InvalidInstanceId for the whole time",
                fix="is the agent enabled in the image, does the role allow ssm, does the subnet reach AWS?",
            ),
        )

        def ended() -> GetCommandInvocationResultTypeDef | None:
            answer = aws.unless_refused(
                lambda: clients.ssm.get_command_invocation(CommandId=command, InstanceId=instance_id),
                "InvocationDoesNotExist",  # the command is known some moments before its invocation is
            )
            return answer if answer and answer["Status"] not in {"Pending", "InProgress", "Delayed"} else None

        def failed(status: str, output: str = "") -> CommandNotRun:
            summary = f"the checks on {instance_id} ended: {status}"
            return CommandNotRun(summary, expected="Success", found=tail(output).strip())

        answer = poller.wait_for(ended, max(end - poller.clock(), 1.0), lambda: failed("still running"))
    stdout = answer["StandardOutputContent"]
    if answer["Status"] != "Success":
        raise failed(answer["Status"], f"{stdout}\n{answer['StandardErrorContent']}")
    return stdout


def _run_instance(
    clients: aws.Clients,
    settings: Settings,
    image: Image,
    *,
    place: network.Network,
    run: str,
    poller: aws.Poller,
    environment: str,
    user_data: str,
) -> str:
    options: dict[str, Any] = {"UserData": user_data} if user_data else {}
    profile = roles.name(environment)
    kind: InstanceTypeType = settings.verify_instance_type  # type: ignore[assignment]  # any type that AWS has
    tags = {
        "Name": f"zmanim-verify-{image.version}",
        "zmanim:environment": environment,
        "zmanim:data-volume": "new",
        TAG: "true",
        RUN_TAG: run,
        PROJECT_TAG: settings.run,
    }

    refused: list[str] = []

    def launch() -> str | None:
        try:
            instances = clients.ec2.run_instances(
                ImageId=image.ami_id,
                InstanceType=kind,
                MinCount=1,
                MaxCount=1,
                ClientToken=run,  # a retried call launches nothing twice
                IamInstanceProfile={"Name": profile},
                SubnetId=place.subnet_id,
                SecurityGroupIds=[place.security_group_id],
                MetadataOptions={
                    "HttpEndpoint": "enabled",
                    "HttpTokens": "required",
                    "HttpPutResponseHopLimit": 1,
                    "InstanceMetadataTags": "enabled",
                },
                BlockDeviceMappings=[
                    {
                        "DeviceName": "/dev/sdf",
                        "Ebs": {
                            "VolumeSize": settings.data_volume_gib,
                            "VolumeType": "gp3",
                            "Encrypted": True,
                            "DeleteOnTermination": True,
                        },
                    }
                ],
                InstanceInitiatedShutdownBehavior="terminate",
                TagSpecifications=[
                    {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]},
                    {
                        "ResourceType": "volume",
                        "Tags": [{"Key": k, "Value": tags[k]} for k in (TAG, PROJECT_TAG)],
                    },
                ],
                **options,
            )
        except botocore.exceptions.ClientError as error:
            if "instance profile" in str(error).lower():
                # account.apply may have made it seconds ago: it is known to IAM some time before it is known to EC2.
                refused.append(f"waiting for {profile} to be visible (eventual consistency: EC2 does not know it)")
            elif aws.error_code(error) == "InsufficientInstanceCapacity":
                refused.append(f"waiting for capacity: {error}")
            elif aws.error_code(error).startswith(_NOT_LAUNCHED):
                raise not_launched(str(error)) from error
            else:
                raise
            if refused[-1] not in refused[:-1]:
                say(refused[-1])
            return None
        return instances["Instances"][0]["InstanceId"]

    def not_launched(found: str) -> Error:
        return Error(
            "AWS does not launch the verification instance",
            code="not-launched",
            expected="one instance of the type verify_instance_type",
            found=found,
            fix="choose another verify_instance_type or subnet_id, or have the limit raised",
        )

    def late() -> Error:
        if "capacity" in refused[-1]:
            return not_launched(refused[-1])
        return Error(
            f"EC2 knows no instance profile {profile}",
            code="account-not-prepared",
            expected=f"the instance profile {profile} with its role",
            found="none",
            fix=f"./inv account.apply --environment {environment}",
        )

    with aws.translate_errors("launching the verification instance"):
        return poller.wait_for(launch, PATIENCE_SECONDS, late)
