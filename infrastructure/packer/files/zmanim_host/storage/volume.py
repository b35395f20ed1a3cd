"""Which device is the data volume, and making a file system on it: only when it is blank and the launch consents.

Data was once lost by a boot script that formatted what it did not know. So everything but a blank volume *with*
consent, the launch's or an operator's, is left untouched, and the message says what was seen. A file system that
mkfs.xfs never finished counts as blank: a power cut in a first boot must not need a hand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.aws.imds import connect, instance_tag
from zmanim_host.host import CLOCK, RUN, Clock, HostError, NotYet, log, retry, run, write_whole
from zmanim_host.storage import xfs

LABEL = "zmanim-data"
TAG = "zmanim:data-volume"
CONSENT = "new"
# Where the launch attaches it; ec2-utils' udev rules make the link.
ATTACHED_AT = Path("/dev/sdf")
PATTERNS = ("sd[b-z]", "xvd[b-z]", "nvme*n1")
SYSFS = Path("/sys/class/block")
LINKS = Path("/dev/disk/by-id")
# Which EBS volume /data is, for whoever may not look at devices.
ID_FILE = RUN / "data-volume-id"
# An EBS volume's NVMe serial is its id without the dash (AWS: "Identify the EBS device"); udev's link ends with it.
_SERIAL = re.compile(r"(?:nvme-Amazon_Elastic_Block_Store_)?vol-?([0-9a-f]{8,17})(?:_\d+)?")
MIB = 1 << 20


@dataclass(frozen=True)
class Device:
    """A block device: its real path, and what blkid found on it (empty when nothing, or nothing it could read).

    `unfinished`: the file system on it has the mark of a mkfs.xfs that is not done.
    """

    path: Path
    tags: dict[str, str]
    unfinished: bool = False


@dataclass(frozen=True)
class Choice:
    """The device to mount; whether it has to get a file system first, and has the beginning of one."""

    device: Path
    blank: bool
    unfinished: bool = False


def choose(devices: Sequence[Device], attached: Path | None) -> Choice | None:
    """Return the data volume, or None when it is not there (yet).

    The one labelled zmanim-data; else the one at /dev/sdf (`attached`, its real path) if blkid sees nothing on it.
    Raises HostError for two candidates and for anything else than a blank or a labelled volume.
    """
    labelled = [device for device in devices if device.tags.get("LABEL") == LABEL]
    if len(labelled) > 1:
        names = ", ".join(str(device.path) for device in labelled)
        raise HostError(f"more than one volume is labelled {LABEL} ({names}): detach all but the right one")
    if labelled:
        kind = labelled[0].tags.get("TYPE")
        if kind != "xfs":
            raise HostError(f"{labelled[0].path} is labelled {LABEL} but holds {kind or 'no file system'}, not xfs")
        return Choice(labelled[0].path, blank=False, unfinished=labelled[0].unfinished)
    at_sdf = next((device for device in devices if device.path == attached), None)
    if at_sdf is None:
        return None
    if at_sdf.tags:
        raise HostError(
            f"{ATTACHED_AT} ({at_sdf.path}) is not zmanim's data volume and is left untouched;"
            f" it has {_listed(at_sdf.tags)}"
        )
    return Choice(at_sdf.path, blank=True)


def _listed(tags: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(tags.items()))


def sample_offsets(size: int) -> list[int]:
    """Return where to look, in bytes: the first and last 16 MiB, and a MiB at each of 64 places between them."""
    edge = 16 * MIB
    if size <= 2 * edge + 64 * MIB:
        return list(range(0, size, MIB))
    spread = [edge + index * (size - 2 * edge) // 64 // MIB * MIB for index in range(64)]
    first = list(range(0, edge, MIB))
    last = list(range(size - edge, size, MIB))
    return first + spread + last


def find_content(path: Path, skip: Callable[[int], bool] | None = None) -> int | None:
    """Return the offset of a sampled MiB that is not all zero, or None when every sample is; `skip` leaves some out.

    blkid's "nothing" also means junk, or a file system whose first sector is damaged; a new EBS volume is all zero.
    Raises HostError when it can't be read: what can't be read is not blank.
    """
    zero = bytes(MIB)
    try:
        with path.open("rb") as device:
            size = device.seek(0, os.SEEK_END)
            for offset in sample_offsets(size):
                if skip is not None and skip(offset):
                    continue
                device.seek(offset)
                wanted = min(MIB, size - offset)
                data = device.read(wanted)
                if len(data) != wanted:
                    raise HostError(f"{path} ends early at {offset}: it is left untouched")
                if data != zero[:wanted]:
                    return offset
    except OSError as error:
        raise HostError(f"{path} can't be read and is left untouched: {error}") from error
    return None


def in_use(path: Path, sysfs: Path = SYSFS) -> str | None:
    """Return what uses the device (a partition or a holder such as LVM), or None."""
    here = sysfs / path.name
    parts = [entry.name for entry in here.glob(f"{path.name}*") if (entry / "partition").exists()]
    holders = [entry.name for entry in here.glob("holders/*")]
    return ", ".join(parts + holders) or None


def make_file_system(choice: Choice, consent: str | None) -> None:
    """Make XFS on a blank or unfinished device; HostError, and nothing written, unless the launch consents to it."""
    if consent != CONSENT:
        state = (
            "has a file system that mkfs.xfs never finished (sb_inprogress is 1), so nothing was ever kept on it,"
            if choice.unfinished
            else "is blank"
        )
        raise HostError(
            f"{choice.device} {state} and the launch does not consent to formatting it: it is left untouched. Launch"
            f" with the tag {TAG}={CONSENT} for a new volume, attach the right one, or, if this one is new, say so"
            f" here: /opt/zmanim/zmanim-host format-data-volume {ATTACHED_AT}"
        )
    format_device(choice, f"the launch says ({TAG}={CONSENT})")


def format_device(choice: Choice, consent: str, sysfs: Path = SYSFS) -> None:
    """Make XFS on a device that somebody consented to format; HostError, and nothing written, where there is any doubt.

    It has to be blank, or what a cut-short mkfs.xfs leaves. `consent` says who it was, for the journal.
    """
    path = choice.device
    user = in_use(path, sysfs)
    if user:
        raise HostError(f"{path} is in use by {user} and is left untouched")
    if choice.unfinished:
        doubt = find_doubt(path)
        if doubt:
            raise HostError(
                f"{path} has a file system marked as unfinished (sb_inprogress is 1), but not as a power cut during"
                f" mkfs.xfs leaves it: {doubt}. It may be a copy that was cut short, or damaged, and is left untouched."
                " Attach a new volume made from a snapshot, or a new one and restore a backup; keep this one until that"
                " is done"
            )
        # -f, for mkfs.xfs refuses what has a signature. A second power cut between its wiping that and writing its own
        # (the next write) leaves a volume that is not blank, which is refused: never a loss.
        options, done = ["-f"], "made the file system anew that mkfs.xfs never finished"
    else:
        offset = find_content(path)
        if offset is not None:
            raise HostError(
                f"{path} has no file system that is known, but is not blank (data at byte {offset}): left untouched"
            )
        # Never -f: mkfs.xfs itself refuses where it finds something.
        options, done = [], "made a file system on a blank volume"
    run(["mkfs.xfs", "-q", *options, "-L", LABEL, str(path)], timeout=120)
    log(f"{path}: {done}, as {consent}")


def find_doubt(path: Path) -> str | None:
    """Return why a device is not one on which mkfs.xfs was cut short, or None when it certainly is.

    Raises HostError when it can't be read.
    """
    try:
        superblock = xfs.read_superblock(path)
        with path.open("rb") as device:
            size = device.seek(0, os.SEEK_END)
    except OSError as error:
        raise HostError(f"{path} can't be read and is left untouched: {error}") from error
    if superblock is None:
        return "it has no superblock"
    doubt = xfs.doubt(superblock, size)
    offset = None if doubt else find_content(path, superblock.written_by_mkfs)
    return doubt if offset is None else f"data at byte {offset}"


def block_devices() -> list[Device]:
    """Return the block devices that may be a data volume: all but the root's."""
    root = Path("/").stat().st_dev
    real = sorted({path.resolve() for pattern in PATTERNS for path in Path("/dev").glob(pattern)})
    return [examine(path) for path in real if path.is_block_device() and root not in _numbers(path)]


