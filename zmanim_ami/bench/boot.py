"""boot: from RunInstances, and from RebootInstances, until PostgreSQL and Redis answer and the machine is ready.

Where a boot's seconds go is systemd's own account: the chain that zmanim-ready waited for, and who took long.
"""

from __future__ import annotations

import re

from support.errors import Error
from zmanim_ami.bench.figures import Limit, repeat
from zmanim_ami.bench.lab import Lab, built_image, launched, moments
from zmanim_ami.pipeline import instance, run_command
from zmanim_ami.pipeline.instance import Machine

NOTES = (
    "Seconds since the call; of a reboot they include the shutdown.",
    "A service answers when systemd has it as active (both notify); ready is when every check has passed.",
    "A first boot also formats the data volume, makes the cluster, the database and its extensions, and migrates.",
    "critical chain: when the unit was done, in seconds since systemd began, in the runs whose chain it was part of.",
    "blame: how long the unit took to start, in the runs in which it was among the slowest; many run side by side.",
)

# Of ten boots the slowest: what the image is made for.
LIMITS = (Limit("first boot: ready", 60.0), Limit("reboot: ready", 60.0))
READY = "zmanim-ready.service"
# systemd-analyze says nothing before every job is done, and some are still at it when a machine is ready. In English,
# and in ASCII.
_ASK_CHAIN = (
    f"systemctl is-system-running --wait >/dev/null; LC_ALL=C systemd-analyze critical-chain --no-pager {READY}"
)
_ASK_BLAME = "LC_ALL=C systemd-analyze blame --no-pager"
_UNITS_OF_TIME = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_PART = re.compile(r"([0-9.]+)(h|min|s|ms|us)")
_SPAN = r"[0-9.]+(?:h|min|s|ms|us)(?: [0-9.]+(?:min|s|ms|us))*"
# A unit's name may begin with - too, so the branch that it hangs on is part of the pattern.
_LINK = re.compile(rf"^ *`-(\S+\.[a-z]+) @({_SPAN})(?: \+({_SPAN}))?$")
_BLAMED = re.compile(rf"^\s*({_SPAN}) ([\w@:.\\-]+\.[a-z]+)$", re.MULTILINE)


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Launch the built image `runs` times and reboot each machine once. Raises what launching raises, `step-failed`."""
    image_id, _base = built_image(lab)
    return repeat("boot", runs, lambda _number: _boots(lab, image_id))


def _boots(lab: Lab, image_id: str) -> dict[str, float]:
    with launched(lab, image_id) as machine:
        return _boot(lab, machine, 1, "first boot") | _boot(
            lab, instance.reboot(lab.clients, machine, lab.poller), 2, "reboot"
        )


def _boot(lab: Lab, machine: Machine, number: int, name: str) -> dict[str, float]:
    answered = moments(lab, machine, number)
    chain = run_command.run_script(lab.clients, machine.instance_id, _ASK_CHAIN, 120, lab.poller)
    blame = run_command.run_script(lab.clients, machine.instance_id, _ASK_BLAME, 60, lab.poller)
    return {
        **{f"{name}: {what}": at for what, at in answered.items()},
        **{f"{name}: critical chain: {unit}": at for unit, at in critical(chain).items()},
        **{f"{name}: blame: {unit}": took for unit, took in blamed(blame).items()},
    }


def seconds(span: str) -> float:
    """Return the seconds of a time span as systemd writes it ("1min 2.5s", "180ms")."""
    return round(sum(float(number) * _UNITS_OF_TIME[unit] for number, unit in _PART.findall(span)), 6)


def critical(text: str) -> dict[str, float]:
    """Return when each unit of the critical chain was done (seconds since systemd began), in the order of the boot.

    `text` is what `systemd-analyze critical-chain` says. Raises `not-ready` when no chain is in it.
    """
    links = [match for line in text.splitlines() if (match := _LINK.search(line))]
    if not links:
        raise Error(
            "the boot has no critical chain",
            code="not-ready",
            expected=f"units before {READY}",
            found=text.strip()[-300:],
        )
    return {match[1]: round(seconds(match[2]) + seconds(match[3] or ""), 3) for match in reversed(links)}


def blamed(text: str, most: int = 8) -> dict[str, float]:
    """Return how many seconds each of the slowest units took, the slowest first."""
    return {unit: seconds(span) for span, unit in _BLAMED.findall(text)[:most]}
