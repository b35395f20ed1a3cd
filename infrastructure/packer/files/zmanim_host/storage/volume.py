"""Which device is the data volume, and making a file system on it: only when it is blank and the launch consents.

Data was once lost by a boot script that formatted what it did not know. So everything but a blank volume *with*
consent, the launch's or an operator's, is left untouched, and the message says what was seen. A file system that
mkfs.xfs never finished counts as blank: a power cut in a first boot must not need a hand.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.aws.imds import connect, instance_tag
from zmanim_host.host import RUN, HostError, log, run
from zmanim_host.storage import xfs

LABEL = "zmanim-data"
TAG = "zmanim:data-volume"
CONSENT = "new"
# Where the launch attaches it; ec2-utils' udev rules make the link.
ATTACHED_AT = Path("/dev/sdf")
PATTERNS = ("sd[b-z]", "xvd[b-z]", "nvme*n1")
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
        found = ", ".join(str(device.path) for device in labelled)
        raise HostError(f"more than one volume is labelled {LABEL} ({found}): detach all but the right one")
    if labelled:
        kind = labelled[0].tags.get("TYPE")
        if kind != "xfs":
            raise HostError(f"{labelled[0].path} is labelled {LABEL} but holds {kind or 'no file system'}, not xfs")
        return Choice(labelled[0].path, blank=False, unfinished=labelled[0].unfinished)
    at_sdf = next((device for device in devices if device.path == attached), None)
    if at_sdf is None:
        return None
    if at_sdf.tags:
        seen = ", ".join(f"{name}={value}" for name, value in sorted(at_sdf.tags.items()))
        raise HostError(
            f"{ATTACHED_AT} ({at_sdf.path}) is not zmanim's data volume and is left untouched; it has {seen}"
        )
    return Choice(at_sdf.path, blank=True)


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


def in_use(path: Path, sysfs: Path = Path("/sys/class/block")) -> str | None:
    """Return what uses the device (a partition or a holder such as LVM), or None."""
    here = sysfs / path.name
    parts = [entry.name for entry in here.glob(f"{path.name}*") if (entry / "partition").exists()]
    holders = [entry.name for entry in here.glob("holders/*")]
    return ", ".join(parts + holders) or None


def make_file_system(path: Path, consent: str | None) -> None:
    """Make XFS on a blank device; HostError, and nothing written, unless the launch consents and it really is blank."""
    if consent != CONSENT:
        raise HostError(
            f"{path} is blank and the launch does not consent to formatting it: launch with the tag {TAG}={CONSENT}"
            " for a new volume, attach the right one, or, if this one is new, say so here:"
            f" /opt/zmanim/zmanim-host format-data-volume {ATTACHED_AT}"
        )
    format_blank(path, f"the launch says ({TAG}={CONSENT})")


def format_blank(path: Path, consent: str) -> None:
    """Make XFS on a device that somebody consented to format; HostError, and nothing written, unless it is blank.

    `consent` says who it was, for the journal.
    """
    user = in_use(path)
    if user:
        raise HostError(f"{path} is in use by {user} and is left untouched")
    offset = find_content(path)
    if offset is not None:
        raise HostError(
            f"{path} has no file system that is known, but is not blank (data at byte {offset}): left untouched"
        )
    # Never -f: mkfs.xfs itself refuses where it finds something.
    run(["mkfs.xfs", "-q", "-L", LABEL, str(path)], timeout=120)
    log(f"{path}: made a file system on a blank volume, as {consent}")


def remake_file_system(path: Path, consent: str | None) -> None:
    """Make XFS where mkfs.xfs was cut short; HostError, and nothing written, unless the launch consents and it was."""
    if consent != CONSENT:
        raise HostError(
            f"{path} has a file system that mkfs.xfs never finished (sb_inprogress is 1), so nothing was ever kept on"
            " it. It is left untouched, for the launch does not consent to formatting: attach a new volume in its"
            f" place and launch with the tag {TAG}={CONSENT}, attach the right one, or, if this one is new, say so"
            f" here: /opt/zmanim/zmanim-host format-data-volume {ATTACHED_AT}"
        )
    format_unfinished(path, f"the launch says ({TAG}={CONSENT})")


def format_unfinished(path: Path, consent: str) -> None:
    """Make XFS anew where mkfs.xfs was cut short; HostError, and nothing written, when there is any doubt about that.

    `consent` says who wants it, for the journal.
    """
    user = in_use(path)
    if user:
        raise HostError(f"{path} is in use by {user} and is left untouched")
    reason = find_doubt(path)
    if reason:
        raise HostError(
            f"{path} has a file system marked as unfinished (sb_inprogress is 1), but not as a power cut during"
            f" mkfs.xfs leaves it: {reason}. It may be a copy that was cut short, or damaged, and is left untouched."
            " Attach a new volume made from a snapshot, or a new one and restore a backup; keep this one until that"
            " is done"
        )
    # -f, for mkfs.xfs refuses what has a signature. A second power cut between its wiping that and writing its own (the
    # next write) leaves a volume that is not blank, which is refused: never a loss.
    run(["mkfs.xfs", "-q", "-f", "-L", LABEL, str(path)], timeout=120)
    log(f"{path}: made the file system anew that mkfs.xfs never finished, as {consent}")


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
    reason = xfs.doubt(superblock, size)
    if reason:
        return reason
    offset = find_content(path, superblock.written_by_mkfs)
    return None if offset is None else f"data at byte {offset}"


def block_devices() -> list[Device]:
    """Return the block devices that may be a data volume: all but the root's."""
    root = Path("/").stat().st_dev
    real = sorted({path.resolve() for pattern in PATTERNS for path in Path("/dev").glob(pattern)})
    return [examine(path) for path in real if _is_block(path) and root not in _numbers(path)]


