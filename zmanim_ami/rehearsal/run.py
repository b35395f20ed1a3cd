"""From a clone to a published, booted image: the production tasks, one after the other, against a cloud of our own.

The tasks run as a person would start them: `invoke TASK …` in the clone's root, as subprocesses, with the environment
that `cloud.env` prints. What they print as JSON is all that is taken over from them; what stands in SSM is read back
from the cloud itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from localcloud import control
from localcloud.bad_day import BadDay
from localcloud.net.egress import connections
from localcloud.settings import NSPAWN, QEMU, Cloud
from support.errors import Error
from support.files import write_atomically
from support.process import run
from support.progress import say, step
from zmanim_ami.pipeline.ami import provenance
from zmanim_ami.pipeline.programs import SHIPPED
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import identity, kernel, limits, owner, report
from zmanim_ami.rehearsal.cache import eviction
from zmanim_ami.rehearsal.cloud import Prepared
from zmanim_ami.rehearsal.host import Host
from zmanim_ami.rehearsal.report import Machines, Result, Step
from zmanim_ami.rehearsal.settings import MachineSettings

RESULT = Path("build/rehearsal/result.json")
POLICIES = Path("infrastructure/iam")


@dataclass(frozen=True)
class Options:
    """What was asked for. `root` is the clone; with `keep` the cloud is left running at the end.

    `base` is an archive of the root file system that machines start from; None: the stand-in. With `egress`, those
    machines reach the internet by name, and what the image is made of comes from there. With `bad_day` the cloud has
    those faults from its start. `machines` is their kind.
    """

    version: str
    root: Path
    cache: Path
    state: Path
    keep: bool
    install: bool
    confirm: bool
    base: Path | None = None
    egress: bool = False
    bad_day: BadDay | None = None
    machines: MachineSettings = field(default_factory=MachineSettings)


class Rehearsal:
    """One run: its result so far, written to result.json after every step."""

    def __init__(self, options: Options) -> None:
        self.result = Result(version=options.version)
        self._path = options.root / RESULT
        self.save()

    def save(self, **changes: Any) -> None:
        """Take `changes` (fields of Result) over and write the file."""
        self.result = replace(self.result, **changes)
        write_atomically(self._path, self.result.as_json())

    @contextmanager
    def step(self, name: str, journal: Path | None = None) -> Iterator[None]:
        """Time a step and write it down, whether it succeeds or fails; with a cloud's journal count its calls, too."""
        start, before = time.monotonic(), report.calls(journal) if journal else 0
        ok = False
        try:
            with step(name):
                yield
            ok = True
        finally:
            seconds, calls = time.monotonic() - start, report.calls(journal) - before if journal else None
            self.save(steps=(*self.result.steps, Step(name, seconds, ok, calls)))


def rehearse(options: Options) -> Result:
    """Do it all, and return what `build/rehearsal/result.json` says.

    Raises an Error when a step fails; the file then holds what was done until there, and the error.
    """
    clouds.check_egress(options.base, egress=options.egress)
    clouds.check_programs(options.machines, egress=options.egress)
    os.environ[owner.VARIABLE] = owner.this_process().name()
    began = time.time()
    rehearsal = Rehearsal(options)
    try:
        with rehearsal.step("host"):
            kernel.check_architecture(options.machines.machines)
            Host(options.state, options.machines.machines).require(install=options.install, confirm=options.confirm)
        rehearsal.save(sources=provenance.sources(options.root))
        with rehearsal.step("prepare"):
            prepared = clouds.prepare(
                options.root,
                options.cache,
                options.base,
                egress=options.egress,
                programs=options.machines.architecture,
                machines=options.machines.machines,
            )
            prepared = clouds.with_machines(prepared, options.cache, options.machines)
        base = {"file": prepared.base.file.name, "sha256": prepared.base.sha256} if prepared.base else None
        rehearsal.save(differences=prepared.differences, base=base, machines=_machines(prepared))
        rehearsal.save(programs=options.machines.architecture)
        if options.machines.architecture != SHIPPED:
            say(f"the API and restic are built for {options.machines.programs}: {report.NOT_SHIPPED}")
        with started_cloud(rehearsal, options, prepared) as cloud:
            _release(rehearsal, options, prepared, cloud)
    except BaseException as error:
        rehearsal.save(ok=False, error=str(error) or type(error).__name__)
        raise
    rehearsal.save(ok=True)
    eviction.keep_within(options.cache, options.machines.cache_bytes, began)
    return rehearsal.result


