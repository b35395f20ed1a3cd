"""A local cloud of one's own."""

from __future__ import annotations

import os
import sys

from invoke.context import Context

from localcloud import control
from support.cache import user_cache
from support.output import show
from zmanim_ami.commands.shared import JSON, POLICIES, ROOT, command
from zmanim_ami.rehearsal import cloud

NAME = {"name": "which cloud, when there are several (default: `default`, or the only one)"}


@command(**NAME, **JSON)
def up(_context: Context, name: str = "default", json: bool = False) -> None:
    """Start a local cloud: an EC2 on this machine whose instances are real booted machines. Needs root.

    Up already is a success. Its base image, mirror and account are those of a rehearsal.
    """
    prepared = cloud.prepare(ROOT, user_cache())
    show(cloud.start(name, prepared, cloud.STATE, POLICIES), json)


@command(**NAME)
def env(_context: Context, name: str = "") -> None:
    """Print shell lines that point every AWS client at the local cloud: eval "$(./inv cloud.env)".

    With the cloud down they point at nothing and end in `false`, so that nothing can reach the real AWS by mistake.
    """
    sys.stdout.write(cloud.exports(name, cloud.STATE, ROOT))


@command(**NAME, **JSON)
def ps(_context: Context, name: str = "", json: bool = False) -> None:
    """List the machines of a local cloud."""
    show(control.machines(cloud.running(name, cloud.STATE)), json)


@command(instance="the instance's id (default: the only one that runs)", **NAME)
def shell(_context: Context, instance: str = "", name: str = "") -> None:
    """Open a root shell in a machine of a local cloud."""
    found = cloud.running(name, cloud.STATE)
    argv = control.shell_command(found, cloud.instance_id(found, instance))
    os.execvp(argv[0], argv)


@command(instance="the instance's id (default: the only one that runs)", **NAME)
def console(_context: Context, instance: str = "", name: str = "") -> None:
    """Print what a machine of a local cloud has said on its console."""
    found = cloud.running(name, cloud.STATE)
    sys.stdout.write(control.console(found, cloud.instance_id(found, instance)))


@command(**NAME)
def down(_context: Context, name: str = "") -> None:
    """Take local clouds down, and whatever a killed rehearsal left on this machine; with --name only that cloud.

    Removes their instances, volumes and images for good. A rehearsal that is running is left alone.
    """
    cloud.down(name, cloud.STATE)
