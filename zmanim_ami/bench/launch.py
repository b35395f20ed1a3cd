"""Launching a machine and reading when its services answered.

The moments are systemd's own, read after everything is over: nothing asks the machine while it boots. A unit of
Type=notify is active when its server says that it takes connections. Host and machine have the same monotonic clock,
which holds on the local cloud only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud import control
from support.errors import Error
from zmanim_ami.bench.lab import Lab
from zmanim_ami.pipeline import aws, instance
from zmanim_ami.pipeline.account import network, roles
from zmanim_ami.pipeline.account.requirements import VERIFY

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import InstanceTypeType

TIMEOUT = 900.0
_LOOK_SECONDS = 0.05
_MOMENTS = {
    "postgresql.service": "PostgreSQL answers",
    "redis.service": "Redis answers",
    "zmanim-ready.service": "ready",
}
_ASK = f"systemctl show --property=Id,ActiveEnterTimestampMonotonic {' '.join(_MOMENTS)}"


@dataclass(frozen=True)
class Started:
    """A machine; `since` is the monotonic clock (seconds) when its launch or reboot was asked for.

    `said` is how often it had said that it is ready before.
    """

    instance_id: str
    since: float
    said: int = 0


@contextmanager
def launched(lab: Lab, image_id: str, user_data: str = "") -> Iterator[Started]:
    """Launch an instance as verification's are, for the body of a `with`; terminated, and waited for, at its end."""
    place = network.find(lab.clients, lab.settings.subnet_id)
    kind: InstanceTypeType = lab.settings.verify_instance_type  # type: ignore[assignment]  # any type that AWS has
    tags = {"Name": "zmanim-bench", "zmanim:environment": VERIFY, "zmanim:data-volume": "new"}
    options: dict[str, Any] = {"UserData": user_data} if user_data else {}
    since = time.monotonic()
    with aws.translate_errors("launching"):
        answer = lab.clients.ec2.run_instances(
            ImageId=image_id,
            InstanceType=kind,
            MinCount=1,
            MaxCount=1,
            IamInstanceProfile={"Name": roles.name(VERIFY)},
            SubnetId=place.subnet_id,
            SecurityGroupIds=[place.security_group_id],
            MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
            BlockDeviceMappings=[
                {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 8, "VolumeType": "gp3", "DeleteOnTermination": True}}
            ],
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
            ],
            **options,
        )
    instance_id = answer["Instances"][0]["InstanceId"]
    try:
        yield Started(instance_id, since)
    finally:
        # Waited for: the next run is not to share the processors with this one's end.
        instance.terminate(lab.clients, [instance_id])
        lab.pace.until(lambda: _gone(lab, instance_id), 60)


def rebooted(lab: Lab, before: Started) -> Started:
    """Reboot a machine that has become ready once; its times count from the call, so its shutdown is part of them."""
    since = time.monotonic()
    with aws.translate_errors("rebooting"):
        lab.clients.ec2.reboot_instances(InstanceIds=[before.instance_id])
    return Started(before.instance_id, since, before.said + 1)


def moments(lab: Lab, started: Started) -> dict[str, float]:
    """Wait until a machine is ready; return after how many seconds PostgreSQL and Redis answered and it was ready.

    Raises `not-ready`.
    """
    _wait_until_ready(lab, started)
    text = instance.run_script(lab.clients, started.instance_id, _ASK, 60, lab.pace)
    return {name: at - started.since for name, at in active_since(text).items()}


def _wait_until_ready(lab: Lab, started: Started) -> None:
    # The console's file, not GetConsoleOutput: asking the API often takes the processors that are timed.
    end = started.since + TIMEOUT
    while True:
        said = control.console(lab.cloud, started.instance_id)
        count = len(instance.READY.findall(said))
        if count > started.said:
            break
        if time.monotonic() > end:
            raise _not_ready(started, f"it says nothing within {TIMEOUT:.0f} s", said)
        time.sleep(_LOOK_SECONDS)
    report = instance.ready_line(said) or {}
    if report.get("ok") is not True:
        raise _not_ready(started, "it says that it is not", said)


def _not_ready(started: Started, found: str, said: str) -> Error:
    return Error(
        f"{started.instance_id} is not ready",
        code="not-ready",
        expected="a line zmanim-ready {…} with ok: true",
        found=f"{found}; the console's last lines:\n{instance.tail(said)}",
        fix="./inv rehearse shows what is wrong with the image",
    )


def active_since(text: str) -> dict[str, float]:
    """Return from the output of `systemctl show` since when each unit is active (monotonic clock, seconds).

    Raises `not-ready` for a unit that never became active.
    """
    found = {}
    for block in text.strip().split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[properties.get("Id", "")] = int(properties.get("ActiveEnterTimestampMonotonic") or 0)
    missing = [unit for unit in _MOMENTS if not found.get(unit)]
    if missing:
        raise Error(
            "a unit has never been active",
            code="not-ready",
            expected=", ".join(_MOMENTS),
            found=f"not {', '.join(missing)}",
        )
    return {name: found[unit] / 1e6 for unit, name in _MOMENTS.items()}


def _gone(lab: Lab, instance_id: str) -> bool | None:
    states = {info.instance_id: info.leader for info in control.machines(lab.cloud)}
    return True if states.get(instance_id) is None else None
