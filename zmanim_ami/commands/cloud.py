"""A local cloud of one's own."""

from __future__ import annotations

import os
import sys

from localcloud import control
from localcloud.settings import Cloud
from zmanim_ami.commands.shared import POLICIES, ROOT, command
from zmanim_ami.rehearsal import cloud
from zmanim_ami.toolchain.environment import user_cache

_NAME = "which cloud, when there are several (default: `default`, or the only one)"
_INSTANCE = "the instance's id (default: the only one that runs)"


@command(
    name=_NAME,
    bad_day="reads lag, calls are throttled, answers get lost, as on AWS now and then",
    seed="with --bad-day: which calls are hit (default: by chance, and said)",
)
def up(name: str = "default", bad_day: bool = False, seed: int = 0) -> Cloud:
    """Start a local cloud: an EC2 on this machine whose instances are real booted machines. Needs root.

    Up already is a success. Its base image, mirror and account are those of a rehearsal. With cloud.env and tools.env,
    `packer build .` in infrastructure/packer works by hand too.
    """
    day = cloud.bad_day_of(seed) if bad_day else None
    return cloud.start(name, cloud.prepare(ROOT, user_cache()), cloud.STATE, POLICIES, day)


@command(name=_NAME)
def env(name: str = "") -> None:
    """Print shell lines that point every AWS client at the local cloud: eval "$(./inv cloud.env)".

    With the cloud down they point at nothing and end in `false`, so that nothing can reach the real AWS by mistake.
    """
    sys.stdout.write(cloud.exports(name, cloud.STATE, ROOT))


@command(name=_NAME)
def ps(name: str = "") -> list[control.MachineInfo]:
    """List the machines of a local cloud."""
    return control.machines(cloud.running(name, cloud.STATE))


@command(name=_NAME, instance=_INSTANCE)
def shell(instance: str = "", name: str = "") -> None:
    """Open a root shell in a machine of a local cloud."""
    running = cloud.running(name, cloud.STATE)
    argv = control.shell_command(running, cloud.instance_id(running, instance))
    os.execvp(argv[0], argv)


@command(name=_NAME, instance=_INSTANCE)
def console(instance: str = "", name: str = "") -> None:
    """Print what a machine of a local cloud has said on its console."""
    running = cloud.running(name, cloud.STATE)
    sys.stdout.write(control.console(running, cloud.instance_id(running, instance)))


@command(name=_NAME)
def down(name: str = "") -> None:
    """Take local clouds down, and whatever a killed rehearsal left on this machine; with --name only that cloud.

    Removes their instances, volumes and images for good. A rehearsal that is running is left alone.
    """
    cloud.down(name, cloud.STATE)
