"""A base image and a cloud for the tests that boot machines. They need root and the programs that `inv doctor` lists.

LOCALCLOUD_TEST_BASE names a root file system tree to boot (it is copied, never written to); without it the rehearsal's
stand-in is built, or found in the cache.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import control
from localcloud.host.certificates import ensure_authority
from localcloud.machine import base
from localcloud.settings import BaseImage, CloudSettings
from tests.support.machines.image import ImageLab, image_cloud
from tests.support.machines.lab import IMAGE, Lab
from zmanim_ami.rehearsal.standin import build_tree
from zmanim_ami.toolchain.environment import user_cache


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    # Not pytest's own: it keeps the last three, and a root file system is large.
    with tempfile.TemporaryDirectory(prefix="machines-", dir="/var/tmp", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def authority(workspace: Path) -> Path:
    ensure_authority(workspace / "authority")
    return workspace / "authority"


@pytest.fixture(scope="session")
def base_root(workspace: Path, authority: Path) -> Path:
    """A root file system tree that trusts this session's authority."""
    given = os.environ.get("LOCALCLOUD_TEST_BASE")
    source = Path(given) if given else build_tree(user_cache()) / "root"
    root = workspace / "base"
    subprocess.run(["cp", "--archive", "--reflink=auto", str(source), str(root)], check=True)
    base.fit(root, (authority / "ca.pem").read_bytes())
    return root


@pytest.fixture(scope="session")
def cloud_settings(workspace: Path, authority: Path, base_root: Path) -> CloudSettings:
    """Settings of a cloud of this session's own; take another name for another cloud."""
    image = BaseImage(name=IMAGE, root=base_root)
    return CloudSettings(images=(image,), authority=authority, name=f"test{os.getpid()}", state=workspace / "state")


@pytest.fixture(scope="session")
def lab(cloud_settings: CloudSettings) -> Iterator[Lab]:
    """One cloud for all tests that do no harm to it."""
    cloud = control.up(cloud_settings)
    try:
        yield Lab(cloud, cloud_settings.images[0].root, cloud_settings.state.parent)
    finally:
        control.down(cloud_settings.name, cloud_settings.state)


@pytest.fixture(scope="session")
def images() -> Iterator[ImageLab]:
    """One cloud with the real image in it, for all tests of the image."""
    with image_cloud() as lab:
        yield lab


@pytest.fixture(scope="session")
def served(images: ImageLab) -> str:
    """Return one machine that serves, for tests that only look at it (or reboot it and wait for it)."""
    return images.serve()
