"""A cloud of the benchmarks' own, the image that is launched there, and when a machine's services answered.

The moments of a machine are systemd's own, read after everything is over: nothing asks the machine while it boots. A
unit of Type=notify is active when its server says that it takes connections. Host and machine have the same monotonic
clock, which holds on the local cloud only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcloud import control
from localcloud.settings import Cloud
from support.errors import Error
from support.progress import step
from zmanim_ami.pipeline import instance, run_command
from zmanim_ami.pipeline import settings as all_settings
from zmanim_ami.pipeline.ami import image as ami
from zmanim_ami.pipeline.aws import Clients, Poller
from zmanim_ami.pipeline.instance import Machine
from zmanim_ami.pipeline.ready_report import ready_reports
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import limits, owner
from zmanim_ami.rehearsal.host import Host
from zmanim_ami.rehearsal.run import POLICIES, run_task
from zmanim_ami.rehearsal.settings import OTHERS, MachineSettings

VERSION = "test-bench"
ON_THE_HOSTS_KERNEL = MachineSettings()
# The cloud is on this machine, and each look is a cheap one.
_POLL_SECONDS = 0.2
TIMEOUT = 900.0
_MOMENTS = {
    "postgresql.service": "PostgreSQL answers",
    "redis.service": "Redis answers",
    "zmanim-ready.service": "ready",
}
_ASK = f"systemctl show --property=Id,ActiveEnterTimestampMonotonic {' '.join(_MOMENTS)}"


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
    poller: Poller


@contextmanager
def lab(root: Path, cache: Path, state: Path, machines: MachineSettings = ON_THE_HOSTS_KERNEL) -> Iterator[Lab]:
    """Start a cloud with such machines for the body of a `with`, and take it down whatever happens there.

    It is named as a rehearsal's is, so `inv cloud.down` leaves it alone while we live and finds it when we were killed.
    Raises what Host.require, clouds.prepare and clouds.start raise.
    """
    Host(state, machines.machines).require(install=False, confirm=False)
    prepared = clouds.with_machines(clouds.prepare(root, cache), cache, machines)
    name = owner.this_process().name("bench")
    os.environ[owner.VARIABLE] = name
    try:
        cloud = clouds.start(name, prepared, state, root / POLICIES)
        longer = limits.variables(limits.of(cloud, root, os.environ))
        environment = clouds.environment(cloud, prepared.versions_file, os.environ) | longer
        yield Lab(
            root=root,
            cache=cache,
            cloud=cloud,
            versions_file=prepared.versions_file,
            environment=environment,
            clients=clouds.connect(environment, cloud.region),
            settings=all_settings.load(root, environment, others=OTHERS),
            poller=Poller(_POLL_SECONDS),
        )
    finally:
        with step(f"taking the local cloud {name} down"):
            control.down(name, state)


def built_image(lab: Lab) -> tuple[str, str]:
    """Return the ids of this clone's image, built now unless this cloud has it, and of the base it was made from."""
    built = run_task(lab.root, lab.environment, "build-ami", "--version", VERSION)
    return str(built["ami_id"]), str(built["source_ami"])


@contextmanager
def launched(lab: Lab, image_id: str, user_data: str = "") -> Iterator[Machine]:
    """Launch an instance as verification's are, for the body of a `with`; terminated, and waited for, at its end."""
    image = ami.of_id(lab.clients, image_id)
    with instance.launched(
        lab.clients, lab.settings, image, lab.poller, instance.Launch(user_data=user_data)
    ) as machine:
        yield machine
    # Waited for: the next run is not to share the processors with this one's end.
    waiter = lab.clients.ec2.get_waiter("instance_terminated")
    waiter.wait(InstanceIds=[machine.instance_id], WaiterConfig={"Delay": 1})


def wait_ready(lab: Lab, machine: Machine, boot: int = 1) -> float:
    """Wait until a machine says that it is ready; return after how many seconds since its launch that was seen.

    `boot` counts a machine's boots: each one says that it is ready. Raises `not-ready`.
    """

    def look() -> Mapping[str, object] | None:
        # The console's file, not GetConsoleOutput: asking the API often takes the processors that are timed.
        reports = ready_reports(control.console(lab.cloud, machine.instance_id))
        return reports[-1] if len(reports) >= boot else None

    def not_ready() -> Error:
        lines = instance.tail(control.console(lab.cloud, machine.instance_id))
        return Error(
            f"{machine.instance_id} is not ready",
            code="not-ready",
            expected=f"a line zmanim-ready … with ok: true within {TIMEOUT:.0f} s",
            found=f"the console's last lines:\n{lines}",
            fix="./inv rehearse shows what is wrong with the image",
        )

    if lab.poller.wait_for(look, TIMEOUT, not_ready).get("ok") is not True:
        raise not_ready()
    return lab.poller.clock() - machine.launched


def moments(lab: Lab, machine: Machine, boot: int = 1) -> dict[str, float]:
    """Wait until a machine is ready; return after how many seconds PostgreSQL and Redis answered and it was ready.

    `boot` is wait_ready's. Raises `not-ready`.
    """
    wait_ready(lab, machine, boot)
    output = run_command.run_script(lab.clients, machine.instance_id, _ASK, 60, lab.poller)
    return {name: at - machine.launched for name, at in active_since(output).items()}


def active_since(text: str) -> dict[str, float]:
    """Return from the output of `systemctl show` since when each unit is active (monotonic clock, seconds).

    Raises `not-ready` for a unit that never became active.
    """
    blocks = [dict(re.findall(r"^(\w+)=(.+)$", block, re.MULTILINE)) for block in text.split("\n\n")]
    active = {block["Id"]: int(block.get("ActiveEnterTimestampMonotonic", 0)) for block in blocks}
    missing = [unit for unit in _MOMENTS if not active.get(unit)]
    if missing:
        raise Error(
            "a unit has never been active",
            code="not-ready",
            expected=", ".join(_MOMENTS),
            found=f"not {', '.join(missing)}",
        )
    return {name: active[unit] / 1e6 for unit, name in _MOMENTS.items()}
