"""Puts the local cloud's own files into the mounted root file system of a disk image; run by make.py in namespaces.

Nothing of the image runs, and nothing outside of it is written, whatever links it holds: tree.py sees to that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePosixPath

from localcloud.machine import base, tree

# What an image has to have: to boot, to be told apart by cloud-init, and to run the local cloud's agent.
NEEDED = ("usr/lib/systemd/systemd", "usr/bin/cloud-init", "usr/bin/python3")
_KERNELS = "vmlinuz-*"
_MOST_KERNEL = 256 << 20


def put(root: Path, certificate_pem: bytes, over: Path, kernel: Path) -> list[str]:
    """Make the tree `root` a guest of the cloud, with the files and links below `over`; copy its kernel to `kernel`.

    Returns what it lacks; it is left as it is then. Raises OSError when the tree can't be written to.
    """
    lacks = [f"/{name}" for name in NEEDED if not tree.inside(root, name).exists()]
    image = _newest_kernel(root)
    if image is None:
        lacks.append(f"/boot/{_KERNELS}")
    if lacks or image is None:
        return lacks
    kernel.write_bytes(image.read_bytes())
    base.fit(root, certificate_pem)
    for path in sorted(over.rglob("*")):
        place = str(path.relative_to(over))
        if path.is_symlink():
            _link(root, place, path.readlink())
        elif path.is_file():
            tree.write(root, place, path.read_bytes())
            tree.inside(root, place).chmod(path.stat().st_mode & 0o777)
    return []


def _newest_kernel(root: Path) -> Path | None:
    kernels = [
        path
        for path in tree.inside(root, "boot").glob(_KERNELS)
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _MOST_KERNEL
    ]
    return max(kernels, key=lambda path: path.stat().st_mtime, default=None)


def _link(root: Path, place: str, target: Path) -> None:
    parent = tree.inside(root, str(PurePosixPath(place).parent))
    parent.mkdir(parents=True, exist_ok=True)
    link = parent / PurePosixPath(place).name
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def main(root: str, certificate: str, over: str, kernel: str, lacking: str) -> None:
    """Do it, and write what is missing to the file `lacking`, as JSON; what went wrong is said on stderr."""
    try:
        lacks = put(Path(root), Path(certificate).read_bytes(), Path(over), Path(kernel))
    except OSError as error:
        sys.exit(f"the image's root file system can't be written to: {error}")
    Path(lacking).write_text(json.dumps(lacks))


if __name__ == "__main__":
    main(*sys.argv[1:])
