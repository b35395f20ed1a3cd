"""A local cloud of one's own."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from localcloud import control
from localcloud.settings import Cloud
from zmanim_ami.commands.shared import POLICIES, ROOT, command
from zmanim_ami.rehearsal import cloud
from zmanim_ami.rehearsal.cache import eviction
from zmanim_ami.rehearsal.settings import MachineSettings
from zmanim_ami.toolchain.environment import user_cache

_NAME = "which cloud (default: the one named `default`, which cloud.up starts, and no other)"
_INSTANCE = "the instance's id (default: the only one that runs)"


@dataclass(frozen=True)
class Machine:
    """An instance as cloud.ps shows it; `since` is when it was last started, in this machine's time zone."""

    instance_id: str
    state: str
    address: str
    image: str
    leader: int | None
    since: str


@command(
    *("machines", "accel", "programs", "cache_mb"),
    name="what to call it (default: `default`, the one that commands without --name mean)",
    bare="with an empty account: nothing in it that account.apply makes, so that it can be tried",
    bad_day="reads lag, calls are throttled, answers get lost, as on AWS now and then",
    seed="a bad day, and which calls are hit (default: by chance, and said)",
    base="what machines start from, not the stand-in: a root file system in a tar archive, or for qemu a disk image",
    egress="with --base: let machines reach package repositories and sources outside, by name on ports 80 and 443",
)
def up(
    machine_settings: MachineSettings,
    name: str = "default",
    bare: bool = False,
    bad_day: bool = False,
    seed: int = 0,
    base: str = "",
    egress: bool = False,
) -> Cloud:
    """Start a local cloud: an EC2 on this machine whose instances are real booted machines. Needs root.

    Up already is a success, but not with --bare: that one's account may have been filled. Its base image, mirror and
    account are those of a rehearsal. With cloud.env and tools.env (which builds Packer),
    `packer build .` in infrastructure/packer works by hand too.
    """
    began = time.time()
    day = cloud.bad_day_of(seed) if bad_day or seed else None
    cloud.check_machines(machine_settings)
    if bare:
        cloud.check_down(name, cloud.STATE)
    prepared = cloud.prepare(
        ROOT,
        user_cache(),
        Path(base) if base else None,
        egress=egress,
        programs=machine_settings.architecture,
        machines=machine_settings.machines,
        build_tools=cloud.no_packer,
    )
    prepared = cloud.with_machines(prepared, user_cache(), machine_settings)
    started = cloud.start(name, prepared, cloud.STATE, POLICIES, day, empty=bare)
    eviction.keep_within(user_cache(), machine_settings.cache_bytes, began)
    return started


@command(only_reads=True, name=_NAME)
def env(name: str = "") -> None:
    """Print shell lines that point every AWS client at the local cloud: eval "$(./inv cloud.env)".

    With the cloud down they point at nothing and end in `false`, so that nothing can reach the real AWS by mistake.
    """
    sys.stdout.write(cloud.exports(name, cloud.STATE, ROOT))


@command(only_reads=True, name=_NAME)
def ps(name: str = "") -> list[Machine]:
    """List the machines of a local cloud."""
    infos = control.machines(cloud.running(name, cloud.STATE))
    return [Machine(**{**vars(info), "since": _local_time(info.since)}) for info in infos]


def _local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")


@command(name=_NAME, instance=_INSTANCE)
def shell(instance: str = "", name: str = "") -> None:
    """Open a root shell in a machine of a local cloud."""
    running = cloud.running(name, cloud.STATE)
    argv = control.shell_command(running, cloud.instance_id(running, instance))
    os.execvp(argv[0], argv)


@command(only_reads=True, name=_NAME, instance=_INSTANCE)
def console(instance: str = "", name: str = "") -> None:
    """Print what a machine of a local cloud has said on its console."""
    running = cloud.running(name, cloud.STATE)
    sys.stdout.write(control.console(running, cloud.instance_id(running, instance)))


@command(name=_NAME)
def down(name: str = "") -> None:
    """Take the local cloud down, and whatever a killed rehearsal left on this machine; with --name only that cloud.

    Removes its instances, volumes and images for good. A rehearsal that is running is left alone, and so is every cloud
    that was started under another name.
    """
    cloud.down(name, cloud.STATE)
