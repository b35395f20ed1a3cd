"""The real image on machines with a kernel of their own: built on one, by the production task, and launched on others.

Emulated, a build takes five minutes and a boot three: tests share one machine where they can, and leave it as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.settings import QEMU
from tests.kernel.conftest import PATIENCE
from tests.support import ROOT
from tests.support.machines.image import ImageLab, image_cloud


@pytest.fixture(scope="session")
def images() -> Iterator[ImageLab]:
    """One cloud with the image in it, for all tests here."""
    # First on this host's kernel: what has not been compiled yet, Redis above all, would take an emulated machine
    # longer than all that is tried here.
    with image_cloud():
        pass
    with image_cloud(machines=QEMU, patience=PATIENCE) as lab:
        yield lab


@pytest.fixture(scope="session")
def served(images: ImageLab) -> str:
    """Return one machine that serves, of 2 GiB, whose data volume outlives it; test_swap.py ends it."""
    return images.serve(keep=True)


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Return the directory of what a person may want to look at afterwards; CI keeps it."""
    path = ROOT / "build/kernel"
    path.mkdir(parents=True, exist_ok=True)
    return path
