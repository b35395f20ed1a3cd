"""What the tasks share: how a function becomes a task, the words of common flags, and the clients."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import Any, cast

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task, task

from support.errors import BadInput, Error
from support.output import show
from support.process import interrupt_on_termination
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline import settings as all_settings
from zmanim_ami.pipeline.ami import distribution
from zmanim_ami.pipeline.version import Version, parse
from zmanim_ami.rehearsal import settings as machine_settings

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "infrastructure" / "iam"

_COMMON = {
    "version": "the version: v1.2.3, v1.2.3-rc.1, or test-… for a test image, which is never published",
    "ami_id": "exactly this image instead of a version's",
    "environment": "prod, verify, …",
    "json": "print the result as JSON",
}
_PASSED = ("settings", "machine_settings", "dry")


def command(*flags: str, only_reads: bool = False, **help: str) -> Callable[[Callable[..., object]], Task[Any]]:
    """Make a task of a function: its parameters are the task's flags, and what it returns is printed (--json: as JSON).

    `flags` are settings that the task has a flag for as well; their words come from the settings themselves. `help`
    explains the function's own flags. A parameter `settings` is given a release's settings as all of that chooses them,
    `machine_settings` those of this machine's clouds, and `dry` whether Invoke was told --dry; where it was, a task
    that neither has a `dry` nor `only_reads` does nothing. Errors become messages, interruptions exit code 130.
    """

    def decorate(function: Callable[..., object]) -> Task[Any]:
        own = inspect.signature(function)
        parameters = [each for name, each in own.parameters.items() if name not in _PASSED]
        parameters += [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default="") for name in flags]
        if own.return_annotation != "None":
            parameters.append(Parameter("json", Parameter.POSITIONAL_OR_KEYWORD, default=False))

        @functools.wraps(function)
        def body(context: Context, **arguments: Any) -> None:
            interrupt_on_termination()
            as_json = arguments["json"] if "json" in own.parameters else arguments.pop("json", False)
            try:
                if context.config.run.dry and not only_reads and "dry" not in own.parameters:
                    raise _no_dry_run(function.__name__.replace("_", "-"))
                chosen = {name: arguments.pop(name) for name in flags}
                if "settings" in own.parameters:
                    arguments["settings"] = load_settings(**chosen)
                if "machine_settings" in own.parameters:
                    arguments["machine_settings"] = machine_settings.load(ROOT, os.environ, chosen)
                if "dry" in own.parameters:
                    arguments["dry"] = context.config.run.dry
                result = function(**arguments)
                if result is not None:
                    show(result, as_json)
            except Error as error:
                raise Exit(str(error), code=error.exit_code) from None
            except KeyboardInterrupt as interrupt:
                # What can't be cleaned up says so itself.
                words = str(interrupt) or "what was begun has been cleaned up"
                raise Exit(f"interrupted: {words}", code=130) from None

        first = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD)
        cast(Any, body).__signature__ = own.replace(parameters=[first, *parameters])
        # Nothing by position: Invoke would take `--help` for a required argument's value and run the task.
        # No flags of one letter: Invoke deals them out by chance, and one would be `environment` here, `replace` there.
        explained = {**_COMMON, **{name: _help_for(name) for name in flags}, **help}
        words = {each.name: _with_default(explained[each.name], each.default) for each in parameters}
        made: Task[Any] = task(positional=[], auto_shortflags=False, help=words)(body)
        return made

    return decorate


def _no_dry_run(task: str) -> BadInput:
    return BadInput(
        f"{task} has no plan to show, and would do what it does",
        code="no-dry-run",
        expected="--dry with a task that shows what it would change, or that changes nothing",
        found=f"--dry {task}",
        fix=f"run it without --dry; --help says what {task} changes",
    )


def _with_default(words: str, default: object) -> str:
    """Return a flag's words with its default, where they don't speak of one."""
    said = "default" in words or isinstance(default, bool) or not default or default is Parameter.empty
    return words if said else f"{words} (default: {default})"


def _help_for(name: str) -> str:
    return f"{all_settings.help_for(name) or machine_settings.help_for(name)} (setting {name})"


def load_settings(**flags: object) -> all_settings.Settings:
    """Return the settings as pyproject.toml, the environment and then `flags` say; an empty flag says nothing."""
    return all_settings.load(ROOT, os.environ, flags, others=machine_settings.OTHERS)


def connect(settings: all_settings.Settings) -> aws.Clients:
    """Connect, and say in the first line to whom, then which region of the environment's is not taken."""
    clients = aws.connect(settings.region)
    say(aws.target(clients, os.environ))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if os.environ.get(name, settings.region) != settings.region:
            say(f"{name}={os.environ[name]} is not used: the region is the setting `region` (--region, ZMANIM_REGION)")
    return clients


def connect_elsewhere(settings: all_settings.Settings) -> list[aws.Clients]:
    """Connect to the further regions that images are copied to."""
    return [aws.connect(region) for region in distribution.regions(settings)]


def version_unless_id(version: str, ami_id: str) -> Version | None:
    """Return the version that was given; None where an image is named by its id alone."""
    return parse(version) if version or not ami_id else None
