"""What the tasks share: how a function becomes a task, the words of common options, settings and clients."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task, task

from support.errors import Error
from support.process import interrupt_on_termination
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline import settings as all_settings
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "infrastructure" / "iam"

VERSION = {"version": "the version: v1.2.3, v1.2.3-rc.1, or test-… for a trial that is never published"}
JSON = {"json": "print the result as JSON"}
REGION = {"region": "AWS region (setting region)"}


def command(**help: str) -> Callable[[Callable[..., None]], Task[Any]]:
    """Make a task of a function: no positional arguments, faults as messages, interruptions as exit code 130.

    `positional=[]` because Invoke would take `--help` for a required argument's value and run the task.
    """

    def decorate(function: Callable[..., None]) -> Task[Any]:
        @functools.wraps(function)
        def body(context: Context, **arguments: Any) -> None:
            interrupt_on_termination()
            try:
                function(context, **arguments)
            except Error as fault:
                raise Exit(str(fault), code=fault.exit_code) from None
            except KeyboardInterrupt:
                raise Exit("interrupted: what was begun has been cleaned up", code=130) from None

        made: Task[Any] = task(positional=[], help=help)(body)
        return made

    return decorate


def load_settings(**flags: object) -> Settings:
    """Return the settings as pyproject.toml, the environment and then `flags` say; an empty flag says nothing."""
    return all_settings.load(ROOT, os.environ, flags)


def connect(chosen: Settings) -> Clients:
    """Connect, and say in the first line to whom."""
    clients = aws.connect(chosen.region)
    say(aws.target(clients, os.environ))
    return clients
