"""The task list is the user interface: asking for help never does anything."""

from __future__ import annotations

import functools
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.program import Program
from invoke.tasks import Task, task

import tasks
from tests.support import ROOT
from zmanim_ami.commands.shared import command

NAMES = sorted(tasks.namespace.task_names)
# Read at once: Invoke takes each text out when it first prints it.
EXPLAINED = {name: sorted(tasks.namespace[name].help) for name in NAMES}
RELEASE = {"build-binary", "validate", "build-ami", "verify-ami", "publish-ssm"}
CLOUD = {"cloud.up", "cloud.env", "cloud.ps", "cloud.shell", "cloud.console", "cloud.down"}
HOST = {"rehearse", "doctor", "tools.env", "settings"}


@pytest.fixture
def done() -> Iterator[list[str]]:
    """Every task's body replaced by one that only notes that it ran."""
    noted: list[str] = []
    bodies: dict[str, Any] = {}
    for name in NAMES:
        task: Task[Any] = tasks.namespace[name]
        bodies[name] = task.body
        task.body = _noting(task.body, name, noted)
    yield noted
    for name, body in bodies.items():
        tasks.namespace[name].body = body


def _noting(body: Callable[..., None], name: str, noted: list[str]) -> Callable[..., None]:
    @functools.wraps(body)
    def note(*_arguments: object, **_options: object) -> None:
        noted.append(name)

    return note


def _run(namespace: Collection, *arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        Program(namespace=namespace).run(["inv", *arguments])
    assert ended.value.code in {0, None}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.incident("`inv build-ami --help` ran the task, with the version `--help`")
def test_asking_a_task_for_help_explains_it_and_does_nothing(
    name: str, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _run(tasks.namespace, name, "--help")
    out = capsys.readouterr().out
    assert done == []
    assert re.search(rf"^Usage: .* {re.escape(name)} ", out)
    docstring = out.partition("Docstring:")[2].partition("Options:")[0].strip()
    assert docstring not in {"", "none"}


def test_a_task_that_takes_its_argument_by_position_would_be_caught(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []

    def build(_context: object, version: str) -> None:
        ran.append(version)

    Program(namespace=Collection(task(name="build")(build))).run(["inv", "build", "--help"], exit=False)
    capsys.readouterr()
    assert ran == ["--help"]


def test_the_tasks_are_those_of_the_documentation() -> None:
    assert set(NAMES) >= RELEASE | CLOUD | HOST
    page = (ROOT / "docs/tasks.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_a_task_is_explained(name: str) -> None:
    parameters = list(inspect.signature(tasks.namespace[name].body).parameters)
    assert sorted(parameters[1:]) == EXPLAINED[name]


def test_a_bad_version_is_refused_with_exit_code_2_and_no_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "invoke", "build-ami", "--version", "1.2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "expected:" in ended.stderr
    assert ended.stdout == ""


def test_a_test_image_is_not_published_and_nobody_is_asked_first() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "invoke", "publish-ssm", "--version", "test-mine"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "never published" in ended.stderr
    assert "127.0.0.1" not in ended.stderr


def _dry(made: Task[Any]) -> int:
    try:
        Program(namespace=Collection(made)).run(["inv", "--dry", made.name.replace("_", "-")])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.incident("`inv --dry lock` wrote new locks: a task without a plan did what it does")
def test_a_task_that_has_no_plan_does_nothing_when_it_is_asked_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[object] = []

    @command()
    def takes_it_down() -> None:
        """Take it down."""
        ran.append("it")

    @command(only_reads=True)
    def looks() -> None:
        """Look."""
        ran.append("looked")

    @command()
    def plans(dry: bool) -> None:
        """Plan."""
        ran.append(dry)

    assert [_dry(each) for each in (takes_it_down, looks, plans)] == [2, 0, 0]
    assert ran == ["looked", True]
    assert "takes-it-down has no plan to show" in capsys.readouterr().err


def test_alone_it_lists_what_there_is() -> None:
    ended = subprocess.run([ROOT / "inv"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "build-ami" in ended.stdout


@pytest.mark.incident("rehearse -h was taken for a flag without its value: Invoke dealt out flags of one letter")
@pytest.mark.parametrize("name", NAMES)
def test_a_task_s_flags_have_no_letters_but_h(name: str) -> None:
    assert [flag for flag in tasks.namespace[name].get_arguments() if len(flag.name) == 1 or flag.nicknames] == []