def examine(path: Path) -> Device:
    """Return what is on a device. Raises HostError when blkid can't say."""
    tags = probe(path)
    try:
        superblock = xfs.read_superblock(path) if tags.get("TYPE") == "xfs" else None
    except OSError as error:
        raise HostError(f"{path} can't be read and is left untouched: {error}") from error
    return Device(path, tags, unfinished=superblock is not None and superblock.in_progress)


def _numbers(path: Path) -> set[int]:
    """Return the device numbers of a disk and its partitions."""
    numbers = {path.stat().st_rdev}
    for number in SYSFS.glob(f"{path.name}/{path.name}*/dev"):
        major, minor = number.read_text("ascii").split(":")
        numbers.add(os.makedev(int(major), int(minor)))
    return numbers


def probe(path: Path) -> dict[str, str]:
    """Return what blkid finds on a device, by its names: LABEL, TYPE, PTTYPE, UUID …

    Raises HostError when blkid finds two things at once (exit code 8) or can't be run.
    """
    # 2: nothing found, or nothing that could be read: find_content tells which.
    done = run(["blkid", "--probe", "--output", "export", str(path)], timeout=30, may_exit=(0, 2))
    pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {name: value for name, value in pairs if name != "DEVNAME"}


def find(devices: Callable[[], list[Device]] = block_devices, clock: Clock = CLOCK) -> Choice:
    """Return the data volume, waiting 90 seconds: it may be attached after the boot began. Raises HostError."""

    def attempt() -> Choice:
        choice = choose(devices(), ATTACHED_AT.resolve() if ATTACHED_AT.exists() else None)
        if choice is None:
            raise NotYet(f"no data volume within 90 s: attach one labelled {LABEL}, or a new one at {ATTACHED_AT}")
        return choice

    return retry(attempt, seconds=90, pause=0.2, clock=clock)


