"""This machine: rehearsals, benchmarks, what it has and lacks, and what is read from the tree."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

from support.output import show
from support.process import run
from zmanim_ami import toolchain
from zmanim_ami.bench import run as benching
from zmanim_ami.bench.figures import Row as Figure
from zmanim_ami.commands.image import bundle
from zmanim_ami.commands.shared import ROOT, command
from zmanim_ami.evidence import first_run, make
from zmanim_ami.gate import doctor as gate
from zmanim_ami.gate.repository import fault_page
from zmanim_ami.pipeline import settings as all_settings
from zmanim_ami.pipeline.docs import page
from zmanim_ami.pipeline.pins import resolve as resolving
from zmanim_ami.pipeline.setting_sources import Row
from zmanim_ami.pipeline.version import parse
from zmanim_ami.rehearsal import cloud, container, disk_image, host, report
from zmanim_ami.rehearsal import run as rehearsing
from zmanim_ami.rehearsal import settings as chosen_machines
from zmanim_ami.rehearsal.cache import contents
from zmanim_ami.rehearsal.settings import MachineSettings
from zmanim_ami.toolchain.environment import user_cache

# What the template builds when nobody names a version: the default of its variables.
BY_HAND = parse("test-local")


@command(
    *("machines", "accel", "programs", "cache_mb"),
    keep="leave the cloud running at the end",
    install="--no-install refuses to install missing Debian packages",
    base="a tar archive of a root file system to start machines from, instead of the stand-in",
    bad_day="on a bad day of AWS's: reads lag, calls are throttled, answers get lost",
    seed="a bad day, and which calls are hit (default: by chance, and said)",
    egress="with --base: let machines reach package repositories and sources outside, by name on ports 80 and 443",
)
def rehearse(
    machine_settings: MachineSettings,
    version: str = "",
    keep: bool = False,
    install: bool = True,
    base: str = "",
    egress: bool = False,
    bad_day: bool = False,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Go from this clone to a published, booted image on this machine: the production tasks against a cloud of our own.

    Changes this machine: installs missing Debian packages (asks once on a terminal), fills the user's cache and deletes
    what is too much for it; the cloud goes away at the end. Needs root. Writes build/rehearsal/result.json, and
    report.html beside it for people.
    """
    options = rehearsing.Options(
        version=str(parse(version)),
        root=ROOT,
        cache=user_cache(),
        state=cloud.STATE,
        keep=keep,
        install=install,
        confirm=sys.stdin.isatty() and not os.environ.get("CI"),
        base=Path(base) if base else None,
        egress=egress,
        bad_day=cloud.bad_day_of(seed) if bad_day or seed else None,
        machines=machine_settings,
    )
    with make.of_rehearsal(ROOT):
        result = rehearsing.rehearse(options)
    if json:
        sys.stdout.write(result.as_json())
    else:
        report.show(result, Console())


@command(
    file="where to write it: …/NAME.tar or .tar.gz (default: build/base.tar.gz; of --kvm: build/base.qcow2)",
    image="a container image of the pinned release (default: Amazon's own)",
    kvm="a disk image instead, with a kernel of its own: a qcow2 file, or its https address",
    sha256="with --kvm: the image's SHA-256, as its maker names it",
)
def base_image(
    file: str = "", image: str = "", kvm: str = "", sha256: str = ""
) -> container.BaseFile | disk_image.DiskFile:
    """Make a base for --base out of Amazon's public container image at the pinned release, or of a disk image (--kvm).

    Changes this machine: docker pulls the image, which stays; its container goes away again. Needs docker and the
    network. The base is for hosts of this machine's architecture. With --kvm: what is fetched fills the user's cache;
    the base is for machines in QEMU (cloud.up --machines qemu --base FILE).
    """
    if kvm:
        return disk_image.fetch(kvm, sha256, Path(file or "build/base.qcow2"), user_cache())
    return container.make(ROOT, Path(file or "build/base.tar.gz"), image)


@command(
    only=f"one of {', '.join(benching.BENCHMARKS)}; may be given several times (default: all)",
    runs="how often each is run (default: as often as each has it)",
)
def bench(only: list[str] | None = None, runs: int = 0) -> list[Figure]:
    """Time boots, builds, backups and rehearsals on a local cloud, and write build/bench/NAME.json. Needs root.

    All of them take about an hour, --only boot some minutes. Starts a cloud of its own and takes it down. Nothing
    fails for being slow.
    """
    return benching.bench(ROOT, user_cache(), cloud.STATE, only=only or (), runs=runs)


bench.iterable = ["only"]


@command("postgresql_repo")
def resolve_packages(settings: all_settings.Settings, json: bool = False) -> None:
    """Check, inside an Amazon Linux 2023, that dnf finds every package of a route at the pinned release.

    Installs there the one package that brings the route's repository; nothing else changes. Exit code 1 when something
    is missing or too old, 3 on any other system.
    """
    os_release = Path("/etc/os-release")
    system = os_release.read_text() if os_release.exists() else ""
    rows = resolving.resolve(ROOT, system, route=settings.postgresql_repo)
    show(rows, json)
    resolving.check(rows)


@command(
    inventory="a build's output/inventory.json, to take docs/ami-inventory.json from first",
    first="result.json of a rehearsal with nothing cached: what README says of a first run, with --following",
    following="result.json of the rehearsal after that one, on the same machine",
)
def write_contents(inventory: str = "", first: str = "", following: str = "") -> page.Written:
    """Write docs/ami-contents.md from the tree and docs/ami-inventory.json, and what is read from tests.

    That is docs/contract.md from tests/contract, and docs/faults.md from the markers of the tests.

    The gate refuses what is out of date.
    """
    if first or following:
        first_run.write(ROOT, Path(first), Path(following))
    run([sys.executable, "-m", "tests.contract"], cwd=ROOT)
    fault_page.write(ROOT)
    return page.write(ROOT, Path(inventory) if inventory else None)


@command(
    "machines",
    install="install the Debian packages that are missing",
    browser="also what `./nox -s report` needs: Debian's Chromium",
)
def doctor(machine_settings: MachineSettings, install: bool = False, browser: bool = False, json: bool = False) -> None:
    """Show what this host has and lacks for a rehearsal and the gate, with the fix, and what the user's cache holds.

    Exit code 3 when a rehearsal lacks something; what the gate would leave out is only listed.

    Changes nothing, or with --install only what apt-get installs.
    """
    this = host.Host(cloud.STATE, machine_settings.machines)
    if install:
        this.install_missing(*gate.missing_packages(ROOT, browser=browser))
    requirements = this.requirements()
    kept = contents.rows(this.cache, machine_settings.cache_bytes)
    listed = kept if json else map(contents.for_people, kept)
    show([*requirements, *gate.requirements(ROOT, browser=browser), *listed], json)
    host.check(requirements)


@command()
def tools_env(settings: all_settings.Settings) -> None:
    """Print shell lines that put the pinned Packer and its plugin on PATH: eval "$(./inv tools.env)".

    Builds them into the user's cache first when they are not there, and the API's bundle that a `packer build .` by
    hand wants into build/bundle; changes nothing else.
    """
    bundle(settings, BY_HAND)
    sys.stdout.write(toolchain.exports(toolchain.tools(user_cache())))


@command(only_reads=True)
def settings() -> list[Row]:
    """Show every setting, its value and where it came from: pyproject.toml, ZMANIM_<FIELD> or the default."""
    release = all_settings.explain(ROOT, os.environ, others=chosen_machines.OTHERS)
    return [*release, *chosen_machines.explain(ROOT, os.environ)]