@contextmanager
def started_cloud(
    rehearsal: Rehearsal,
    options: Options,
    prepared: Prepared,
    *,
    start: Callable[[str, Prepared, Path, Path, BadDay | None], Cloud] = clouds.start,
    stop: Callable[[str, Path], None] = control.down,
) -> Iterator[Cloud]:
    """Start a cloud of this process's own for the body of a `with`, and take it down at the end unless it is kept."""
    name = owner.this_process().name()
    try:
        with rehearsal.step("cloud.up"):
            cloud = start(name, prepared, options.state, options.root / POLICIES, options.bad_day)
        try:
            yield cloud
        finally:
            # Also, and most of all, when it failed: that a name was refused may be why.
            if options.bad_day:
                rehearsal.save(bad_day=report.faults(options.bad_day.seed, cloud.directory / "api.jsonl"))
            if options.egress:
                rehearsal.save(fetched=report.by_name(connections(cloud.directory)))
    finally:
        if not options.keep:
            with rehearsal.step("cloud.down"):
                stop(name, options.state)
    if options.keep:
        say(f'left running because of --keep:\n  eval "$(./inv cloud.env --name {name})"')
        say(f"  ./inv cloud.ps --name {name}\n  ./inv cloud.down --name {name}")


def _release(rehearsal: Rehearsal, options: Options, prepared: Prepared, cloud: Cloud) -> None:
    longer = limits.of(cloud, options.root, os.environ)
    limits.tell(longer)
    rehearsal.save(relaxed=longer)
    environment = clouds.environment(cloud, prepared.versions_file, os.environ) | limits.variables(longer)

    def task(step: str, name: str) -> dict[str, Any]:
        with rehearsal.step(name, cloud.directory / "api.jsonl"):
            # Each under the role that its job has on GitHub, which may do that step and no other.
            role = identity.environment_of(step, cloud, environment, f"refs/tags/{options.version}-ami")
            return run_task(options.root, role, name, "--version", options.version, again=_flags(options))

    built = task("build", "build-ami")
    rehearsal.save(ami_id=built["ami_id"], source_ami=built["source_ami"], tree_digest=built["tree_digest"])
    verified = task("verify", "verify-ami")
    rehearsal.save(health=verified["health"], boot=verified["boot"])
    said = task("publish", "publish-ssm")
    ssm = clouds.connect(environment, cloud.region).ssm
    parameters = ssm.get_parameters(Names=list(said["values"]))["Parameters"]
    rehearsal.save(
        published={parameter["Name"]: parameter["Value"] for parameter in parameters},
        parameter_versions={parameter["Name"]: parameter["Version"] for parameter in parameters},
    )


def _machines(prepared: Prepared) -> Machines:
    return Machines(QEMU, prepared.accelerator) if prepared.disk else Machines(NSPAWN)


def _flags(options: Options) -> str:
    """Return the words of a command line that has the same machines again."""
    usual, chosen = vars(MachineSettings()), vars(options.machines)
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in chosen.items() if value != usual[name])


def run_task(root: Path, environment: Mapping[str, str], name: str, *arguments: str, again: str = "") -> dict[str, Any]:
    """Run a task in the clone at `root`, as a person would, and return its JSON.

    `again` are further words of the command that a person is told to repeat. Raises `step-failed`.
    """
    command = [sys.executable, "-m", "invoke", name, *arguments, "--json"]
    ended = run(command, cwd=root, env=environment, check=False, pass_stderr=True)
    if ended.returncode != 0:
        raise Error(
            f"the run stopped at {name}",
            code="step-failed",
            expected=f"{name} ends with exit code 0",
            found=f"exit code {ended.returncode}; its message is above",
            fix=f"correct it and run ./inv rehearse again; --keep leaves the cloud to look around: "
            f"./inv rehearse {' '.join(filter(None, (*arguments, again)))} --keep",
        )
    result = json.loads(ended.stdout)
    assert isinstance(result, dict)
    return result
