"""A cloud of the benchmarks' own, the production tasks pointed at it, and an image to launch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcloud.settings import Cloud
from support.errors import Error
from support.process import run
from support.progress import step
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline import settings as all_settings
from zmanim_ami.pipeline.aws import Clients, Pace
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import host, marks

POLICIES = Path("infrastructure/iam")
VERSION = "test-bench"
# The cloud is on this machine, and each look is a cheap one.
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Lab:
    """A running cloud. `root` is the clone, `environment` what tasks get; `clients` reach this cloud only."""

    root: Path
    cache: Path
    cloud: Cloud
    versions_file: Path
    environment: Mapping[str, str]
    clients: Clients
    settings: Settings
    pace: Pace


@contextmanager
def lab(root: Path, cache: Path, state: Path) -> Iterator[Lab]:
    """Start a cloud for the body of a `with`, and take it down whatever happens there.

    It is named and marked as a rehearsal's is, so `inv cloud.down` leaves it alone while we live and finds it when we
    were killed. Raises host.require's, clouds.prepare's and clouds.start's faults.
    """
    host.require(state, install=False, confirm=False)
    prepared = clouds.prepare(root, cache)
    name = marks.own_mark().name("bench")
    os.environ[marks.VARIABLE] = name
    try:
        cloud = clouds.start(name, prepared, state, root / POLICIES)
        environment = clouds.environment(cloud, prepared.versions_file, os.environ)
        settings = all_settings.load(root, environment)
        yield Lab(
            root=root,
            cache=cache,
            cloud=cloud,
            versions_file=prepared.versions_file,
            environment=environment,
            clients=_connect(environment, cloud.region),
            settings=settings,
            pace=Pace(_POLL_SECONDS),
        )
    finally:
        with step(f"taking the local cloud {name} down"):
            clouds.stop(name, state)


def _connect(environment: Mapping[str, str], region: str) -> Clients:
    # boto3 reads where AWS is from the process's environment, and only while a client is made.
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environment)
        return aws.connect(region)
    finally:
        os.environ.clear()
        os.environ.update(before)


def task(
    root: Path,
    environment: Mapping[str, str],
    name: str,
    *arguments: str,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run a task as a person would and return its stdout; with `on_line`, both outputs go there line by line.

    Raises `task-failed`.
    """
    command = [sys.executable, "-m", "invoke", name, *arguments]
    completed = run(command, cwd=root, env=environment, check=False, on_line=on_line, pass_stderr=on_line is None)
    if completed.returncode != 0:
        raise Error(
            f"{name} failed, so there is nothing to time",
            code="task-failed",
            expected=f"{name} {' '.join(arguments)} ends with exit code 0",
            found=f"exit code {completed.returncode}; its message is above",
        )
    return completed.stdout


def baked_image(found: Lab) -> tuple[str, str]:
    """Return the ids of this clone's image, baked now unless this cloud has it, and of the base it was made from."""
    told = json.loads(task(found.root, found.environment, "build-ami", "--version", VERSION, "--json"))
    return str(told["ami_id"]), str(told["source_ami"])
