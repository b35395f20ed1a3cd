"""Volumes: sparse files, attached as loop devices.

A loop device is made with LO_FLAGS_AUTOCLEAR in one call (LOOP_CONFIGURE): whatever is killed when, the kernel frees it
with its last user. The server keeps each one open while its volume is attached to a running machine.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import threading
import time
from pathlib import Path

from support.errors import Error
from support.process import run
from support.waiting import wait_for

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_GIB = 1 << 30


class Volumes:
    """The volumes and snapshots of a cloud, by id. A file is made when a volume is first needed: most never are."""

    def __init__(self, directory: Path) -> None:
        self._volumes = directory / "volumes"
        self._snapshots = directory / "snapshots"
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()
        for path in (self._volumes, self._snapshots):
            path.mkdir(parents=True, exist_ok=True)

    def attach(self, volume_id: str, size_gib: int) -> tuple[int, int]:
        """Give a volume a loop device, blank when the volume is new; return its major and minor number.

        Raises `volume-failed` when there is no loop device to be had.
        """
        with self._lock:
            handle = self._open.get(volume_id)
            if handle is None:
                path = self._path(volume_id)
                path.touch(mode=0o600)
                os.truncate(path, size_gib * _GIB)
                handle = self._open[volume_id] = _loop(path)
        number = os.fstat(handle).st_rdev
        return os.major(number), os.minor(number)

    def detach(self, volume_id: str, patience: float = 30.0) -> bool:
        """Let go of a volume's loop device; say whether it was freed, for which no machine may have it mounted."""
        with self._lock:
            handle = self._open.pop(volume_id, None)
        if handle is not None:
            os.close(handle)
        return wait_for(lambda: str(self._path(volume_id)) not in _backing_files().values(), patience, 0.02)

    def grow(self, volume_id: str, size_gib: int) -> None:
        """Make a volume larger; a machine that has it sees that at once."""
        with self._lock:
            if self._path(volume_id).exists():
                os.truncate(self._path(volume_id), size_gib * _GIB)
            if handle := self._open.get(volume_id):
                fcntl.ioctl(handle, _LOOP_SET_CAPACITY)

    def delete(self, volume_id: str) -> None:
        """Delete a volume's data."""
        self._path(volume_id).unlink(missing_ok=True)

    def snapshot(self, volume_id: str, snapshot_id: str) -> None:
        """Copy what a volume holds, block by block, crash-consistent as on EBS; a volume never used needs no copy."""
        if self._path(volume_id).exists():
            _copy(self._path(volume_id), self._snapshot_path(snapshot_id))

    def restore(self, snapshot_id: str, volume_id: str, size_gib: int) -> None:
        """Make a volume that holds what the snapshot holds."""
        if self._snapshot_path(snapshot_id).exists():
            _copy(self._snapshot_path(snapshot_id), self._path(volume_id))
            os.truncate(self._path(volume_id), size_gib * _GIB)

    def copy_snapshot(self, snapshot_id: str, copy_id: str) -> None:
        """Make another snapshot that holds the same."""
        if self._snapshot_path(snapshot_id).exists():
            _copy(self._snapshot_path(snapshot_id), self._snapshot_path(copy_id))

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot's data."""
        self._snapshot_path(snapshot_id).unlink(missing_ok=True)

    def _path(self, volume_id: str) -> Path:
        return self._volumes / f"{volume_id}.img"

    def _snapshot_path(self, snapshot_id: str) -> Path:
        return self._snapshots / f"{snapshot_id}.img"


def _copy(source: Path, target: Path) -> None:
    run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)])


def _loop(path: Path) -> int:
    """Return an open descriptor of a new loop device on that file."""
    with open(path, "r+b", buffering=0) as backing:
        for _ in range(20):
            with open("/dev/loop-control", "rb", buffering=0) as control:
                number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            handle = _open_node(number)
            # struct loop_config: fd, block_size, struct loop_info64 (offset 44 in it: lo_flags), 64 reserved bytes.
            info = struct.pack("=5Q4I64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR,
                               str(path).encode()[-63:], b"", b"", 0, 0)  # fmt: skip
            try:
                fcntl.ioctl(handle, _LOOP_CONFIGURE, struct.pack("=2I", backing.fileno(), 0) + info + bytes(64))
            except OSError:
                os.close(handle)  # somebody else took this one between the two calls: try the next
                time.sleep(0.01)
            else:
                return handle
    raise Error(
        "no loop device could be set up",
        code="volume-failed",
        expected=f"a loop device on {path}",
        found="all attempts busy",
    )


def _open_node(number: int) -> int:
    node = Path(f"/dev/loop{number}")
    if not wait_for(node.exists, 2):
        raise Error(
            f"{node} does not appear",
            code="volume-failed",
            expected="a node made by the kernel (devtmpfs)",
            found="none",
        )
    return os.open(node, os.O_RDWR | os.O_CLOEXEC)


def _backing_files() -> dict[str, str]:
    """Return the file of each loop device of this host; one that was deleted keeps its name."""
    files = {}
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            files[backing.parent.parent.name] = backing.read_text().rstrip("\n").removesuffix(" (deleted)")
        except OSError:
            continue  # freed in between
    return files


def loops_below(directory: Path) -> list[str]:
    """Return the names of the loop devices whose file is, or was, below that directory."""
    return sorted(name for name, file in _backing_files().items() if file.startswith(f"{directory}/"))


def wait_until_released(directory: Path, patience: float = 10.0) -> list[str]:
    """Wait until the kernel has freed the cloud's loop devices; clear what stays by hand; return what can't be."""
    wait_for(lambda: not loops_below(directory), patience, 0.02)
    for name in loops_below(directory):
        subprocess.run(["losetup", "--detach", f"/dev/{name}"], check=False, capture_output=True)
    return loops_below(directory)
