"""Launching a machine and reading when its services answered.

The moments are systemd's own, read after everything is over: nothing asks the machine while it boots. A unit of
Type=notify is active when its server says that it takes connections. Host and machine have the same monotonic clock,
which holds on the local cloud only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from localcloud import control
from support.errors import Error
from zmanim_ami.bench.lab import Lab
from zmanim_ami.pipeline import aws, instance
from zmanim_ami.pipeline.ami import image as ami

TIMEOUT = 900.0
_MOMENTS = {
    "postgresql.service": "PostgreSQL answers",
    "redis.service": "Redis answers",
    "zmanim-ready.service": "ready",
}
_ASK = f"systemctl show --property=Id,ActiveEnterTimestampMonotonic {' '.join(_MOMENTS)}"


@dataclass(frozen=True)
class Started:
    """A machine; `since` is the monotonic clock (seconds) when its launch or reboot was called for.

    `readied` is how often its console had said before that it is ready.
    """

    instance_id: str
    since: float
    readied: int = 0


@contextmanager
def launched(lab: Lab, image_id: str, user_data: str = "") -> Iterator[Started]:
    """Launch an instance as verification's are, for the body of a `with`; terminated, and waited for, at its end."""
    image = ami.of_id(lab.clients, image_id)
    with instance.launched(lab.clients, lab.settings, image, lab.pace, user_data=user_data) as machine:
        yield Started(machine.instance_id, machine.launched)
    # Waited for: the next run is not to share the processors with this one's end.
    lab.pace.until(lambda: _gone(lab, machine.instance_id), 60)


def rebooted(lab: Lab, before: Started) -> Started:
    """Reboot a machine that has become ready once; its times count from the call, so its shutdown is part of them."""
    since = time.monotonic()
    with aws.translate_errors("rebooting"):
        lab.clients.ec2.reboot_instances(InstanceIds=[before.instance_id])
    return Started(before.instance_id, since, before.readied + 1)


def moments(lab: Lab, started: Started) -> dict[str, float]:
    """Wait until a machine is ready; return after how many seconds PostgreSQL and Redis answered and it was ready.

    Raises `not-ready`.
    """

    def look() -> str | None:
        # The console's file, not GetConsoleOutput: asking the API often takes the processors that are timed.
        console = control.console(lab.cloud, started.instance_id)
        return console if len(instance.READY.findall(console)) > started.readied else None

    console = lab.pace.until(look, TIMEOUT)
    report = instance.ready_line(console or "") or {}
    if report.get("ok") is not True:
        lines = instance.tail(console or control.console(lab.cloud, started.instance_id))
        raise Error(
            f"{started.instance_id} is not ready",
            code="not-ready",
            expected=f"a line zmanim-ready {{…}} with ok: true within {TIMEOUT:.0f} s",
            found=f"the console's last lines:\n{lines}",
            fix="./inv rehearse shows what is wrong with the image",
        )
    output = instance.run_script(lab.clients, started.instance_id, _ASK, 60, lab.pace)
    return {name: at - started.since for name, at in active_since(output).items()}


def active_since(text: str) -> dict[str, float]:
    """Return from the output of `systemctl show` since when each unit is active (monotonic clock, seconds).

    Raises `not-ready` for a unit that never became active.
    """
    blocks = [dict(re.findall(r"^(\w+)=(.+)$", block, re.MULTILINE)) for block in text.split("\n\n")]
    active = {block["Id"]: int(block.get("ActiveEnterTimestampMonotonic", 0)) for block in blocks}
    missing = [unit for unit in _MOMENTS if not active.get(unit)]
    if missing:
        raise Error(
            "a unit has never been active",
            code="not-ready",
            expected=", ".join(_MOMENTS),
            found=f"not {', '.join(missing)}",
        )
    return {name: active[unit] / 1e6 for unit, name in _MOMENTS.items()}


def _gone(lab: Lab, instance_id: str) -> bool | None:
    states = {info.instance_id: info.leader for info in control.machines(lab.cloud)}
    return True if states.get(instance_id) is None else None
