"""A cloud of the benchmarks' own, the production tasks pointed at it, and an image to launch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcloud import control
from localcloud.settings import Cloud
from support.progress import step
from zmanim_ami.pipeline import settings as all_settings
from zmanim_ami.pipeline.aws import Clients, Pace
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import owner
from zmanim_ami.rehearsal.host import Host
from zmanim_ami.rehearsal.run import POLICIES, run_task

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

    It is named as a rehearsal's is, so `inv cloud.down` leaves it alone while we live and finds it when we were killed.
    Raises what Host.require, clouds.prepare and clouds.start raise.
    """
    Host(state).require(install=False, confirm=False)
    prepared = clouds.prepare(root, cache)
    name = owner.this_process().name("bench")
    os.environ[owner.VARIABLE] = name
    try:
        cloud = clouds.start(name, prepared, state, root / POLICIES)
        environment = clouds.environment(cloud, prepared.versions_file, os.environ)
        yield Lab(
            root=root,
            cache=cache,
            cloud=cloud,
            versions_file=prepared.versions_file,
            environment=environment,
            clients=clouds.connect(environment, cloud.region),
            settings=all_settings.load(root, environment),
            pace=Pace(_POLL_SECONDS),
        )
    finally:
        with step(f"taking the local cloud {name} down"):
            control.down(name, state)


def built_image(lab: Lab) -> tuple[str, str]:
    """Return the ids of this clone's image, built now unless this cloud has it, and of the base it was made from."""
    built = run_task(lab.root, lab.environment, "build-ami", "--version", VERSION)
    return str(built["ami_id"]), str(built["source_ami"])
