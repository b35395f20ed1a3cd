"""The local cloud as zmanim uses it: the stand-in as its base image, the mirror and the account seeded.

Only here meet the production path and the local cloud.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from localcloud import bad_day, control
from localcloud import environment as cloud_environment
from localcloud.bad_day import BadDay
from localcloud.host.certificates import ensure_authority
from localcloud.machine.qemu import acceleration, base_disk
from localcloud.machine.qemu.disk_image import header
from localcloud.settings import DEFAULT_STATE, NSPAWN, QEMU, BaseImage, Cloud, CloudSettings
from support.errors import BadInput
from support.files import write_atomically
from support.parallel import side_by_side
from support.progress import quietly, say, step
from zmanim_ami import toolchain
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline import settings as all_settings
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.programs import SHIPPED
from zmanim_ami.rehearsal import account, disk_image, kernel, limits, standin
from zmanim_ami.rehearsal.base import Base, check_repositories, unpack
from zmanim_ami.rehearsal.owner import owner_of, stop_leftovers
from zmanim_ami.rehearsal.settings import OTHERS, MachineSettings
from zmanim_ami.rehearsal.versions import Difference, differences, rehearsed_versions

STATE = DEFAULT_STATE
PERSONS_CLOUD = "default"
VERSIONS_FILE = Path("build/rehearsal/versions.json")


class NoCloud(BadInput):
    """No local cloud of that name is up."""


@dataclass(frozen=True)
class Prepared:
    """What a cloud is started from. `versions_file` pins what is rehearsed, `differences` say how that differs.

    `root` is the tree of the base image, which came from `base` where it is not the stand-in's own. `mirror` holds the
    files that stand in for the sites that artifacts come from; None: they come from those sites, and machines have a
    route out to them. `disk` is the base's, where machines have a kernel of their own, with their `accelerator`.
    """

    root: Path
    mirror: Path | None
    authority: Path
    versions_file: Path
    differences: tuple[Difference, ...]
    base: Base | None = None
    disk: Path | None = None
    accelerator: str = "tcg"


def prepare(
    root: Path,
    cache: Path,
    base: Path | None = None,
    *,
    egress: bool = False,
    programs: str = SHIPPED,
    machines: str = NSPAWN,
    build_tools: Callable[[Path], object] = toolchain.tools,
) -> Prepared:
    """Build the tools and the stand-in for the clone at `root`, or find them in `cache`: slow once, then immediate.

    `build_tools` builds Packer with its plugin, or is no_packer where nobody is going to use them.

    With `base`, an archive of a root file system or, for `machines` in QEMU, a disk image, machines start from that;
    of the stand-in only the mirror is used. With `egress` too, nothing of it is: packages and artifacts are the genuine
    ones, as production pins them. `programs` is the architecture that the API and restic are built for.

    Raises `egress-without-base`, `base-needs-qemu` and what toolchain.tools, standin.build, base.unpack,
    base.check_repositories and disk_image.unpack raise.
    """
    check_egress(base, egress=egress)
    authority = ensure_authority(cache / "authority")
    unpacked = _unpack(base, cache, authority.certificate, machines) if base else None
    production = json.loads((root / "infrastructure/packer/versions.json").read_text())
    if unpacked and egress:
        build_tools(cache)
        tree, mirror, rehearsed = unpacked.root, None, production
    else:
        if unpacked and not unpacked.disk:
            check_repositories(unpacked)
        # Side by side: compiling keeps the processors busy while the base waits for the network and the disk.
        with toolchain.sources_of_tools(cache):
            side_by_side([lambda: (build_tools(cache), _restic(cache, programs)), lambda: standin.build_tree(cache)])
        # Both from the cache by now.
        stand_in = standin.build(cache, authority.certificate, _restic(cache, programs))
        mirror = stand_in / "mirror"
        rehearsed = rehearsed_versions(production, mirror, programs)
        tree = unpacked.root if unpacked else stand_in / "root"
    versions_file = root / VERSIONS_FILE
    write_atomically(versions_file, json.dumps(rehearsed, indent=2) + "\n")
    changed = tuple(differences(production, rehearsed))
    return Prepared(tree, mirror, cache / "authority", versions_file, changed, unpacked)


def no_packer(_cache: Path) -> None:
    """Build no Packer: a cloud alone needs none."""


def _unpack(base: Path, cache: Path, certificate: Path, machines: str) -> Base:
    if not header.is_qcow2(base):
        return unpack(base, cache, certificate)
    if machines != QEMU:
        raise BadInput(
            f"{base} is a disk image: its machines have a kernel of their own",
            code="base-needs-qemu",
            expected=f"--machines {QEMU}",
            found=f"--machines {machines}",
            fix=f"--machines {QEMU}, or a root file system in a tar archive (./inv base-image makes one)",
        )
    return disk_image.unpack(base, cache, certificate)


def check_programs(chosen: MachineSettings, *, egress: bool = False) -> None:
    """Raise `programs-unfit` where programs are to be built that the machines, or the artifacts, are not for.

    Else they would be taken for what ships: a machine on this host's kernel may run either.
    """
    if chosen.architecture != SHIPPED and (chosen.machines != QEMU or egress):
        raise BadInput(
            f"programs for {chosen.programs} are for machines in qemu alone, with the mirror's artifacts",
            code="programs-unfit",
            expected="--machines qemu and no --egress, or --programs arm64",
            found=f"machines {chosen.machines}" + (", --egress" if egress else ""),
        )


def check_machines(chosen: MachineSettings) -> None:
    """Raise what kernel.check_host raises where this host can't have such machines, before anything is built.

    And `programs-unfit`.
    """
    check_programs(chosen)
    if chosen.machines == QEMU:
        kernel.check_host()


def with_machines(prepared: Prepared, cache: Path, chosen: MachineSettings) -> Prepared:
    """Return `prepared` with what machines of the chosen kind need, built in `cache` or found there.

    Raises what kernel.base_disk_of, acceleration.choose and disk_image.accelerator_of raise.
    """
    if chosen.machines == NSPAWN:
        return prepared
    if prepared.base and (disk := prepared.base.disk):
        return replace(prepared, disk=disk, accelerator=disk_image.accelerator_of(disk, chosen.accel, cache))
    disk = kernel.base_disk_of(prepared.root, cache)
    return replace(prepared, disk=disk, accelerator=acceleration.choose(chosen.accel, disk / base_disk.KERNEL, cache))


def _restic(cache: Path, architecture: str) -> Path:
    return toolchain.program(cache, "restic", shipped=architecture)


def check_egress(base: Path | None, *, egress: bool) -> None:
    """Raise `egress-without-base` where egress would serve nothing."""
    if egress and base is None:
        raise BadInput(
            "the stand-in needs no egress",
            code="egress-without-base",
            expected="--egress with --base FILE: a genuine Amazon Linux, whose packages are outside",
            found="--egress alone: the stand-in has its packages in itself, and a mirror for the rest. Egress would "
            "only hide that something wants one",
            fix="leave --egress out, or add --base FILE (./inv base-image makes one)",
        )


def bad_day_of(seed: int) -> BadDay:
    """Return the bad day of a seed, of one by chance for 0, and say how to have the same one again."""
    seed = seed or secrets.randbelow(999_999) + 1
    say(f"a bad day: reads lag, calls are throttled, answers get lost; the same again: --bad-day --seed {seed}")
    return bad_day.usual(seed)


def start(
    name: str, prepared: Prepared, state: Path, policies: Path, day: BadDay | None = None, *, empty: bool = False
) -> Cloud:
    """Start the cloud `name`, or find it up, and give it what AWS and the account's owner would have there.

    That is the base image, the mirror's files, and, unless the account is to be `empty`, all that `account.apply` makes
    for prod and verify: on a bad `day` too, as its owner would. Raises what control.up and
    zmanim_ami.pipeline.account.requirements raise.
    """
    running = control.find(name, state)
    if running is not None:
        say(f"the local cloud {name} is up already")
        if day:
            control.set_bad_day(running, day)
        return running
    with step(f"starting the local cloud {name}"):
        cloud = control.up(replace(settings(name, prepared, state), bad_day=day))
    with step("seeding its account"):
        known = environment(cloud, prepared.versions_file, os.environ)
        chosen = all_settings.load(policies.parents[1], known, others=OTHERS)
        if prepared.mirror:
            account.fill_mirror(connect(known, cloud.region), prepared.mirror)
        if not empty:
            # A hundred lines of what account.apply makes, and of what a person would have to click on AWS.
            with quietly():
                account.seed(partial(connect, known), policies, chosen)
        control.confirm_all(cloud)  # the clicks that are left to a person
    return cloud


def down(name: str, state: Path) -> None:
    """Take one cloud down with the processes of the killed rehearsal that it may have been of.

    With an empty `name` the person's own, and every cloud and process of a rehearsal that was killed; clouds that have
    another name are named and left alone.
    """
    for each in [name] if name else names(state):
        owner = owner_of(each)
        if not name and (owner.is_alive() if owner else each != PERSONS_CLOUD):
            say(f"the local cloud {each} is left alone (--name {each} takes it down)")
            continue
        if (state / each).exists():
            say(f"taking the local cloud {each} down")
        control.down(each, state)
    leftovers = stop_leftovers(name)
    if leftovers:
        say(f"ended {len(leftovers)} processes of a killed rehearsal")


def check_down(name: str, state: Path) -> None:
    """Raise `cloud-is-up` where a cloud of that name is up: what its account holds is not known."""
    if control.find(name, state) is not None:
        raise BadInput(
            f"the local cloud {name} is up, and its account may hold something",
            code="cloud-is-up",
            expected="a name that no cloud has, for one with an empty account",
            found=name,
            fix=f"./inv cloud.down --name {name} first, or another --name",
        )


def names(state: Path) -> list[str]:
    """Return the names of all clouds that are up or have left something, the person's own among them."""
    existing = {entry.name for entry in state.iterdir() if entry.is_dir()} if state.is_dir() else set()
    return sorted(existing | {PERSONS_CLOUD})


