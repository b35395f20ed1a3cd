"""Images as overlay layers.

A base image is one read-only tree. Every other image is a layer (the upper directory of the instance it was made from)
on top of the layers of that instance's image. Creating an image from a stopped instance moves its upper directory away
and gives it an empty one on top: a rename, no copy. A layer is deleted when no image and no instance stands on it.
"""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from support.errors import Error
from support.process import CommandFailed, run


@dataclass
class Layers:
    """Which layers each image and instance stands on, topmost first, and the directories they are kept in."""

    directory: Path
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    instances: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def _layers(self) -> Path:
        return self.directory / "layers"

    def _parts(self, instance_id: str) -> tuple[Path, Path, Path]:
        base = self.directory / "machines" / instance_id
        return base / "upper", base / "work", base / "root"

    def add_base(self, image_ids: list[str], root: Path) -> None:
        """Offer a root file system tree as an image under these ids (one per region).

        The tree is bind-mounted, read-only, at a short path: overlay's option string is limited to a page, and a path
        with a comma or colon in it would need escaping.
        """
        with self._lock:
            layer = f"base{len(list(self._layers.glob('base*')))}" if self._layers.exists() else "base0"
            mount_point = self._layers / layer
            mount_point.mkdir(parents=True)
            run(["mount", "--bind", str(root), str(mount_point)])
            run(["mount", "-o", "remount,ro,bind", str(mount_point)])
            for image_id in image_ids:
                self.images[image_id] = (layer,)

    def create(self, instance_id: str, image_id: str) -> None:
        """Give a new instance an empty upper directory on top of an image."""
        with self._lock:
            self.instances[instance_id] = self.images[image_id]
        for part in self._parts(instance_id):
            part.mkdir(parents=True)

    def mount(self, instance_id: str) -> Path:
        """Mount an instance's root file system and return where. Raises `layer-failed`."""
        upper, work, root = self._parts(instance_id)
        # "volatile": a machine's root needs no fsync, since its layers end with the cloud; package managers are several
        # times faster for it. A volatile work directory can't be mounted twice, so each mount gets a new one.
        shutil.rmtree(work)
        work.mkdir()
        lower = ":".join(self.instances[instance_id])
        options = f"lowerdir={lower},upperdir={upper},workdir={work},index=off,volatile"
        try:
            run(["mount", "-t", "overlay", "-o", options, "localcloud", str(root)], cwd=self._layers)
        except CommandFailed as failure:
            raise Error(
                f"the layers of {instance_id} can't be mounted",
                code="layer-failed",
                expected="a file system below the state directory that can carry overlays (not itself an overlay)",
                found=failure.output.strip(),
                fix="choose a state directory on ext4, XFS or btrfs",
            ) from failure
        return root

    def unmount(self, instance_id: str) -> None:
        """Unmount an instance's root file system if it is mounted."""
        root = self._parts(instance_id)[2]
        if os.path.ismount(root):
            # Lazily: a process that was killed a moment ago may still hold it.
            run(["umount", "--lazy", str(root)])

    def rotate(self, instance_id: str, image_id: str) -> None:
        """Make an image of an instance that is not mounted: its upper directory becomes the image's topmost layer."""
        upper = self._parts(instance_id)[0]
        with self._lock:
            upper.rename(self._layers / image_id)
            upper.mkdir()
            shutil.copymode(self._layers / image_id, upper)
            stack = (image_id, *self.instances[instance_id])
            self.images[image_id] = self.instances[instance_id] = stack

    def copy(self, instance_id: str, image_id: str) -> None:
        """Make an image of a running instance: a copy of its upper directory, as consistent as after a power cut."""
        upper = self._parts(instance_id)[0]
        unfinished = self._layers / f"{image_id}.unfinished"
        # cp as root keeps the whiteouts (character devices 0:0) and overlay's extended attributes.
        run(["cp", "--archive", "--reflink=auto", str(upper), str(unfinished)])
        with self._lock:
            unfinished.rename(self._layers / image_id)
            self.images[image_id] = (image_id, *self.instances[instance_id])

    def share(self, image_id: str, copy_id: str) -> None:
        """Let another image, or a snapshot, stand on the same layers, if the first one has any (no data volume has)."""
        with self._lock:
            if image_id in self.images:
                self.images[copy_id] = self.images[image_id]

    def holds(self, image_id: str) -> bool:
        """Say whether an image or a snapshot has layers, and so could boot."""
        return image_id in self.images

    def forget_image(self, image_id: str) -> None:
        """Drop an image, and the layers that nothing else stands on."""
        with self._lock:
            self.images.pop(image_id, None)
        self._collect()

    def forget_instance(self, instance_id: str) -> None:
        """Drop an instance with its upper directory, and the layers that nothing else stands on."""
        with self._lock:
            self.instances.pop(instance_id, None)
        for part in self._parts(instance_id):
            shutil.rmtree(part, ignore_errors=True)
        self._collect()

    def _collect(self) -> None:
        """Delete the layers that no image and no instance stands on. Base layers are never among them."""
        with self._lock:
            layers = {path.name for path in self._layers.iterdir() if not path.name.startswith((".", "base"))}
            unused = layers.difference(*self.images.values(), *self.instances.values())
            garbage = [self._layers / layer for layer in unused if not layer.endswith(".unfinished")]
            # By a rename first: a layer that is half deleted must not be under its name.
            doomed = [path.rename(path.with_name(f".{path.name}")) for path in garbage]
        for path in doomed:
            shutil.rmtree(path, ignore_errors=True)
