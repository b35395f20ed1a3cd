"""One verification instance: launched as production's are, watched by its console, asked by Run Command, terminated.

No port is opened on it and nothing connects to it: the console and Systems Manager are AWS's own ways in.
"""

from __future__ import annotations

import json
import re
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
from zmanim_ami.pipeline.aws import Clients, Pace
from zmanim_ami.pipeline.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import InstanceTypeType
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

TAG, RUN_TAG = "zmanim:verification", "zmanim:verification-run"
READY = re.compile(r"zmanim-ready (\{.*\})[ \r]*\n")
_ALIVE: Sequence[str] = ("pending", "running", "stopping", "stopped")
_CONSOLE_LINES = 40
# No verification takes that long: an older instance of another image was left behind, however it happened.
_LEFT_BEHIND = timedelta(hours=2)
# A new instance profile is known to IAM some seconds before it is known to EC2.
_PROFILE_SECONDS = 30


class CommandNotRun(Error):
    """Run Command did not run our script to a good end."""


@dataclass(frozen=True)
class Machine:
    """A running verification instance; `launched` is the pace's clock at RunInstances."""

    instance_id: str
    launched: float


@dataclass(frozen=True)
class Ready:
    """What the instance said of itself on its console, and after how many seconds from RunInstances that was seen."""

    report: Mapping[str, object]
    running_seconds: float
    seconds: float


def leftovers(clients: Clients, ami_id: str, now: datetime) -> list[str]:
    """Return verification instances that a killed run left: all of this image, and others' that are hours old."""
    with aws.translate_errors("looking for instances of earlier verifications"):
        return [
            item["InstanceId"]
            for item in _instances(clients, TAG, "true")
            if item.get("ImageId") == ami_id or now - item.get("LaunchTime", now) > _LEFT_BEHIND
        ]


def terminate(clients: Clients, instance_ids: Sequence[str]) -> None:
    """Terminate the instances; their volumes go with them. One that is gone already is no error."""
    for instance_id in instance_ids:
        with aws.translate_errors(f"terminating {instance_id}"):
            try:
                clients.ec2.terminate_instances(InstanceIds=[instance_id])
            except botocore.exceptions.ClientError as error:
                if aws.error_code(error) != "InvalidInstanceID.NotFound":
                    raise
        say(f"terminated {instance_id}")


@contextmanager
def launched(
    clients: Clients, settings: Settings, image: Image, pace: Pace, *, environment: str = VERIFY, user_data: str = ""
) -> Iterator[Machine]:
    """Launch an instance of `image` in `environment` for the body of a `with`, and terminate it whatever happens there.

    Raises `account-not-prepared`, `not-launched`, aws's faults.
    """
    place = network.find(clients, settings.subnet_id)
    run = uuid.uuid4().hex
    try:
        start = pace.clock()
        instance_id = _run_instance(
            clients, settings, image, place=place, run=run, pace=pace, environment=environment, user_data=user_data
        )
        say(f"launched {instance_id} ({settings.verify_instance_type})")
        yield Machine(instance_id, start)
    finally:
        # Found by the run's tag and not only by the id: an interrupt may have come between AWS's launch and its answer.
        with aws.translate_errors("looking for this run's instance"):
            mine = [item["InstanceId"] for item in _instances(clients, RUN_TAG, run)]
        terminate(clients, mine)


def wait_until_ready(clients: Clients, machine: Machine, timeout: float, pace: Pace) -> Ready:
    """Wait for the console's line `zmanim-ready {json}`, good or bad, at most `timeout` seconds from the launch.

    Raises `instance-died`, `never-ready` (both with the console's last lines), aws's faults.
    """
    running: list[float] = []

    def look() -> Mapping[str, object] | None:
        state, reason = _state(clients, machine.instance_id)
        if state == "running" and not running:
            running.append(pace.clock() - machine.launched)
        if state not in {"pending", "running"}:
            raise Error(
                f"{machine.instance_id} is {state}",
                code="instance-died",
                expected="running until it is terminated here",
                found=f"{reason or 'no reason given'}\n{tail(console(clients, machine.instance_id))}",
            )
        return ready_line(console(clients, machine.instance_id)) if running else None

    with aws.translate_errors(f"waiting for {machine.instance_id}"):
        report = pace.until(look, timeout - (pace.clock() - machine.launched))
    if report is None:
        raise Error(
            f"{machine.instance_id} is not ready after {timeout:.0f} s",
            code="never-ready",
            expected="a line zmanim-ready {…} on the console",
            found="the console's last lines:\n" + tail(console(clients, machine.instance_id)),
            fix="correct what hangs; setting boot_timeout if it is only slow",
        )
    return Ready(report, round(running[0], 3), round(pace.clock() - machine.launched, 3))


