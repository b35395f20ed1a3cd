"""A copy of the image's sources for each test, made in no time: links to one copy that the tests' files share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support import ROOT
from zmanim_ami.pipeline.ami.provenance import PACKER_DIRECTORY


def shared_copy(directory: Path) -> Path:
    """Copy the image's sources below `directory` and return the copy."""
    copy = directory / PACKER_DIRECTORY
    shutil.copytree(ROOT / PACKER_DIRECTORY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def link(copy: Path, clone: Path) -> None:
    """Make a tree of the image's sources in `clone`, each file a link to that of `copy`: a test writes with `rewrite`.

    A link takes a tenth of a copy's time, and these tests are what a change of one script waits for.
    """
    shutil.copytree(copy, clone / PACKER_DIRECTORY, copy_function=os.link)


def rewrite(path: Path, text: str) -> None:
    """Write `path` as a file of its own: what it was a link to stays as it is."""
    path.unlink()
    path.write_text(text)
