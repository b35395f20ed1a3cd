"""One verification instance: launched as production's are, watched by its console, terminated.

No port is opened on it and nothing connects to it: the console and Run Command (run_command.py) are AWS's own ways in.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws, launching
from zmanim_ami.pipeline.account import network
from zmanim_ami.pipeline.account.requirements import VERIFY
from zmanim_ami.pipeline.ami.image import PROJECT_TAG, Image
from zmanim_ami.pipeline.ready_report import ready_reports
from zmanim_ami.pipeline.settings import Settings

TAG, RUN_TAG, REPOSITORY_TAG = "zmanim:verification", "zmanim:verification-run", "zmanim:repository"
# What the image reads of its instance: which environment's it is, and whether a blank volume may be used.
ENVIRONMENT_TAG, DATA_VOLUME_TAG = "zmanim:environment", "zmanim:data-volume"
# On an instance that another one has taken the place of: that one's id.
SWAPPED_TAG = "zmanim:swapped-for"
# Where an instance's data volume is attached.
DATA_DEVICE = "/dev/sdf"
_CONSOLE_LINES = 40
# No verification takes that long: an older instance of another image was left behind, however it happened.
LEFT_BEHIND = timedelta(hours=2)


class NotReady(Error):
    """An instance that was launched has died, or has not said in time whether it serves."""


@dataclass(frozen=True)
class Launch:
    """What is particular to one instance's launch.

    `repository` names the backups that it shares with others of the environment verify, empty for its own ones;
    without `data_volume` it waits for one that somebody attaches.
    """

    environment: str = VERIFY
    user_data: str = ""
    repository: str = ""
    data_volume: bool = True


@dataclass(frozen=True)
class Machine:
    """A running verification instance; `launched` is the poller's clock at RunInstances, or when it was rebooted."""

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
            if item.get("ImageId") == ami_id or now - item.get("LaunchTime", now) > LEFT_BEHIND
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
    launch: Launch = Launch(),
) -> Iterator[Machine]:
    """Launch an instance of `image` for the body of a `with`, and terminate it whatever happens there.

    Raises `account-not-prepared`, `not-launched`, aws's errors.
    """
    place = network.find(clients, settings.subnet_id)
    run = uuid.uuid4().hex
    known: list[str] = []
    unanswered = False
    try:
        start = poller.clock()
        instance_id = _run_instance(clients, settings, image, launch, place=place, run=run, poller=poller)
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


def wait_until_ready(
    clients: aws.Clients, machine: Machine, timeout: float, poller: aws.Poller, *, after: str = ""
) -> Ready:
    """Wait for the console's report `zmanim-ready …`, good or bad, at most `timeout` seconds from the launch.

    `after` is the boot that an earlier report was of, which does not count any more.

    Raises NotReady (with the console's last lines), aws's errors.
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
            raise NotReady(
                f"{machine.instance_id} is {state}",
                expected="running until it is terminated here",
                found=f"{reason or 'no reason given'}\n{tail(console(clients, machine.instance_id))}",
            )
        reports = ready_reports(console(clients, machine.instance_id)) if running else []
        return reports[-1] if reports and not (after and reports[-1].get("boot") == after) else None

    with aws.translate_errors(f"waiting for {machine.instance_id}"):
        report = poller.wait_for(
            look,
            timeout - (poller.clock() - machine.launched),
            lambda: NotReady(
                f"{machine.instance_id} is not ready after {timeout:.0f} s",
                expected="a line zmanim-ready … on the console, whole",
                found="the console's last lines:\n" + tail(console(clients, machine.instance_id)),
                fix="correct what hangs; setting boot_timeout if it is only slow",
            ),
        )
    return Ready(report, round(running[0], 3), round(poller.clock() - machine.launched, 3))


def reboot(clients: aws.Clients, machine: Machine, poller: aws.Poller) -> Machine:
    """Have an instance reboot; its times count from now. Raises aws's errors."""
    since = poller.clock()
    with aws.translate_errors(f"rebooting {machine.instance_id}"):
        clients.ec2.reboot_instances(InstanceIds=[machine.instance_id])
    return Machine(machine.instance_id, since)


def console(clients: aws.Clients, instance_id: str) -> str:
    """Return the console's text so far (at most its last 64 KiB, as AWS keeps it)."""
    with aws.translate_errors(f"reading the console of {instance_id}"):
        return clients.ec2.get_console_output(InstanceId=instance_id, Latest=True).get("Output", "")


def tail(text: str) -> str:
    """Return a console's last lines, indented; of what is there several times, the last."""
    said = [line.rstrip() for line in text.splitlines() if line.strip()]
    lines = list(dict.fromkeys(reversed(said)))[::-1]
    return "\n".join(f"    {line}" for line in lines[-_CONSOLE_LINES:]) or "    (nothing)"


def _run_instance(
    clients: aws.Clients,
    settings: Settings,
    image: Image,
    launch: Launch,
    *,
    place: network.Network,
    run: str,
    poller: aws.Poller,
) -> str:
    tags = {
        "Name": f"zmanim-verify-{image.version}",
        ENVIRONMENT_TAG: launch.environment,
        TAG: "true",
        RUN_TAG: run,
        PROJECT_TAG: settings.run,
    }
    options: dict[str, object] = {"UserData": launch.user_data} if launch.user_data else {}
    if launch.repository:
        tags[REPOSITORY_TAG] = launch.repository
    if launch.data_volume:
        tags[DATA_VOLUME_TAG] = "new"
        volume = {"VolumeSize": settings.data_volume_gib, "VolumeType": "gp3", "Encrypted": True}
        mapping = {"DeviceName": DATA_DEVICE, "Ebs": {**volume, "DeleteOnTermination": True}}
        options["BlockDeviceMappings"] = [mapping]

    order = launching.Order(
        ami_id=image.ami_id,
        instance_type=settings.verify_instance_type,
        environment=launch.environment,
        token=run,
        tags=tags,
        volume_tags={name: tags[name] for name in (TAG, PROJECT_TAG)},
        options={
            "SubnetId": place.subnet_id,
            "SecurityGroupIds": [place.security_group_id],
            "InstanceInitiatedShutdownBehavior": "terminate",
            **options,
        },
    )
    return launching.run_instance(
        clients, order, poller, fix="choose another verify_instance_type or subnet_id, or have the limit raised"
    )