def running(name: str, state: Path) -> Cloud:
    """Return the cloud `name`; with an empty name the person's own, and no other. Raises NoCloud."""
    wanted = name or PERSONS_CLOUD
    cloud = control.find(wanted, state)
    if cloud is None:
        others = [each for each in names(state) if control.find(each, state)]
        raise NoCloud(
            f"the local cloud {wanted} is not up",
            expected="a running cloud",
            found=", ".join(others) or "none",
            fix="./inv cloud.up"
            + (f" --name {name}" if name else "")
            + (", or --name with one that is up" if others else ""),
        )
    return cloud


def instance_id(cloud: Cloud, requested: str) -> str:
    """Return the requested instance, or else the only one that runs. Raises `which-instance`."""
    if requested:
        return requested
    candidates = [machine for machine in control.machines(cloud) if machine.state == "running"]
    if len(candidates) != 1:
        raise BadInput(
            f"{len(candidates)} instances run in {cloud.name}",
            code="which-instance",
            expected="one, or --instance i-…",
            found=", ".join(machine.instance_id for machine in candidates) or "none",
            fix=f"./inv cloud.ps --name {cloud.name} lists them",
        )
    return candidates[0].instance_id


def environment(cloud: Cloud, versions_file: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with exactly the changes that `cloud.env` prints."""
    return cloud_environment.environment(cloud, base) | _chosen(cloud, versions_file)


def _chosen(cloud: Cloud, versions_file: Path) -> dict[str, str]:
    """Return what names the rehearsed versions and the cloud's region to the tasks, and to a `packer build .` by hand.

    Also who may reach a builder: the tasks are told where to ask, Packer by hand gets the answer. The tasks' own
    -var-file goes before Packer's variable of the environment.
    """
    values = {"region": cloud.region, "versions_file": str(versions_file)}
    by_hand = {**values, "ssh_source_cidr": f"{cloud.host_address}/32"}
    for_tasks = {**values, "ssh_source": cloud.address_url}
    return {f"ZMANIM_{name.upper()}": value for name, value in for_tasks.items()} | {
        f"PKR_VAR_{name}": value for name, value in by_hand.items()
    }


def exports(name: str, state: Path, root: Path) -> str:
    """Return shell text for `eval` that points AWS clients and the production tasks at a cloud.

    With none up it points them at nothing and ends in `false`. Where machines are emulated it has longer limits, as a
    rehearsal gives them.
    """
    try:
        cloud = running(name, state)
    except NoCloud as error:
        say(str(error))
        return cloud_environment.exports(None)
    longer = limits.of(cloud, root, os.environ)
    limits.tell(longer)
    lines = [f"export {name}={value}\n" for name, value in limits.variables(longer).items()]
    return exports_of(cloud, root / VERSIONS_FILE, os.environ) + "".join(lines)


def exports_of(cloud: Cloud, versions_file: Path, base: Mapping[str, str]) -> str:
    """Return shell text that makes the changes of `environment`."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in _chosen(cloud, versions_file).items()]
    return cloud_environment.exports(cloud, base) + "".join(lines)


def connect(environment: Mapping[str, str], region: str) -> Clients:
    """Return production's own clients, pointed where `environment` says.

    boto3 reads that from the process's environment, and only while a client is made.
    """
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environment)
        return aws.connect(region)
    finally:
        os.environ.clear()
        os.environ.update(before)


def settings(name: str, prepared: Prepared, state: Path) -> CloudSettings:
    """Return what localcloud starts from: one base image, named as Amazon names its own."""
    base = json.loads(prepared.versions_file.read_text())["base"]
    image = BaseImage(
        name=f"al2023-ami-{base['release']}.0-kernel-{base['kernel']}-arm64",
        root=prepared.root,
        description=prepared.base.file.name if prepared.base else "Stand-in for Amazon Linux 2023",
        disk=prepared.disk,
    )
    # Without a mirror, artifacts and packages are outside.
    egress = prepared.mirror is None
    return CloudSettings(
        images=(image,),
        authority=prepared.authority,
        name=name,
        state=state,
        egress=egress,
        machines=QEMU if prepared.disk else NSPAWN,
        accelerator=prepared.accelerator,
    )