def ebs_volume(device: Path, sysfs: Path = SYSFS, links: Path = LINKS) -> str:
    """Return the id of the EBS volume that a device is, by its serial; nothing for what is none."""
    serial = sysfs / device.name / "device/serial"
    names = [serial.read_text("ascii").strip()] if serial.exists() else []
    names += [link.name for link in links.glob("nvme-*") if link.resolve() == device.resolve()]
    ids = {f"vol-{match[1]}" for match in map(_SERIAL.fullmatch, names) if match}
    return ids.pop() if len(ids) == 1 else ""


def check_choice(device: Path, devices: Sequence[Device]) -> Choice:
    """Raise HostError unless an operator may format `device` (a real path), and there is no other data volume.

    Either blkid sees nothing on it, or only our own label on what mkfs.xfs never finished. That it is so, and does not
    only look so, is for format_device to find out.
    """
    chosen = next((each for each in devices if each.path == device), None)
    if chosen is None:
        names = ", ".join(str(each.path) for each in devices) or "none"
        raise HostError(f"{device} is no disk that may be a data volume (those are: {names}): it is left untouched")
    unfinished = chosen.unfinished and chosen.tags.get("LABEL") == LABEL
    labelled = [each for each in devices if each.tags.get("LABEL") == LABEL and not (each is chosen and unfinished)]
    if labelled:
        names = ", ".join(str(each.path) for each in labelled)
        raise HostError(f"this machine has a data volume already ({names}): {device} is left untouched")
    if chosen.tags and not unfinished:
        raise HostError(f"{device} is not blank and is left untouched; it has {_listed(chosen.tags)}")
    return Choice(device, blank=not unfinished, unfinished=unfinished)


def format_volume(device: Path, devices: Sequence[Device]) -> None:
    """Make a file system on a blank volume among `devices`, by an operator's own consent."""
    format_device(check_choice(device, devices), "an operator says")
    log("now: systemctl start zmanim-data-volume.service && systemctl start zmanim.target")


def format_command(name: str) -> None:
    """Make a file system on DEVICE, a blank volume, by an operator's own consent."""
    format_volume(Path(name).resolve(), block_devices())


def command() -> None:
    """Find the data volume and leave a link to it for data.mount."""
    choice = find()
    if choice.blank or choice.unfinished:
        make_file_system(choice, instance_tag(connect(wait=90), TAG))
    link = RUN / "data-volume"
    link.unlink(missing_ok=True)
    link.symlink_to(choice.device)
    volume = ebs_volume(choice.device)
    write_whole(ID_FILE, volume)
    log(f"the data volume is {choice.device} ({volume or 'no EBS volume'})")