def ready_line(text: str) -> Mapping[str, object] | None:
    """Return the JSON object of the last whole ready line in a console's text, or None.

    A line that is still being written, or was torn by the console's limited size, does not count.
    """
    for match in reversed(READY.findall(text)):
        try:
            report = json.loads(match)
        except ValueError:
            continue
        if isinstance(report, dict):
            return report
    return None


def console(clients: Clients, instance_id: str) -> str:
    """Return the console's text so far (at most its last 64 KiB, as AWS keeps it)."""
    with aws.translate_errors(f"reading the console of {instance_id}"):
        return clients.ec2.get_console_output(InstanceId=instance_id, Latest=True).get("Output", "")


def tail(text: str) -> str:
    """Return a console's last lines, indented."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-_CONSOLE_LINES:]) or "    (nothing)"


def run_script(clients: Clients, instance_id: str, script: str, timeout: float, pace: Pace) -> str:
    """Run a POSIX shell script as root by Run Command and return its stdout (Systems Manager keeps 24,000 characters).

    Waits for the instance's agent too, all within `timeout` seconds.

    Raises CommandNotRun, aws's faults.
    """
    end = pace.clock() + timeout

    def send() -> str | None:
        try:
            sent = clients.ssm.send_command(
                InstanceIds=[instance_id],
                DocumentName="AWS-RunShellScript",
                Comment="zmanim verification",
                Parameters={"commands": script.splitlines(), "executionTimeout": [str(int(timeout))]},
            )
        except botocore.exceptions.ClientError as error:
            if aws.error_code(error) != "InvalidInstanceId":  # what AWS says until the agent has registered
                raise
            return None
        return sent["Command"].get("CommandId", "")

    with aws.translate_errors(f"running a command on {instance_id}"):
        command = pace.until(send, timeout)
        if command is None:
            raise CommandNotRun(
                f"the Systems Manager agent of {instance_id} never registered",
                expected=f"an agent within {timeout:.0f} s",
                found="InvalidInstanceId for the whole time",
                fix="is the agent enabled in the image, does the role allow ssm, does the subnet reach AWS?",
            )

        def look() -> tuple[str, str, str] | None:
            try:
                answer = clients.ssm.get_command_invocation(CommandId=command, InstanceId=instance_id)
            except clients.ssm.exceptions.InvocationDoesNotExist:
                return None  # the command is known some moments before its invocation is
            if answer["Status"] in {"Pending", "InProgress", "Delayed"}:
                return None
            return answer["Status"], answer["StandardOutputContent"], answer["StandardErrorContent"]

        outcome = pace.until(look, max(end - pace.clock(), 1.0))
    status, stdout, stderr = outcome or ("still running", "", "")
    if status != "Success":
        raise CommandNotRun(
            f"the checks on {instance_id} ended: {status}",
            expected="Success",
            found=tail(stdout + "\n" + stderr).strip(),
        )
    return stdout


def _run_instance(
    clients: Clients,
    settings: Settings,
    image: Image,
    *,
    place: network.Network,
    run: str,
    pace: Pace,
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
                return None
            raise _not_launched(error) from error
        return instances["Instances"][0]["InstanceId"]

    with aws.translate_errors("launching the verification instance"):
        instance_id = pace.until(launch, _PROFILE_SECONDS)
    if instance_id is None:
        raise Error(
            f"EC2 knows no instance profile {profile}",
            code="account-not-prepared",
            expected=f"the instance profile {profile} with its role",
            found="none",
            fix=f"./inv account.apply --environment {environment}",
        )
    return instance_id


def _not_launched(error: botocore.exceptions.ClientError) -> Exception:
    known = (
        "Insufficient",
        "VcpuLimit",
        "InstanceLimit",
        "MaxSpot",
        "Unsupported",
        "InvalidParameter",
        "InvalidSubnet",
    )
    if not aws.error_code(error).startswith(known):
        return error
    return Error(
        "AWS does not launch the verification instance",
        code="not-launched",
        expected="one instance of the type verify_instance_type",
        found=str(error),
        fix="choose another verify_instance_type or subnet_id, or have the limit raised",
    )


def _state(clients: Clients, instance_id: str) -> tuple[str, str]:
    try:
        found = clients.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    except botocore.exceptions.ClientError as error:
        if aws.error_code(error) != "InvalidInstanceID.NotFound":
            raise
        return "pending", ""  # launched so lately that this part of EC2 does not know it yet
    instance = found[0]["Instances"][0]
    return instance["State"].get("Name", ""), instance.get("StateReason", {}).get("Message", "")


def _instances(clients: Clients, tag: str, value: str) -> list[InstanceTypeDef]:
    pages = clients.ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": f"tag:{tag}", "Values": [value]}, {"Name": "instance-state-name", "Values": list(_ALIVE)}]
    )
    return [instance for page in pages for item in page["Reservations"] for instance in item["Instances"]]