def examine(path: Path) -> Device:
    """Return what is on a device. Raises HostError when it can't be told."""
    tags = probe(path)
    try:
        superblock = xfs.read_superblock(path) if tags.get("TYPE") == "xfs" else None
    except OSError as error:
        raise HostError(f"{path} can't be read and is left untouched: {error}") from error
    return Device(path, tags, unfinished=superblock is not None and superblock.in_progress)


def _is_block(path: Path) -> bool:
    try:
        return stat.S_ISBLK(path.stat().st_mode)
    except OSError:
        return False


def _numbers(path: Path) -> set[int]:
    """Return the device numbers of a disk and its partitions."""
    found = {path.stat().st_rdev}
    for number in Path("/sys/class/block").glob(f"{path.name}/{path.name}*/dev"):
        major, minor = number.read_text("ascii").split(":")
        found.add(os.makedev(int(major), int(minor)))
    return found


def probe(path: Path) -> dict[str, str]:
    """Return what blkid finds on a device, by its names: LABEL, TYPE, PTTYPE, UUID …

    Raises HostError when blkid finds two things at once (exit code 8) or can't be run.
    """
    # 2: nothing found, or nothing that could be read; the difference is find_content's business.
    done = run(["blkid", "--probe", "--output", "export", str(path)], timeout=30, may_exit=(0, 2))
    pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {name: value for name, value in pairs if name != "DEVNAME"}


def wait_for(
    look: Callable[[], Choice | None],
    *,
    wait: float = 90.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Choice:
    """Return what `look` finds within `wait` seconds: a volume may be attached after the boot began.

    Raises HostError when there is none by then.
    """
    deadline = clock() + wait
    while True:
        found = look()
        if found:
            return found
        if clock() >= deadline:
            raise HostError(
                f"no data volume within {wait:.0f} s: attach one labelled {LABEL}, or a new one at {ATTACHED_AT}"
            )
        sleep(0.2)


def look() -> Choice | None:
    """Look for the data volume once."""
    attached = ATTACHED_AT.resolve() if ATTACHED_AT.exists() else None
    return choose(block_devices(), attached)


def check_choice(device: Path, devices: Sequence[Device]) -> Choice:
    """Raise HostError unless an operator may format `device` (a real path), and there is no other data volume.

    Either blkid sees nothing on it, or only our own label on what mkfs.xfs never finished. That it is so, and does not
    only look so, is for format_blank and format_unfinished to find out.
    """
    found = next((one for one in devices if one.path == device), None)
    if found is None:
        there = ", ".join(str(one.path) for one in devices) or "none"
        raise HostError(f"{device} is no disk that may be a data volume (those are: {there}): it is left untouched")
    unfinished = found.unfinished and found.tags.get("LABEL") == LABEL
    labelled = [one for one in devices if one.tags.get("LABEL") == LABEL and not (one is found and unfinished)]
    if labelled:
        names = ", ".join(str(one.path) for one in labelled)
        raise HostError(f"this machine has a data volume already ({names}): {device} is left untouched")
    if unfinished:
        return Choice(device, blank=False, unfinished=True)
    if found.tags:
        seen = ", ".join(f"{name}={value}" for name, value in sorted(found.tags.items()))
        raise HostError(f"{device} is not blank and is left untouched; it has {seen}")
    return Choice(device, blank=True)


def format_command(name: str) -> None:
    """Make a file system on DEVICE, a blank volume, by an operator's own consent."""
    device = Path(name).resolve()
    if check_choice(device, block_devices()).unfinished:
        format_unfinished(device, "an operator says")
    else:
        format_blank(device, "an operator says")
    log("now: systemctl start zmanim-data-volume.service && systemctl start zmanim.target")


def command() -> None:
    """Find the data volume and leave a link to it for data.mount."""
    choice = wait_for(look)
    if choice.blank:
        make_file_system(choice.device, instance_tag(connect(wait=90), TAG))
    elif choice.unfinished:
        remake_file_system(choice.device, instance_tag(connect(wait=90), TAG))
    link = RUN / "data-volume"
    link.unlink(missing_ok=True)
    link.symlink_to(choice.device)
    log(f"the data volume is {choice.device}")
