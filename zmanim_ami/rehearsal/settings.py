"""What can be chosen about this machine's own clouds, in the same three places as what a release is (setting_sources).

A release's settings (pipeline/settings.py) know nothing of these, and these say nothing to AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.machine.qemu import acceleration
from localcloud.settings import NSPAWN, QEMU
from zmanim_ami.pipeline import setting_sources as reading
from zmanim_ami.pipeline import settings as release_settings
from zmanim_ami.pipeline.programs import SHIPPED
from zmanim_ami.pipeline.setting_sources import Row, Sources


@dataclass(frozen=True)
class MachineSettings:
    """Of what kind the machines of a cloud on this machine are, and how much is kept for them."""

    machines: str = reading.setting(
        NSPAWN,
        "a local cloud's machines: nspawn (on this host's kernel, fast) or qemu (with a kernel of their own)",
        f"{NSPAWN}|{QEMU}",
        f"{NSPAWN} or {QEMU}",
    )
    accel: str = reading.setting(
        "auto",
        "for machines in qemu: kvm, tcg (emulated) or auto (kvm where it has booted a kernel)",
        "|".join(acceleration.WAYS),
        " or ".join(acceleration.WAYS),
    )
    programs: str = reading.setting(
        "arm64",
        "what the API and restic are built for: arm64, which ships, or amd64, for machines in qemu alone",
        "arm64|amd64",
        "arm64 or amd64",
    )

    cache_mb: int = reading.setting(
        6000,
        "how many MB the user's cache may hold after a rehearsal or cloud.up; what was used least recently goes",
        limits=(1, 100_000_000),
    )

    @property
    def cache_bytes(self) -> int:
        """How many bytes the user's cache may hold."""
        return self.cache_mb * 1_000_000

    @property
    def architecture(self) -> str:
        """What the programs are built for, by the name that uname gives it."""
        return {"arm64": SHIPPED, "amd64": "x86_64"}[self.programs]


# Whoever reads a release's settings leaves these alone.
OTHERS: tuple[type[Any], ...] = (MachineSettings,)


def load(root: Path, environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> MachineSettings:
    """Return these settings of the project at `root`; raises as pipeline.settings.load does."""
    return MachineSettings(**{row.name: row.value for row in explain(root, environ, flags)})  # type: ignore[arg-type]  # explain() has checked each


def explain(root: Path, environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> list[Row]:
    """Return each with its value and origin; raises as `load` does."""
    sources = Sources(release_settings.NAME, (MachineSettings, release_settings.Settings))
    return sources.explain(MachineSettings, root, environ, flags)


def help_for(name: str) -> str:
    """Return what the setting `name` is for; empty when there is none of that name."""
    return reading.help_for(MachineSettings, name)
