"""The tasks' limits where machines are emulated: longer ones, told and written down, for what is only slow there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from localcloud.settings import Cloud
from support.progress import say
from zmanim_ami.pipeline import settings as release_settings
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.rehearsal.settings import OTHERS

# Seconds by setting. Measured on two processors: a guest's Python is 14 times slower than the host's, what ships for
# ARM64 is emulated twice, and verify-ami has two machines boot beside each other.
EMULATED: Final[Mapping[str, int]] = {
    "ready_seconds": 1500,
    "boot_timeout": 1800,
    "command_timeout": 1200,
    "backup_timeout": 3600,
}
_WHY = "the machines' processor is emulated"
# What localcloud/machine/qemu/guest/start-limits.sh does in the machines.
_STARTS = "TimeoutStartSec of services in the machines"


@dataclass(frozen=True)
class Relaxed:
    """A limit that is longer than usual: its name, which may be a setting's, what it is there and here, and why."""

    limit: str
    usual: str
    here: str
    why: str


def relaxed(cloud: Cloud, chosen: Settings) -> tuple[Relaxed, ...]:
    """Return the limits that are longer on a cloud's machines than `chosen`: none, unless they are emulated."""
    if not cloud.emulated:
        return ()
    usual = {item.name: getattr(chosen, item.name) for item in fields(chosen)}
    longer = [(name, seconds) for name, seconds in EMULATED.items() if seconds > usual[name]]
    return (
        *(Relaxed(name, f"{usual[name]} s", f"{seconds} s", _WHY) for name, seconds in longer),
        Relaxed(_STARTS, "as shipped", "none", _WHY),
    )


def of(cloud: Cloud, root: Path, environ: Mapping[str, str]) -> tuple[Relaxed, ...]:
    """Return the limits that are longer than the settings of the project at `root` say. Raises what load raises."""
    return relaxed(cloud, release_settings.load(root, environ, others=OTHERS))


def variables(limits: Sequence[Relaxed]) -> dict[str, str]:
    """Return the environment that the tasks read the longer limits from: those that are settings."""
    prefix = f"{release_settings.NAME.upper()}_"
    return {f"{prefix}{each.limit.upper()}": str(EMULATED[each.limit]) for each in limits if each.limit in EMULATED}


def tell(limits: Sequence[Relaxed]) -> None:
    """Say which limits are longer than usual, and why."""
    for each in limits:
        say(f"a longer limit, because {each.why}: {each.limit} is {each.here}, not {each.usual}")
