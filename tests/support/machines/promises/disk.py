"""The files of an image that is a disk, as it lies in its cloud: nothing of it is booted."""

from __future__ import annotations

import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.machines.image import ImageLab, walk

# Where base_disk.py has the file system begin.
_OFFSET = 1 << 20


@contextmanager
def mounted_image(lab: ImageLab) -> Iterator[Path]:
    """Mount the root file system of a cloud's image, of a cloud whose machines have disks, and take it away again."""
    with tempfile.TemporaryDirectory(dir=lab.directory) as directory:
        raw, root = Path(directory, "image.raw"), Path(directory, "root")
        root.mkdir()
        disk = lab.cloud.directory / "layers" / lab.image / "disk.qcow2"
        # It stands on the base image's disk, which is where it says only for the cloud itself.
        subprocess.run([*lab.inside("mount"), "qemu-img", "convert", "-O", "raw", str(disk), str(raw)], check=True)
        # noload: a journal that has to be replayed would mean that the builder did not unmount it.
        options = f"ro,noload,loop,offset={_OFFSET}"
        subprocess.run(["mount", "-o", options, str(raw), str(root)], check=True)
        try:
            yield root
        finally:
            subprocess.run(["umount", str(root)], check=True)


def files_of(root: Path) -> dict[str, Path]:
    """Return every path of a root file system and the file of the host that is there."""
    return {f"/{path.relative_to(root)}": path for path in walk(root)}


def written(root: Path, base: Path) -> list[Path]:
    """Return the regular files below `root` that `base` does not have with that size and time."""
    return [path for path in walk(root) if _stamp(path) not in (None, _stamp(base / path.relative_to(root)))]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_size, int(status.st_mtime)) if stat.S_ISREG(status.st_mode) else None
