"""The documented line with Packer alone: an image from a fresh clone, and without the API's bundle nothing launched."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import control
from support.files import write_atomically
from support.git import own_files
from tests.support import ROOT
from tests.support.machines.image import copy_work_tree
from tests.support.machines.lab import Lab
from zmanim_ami.gate.repository import rehearsed
from zmanim_ami.pipeline.ami import provenance
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import owner

# Exactly what the page prints, but for the cloud's name: another one may be up on this machine.
(LINE,) = (line for line in (ROOT / "docs/trying.md").read_text().splitlines() if "packer build" in line)
NAME = owner.this_process().name("by-hand")


def _bash(clone: Path, line: str) -> subprocess.CompletedProcess[str]:
    # As in a person's new shell.
    ours = ("PKR_", "ZMANIM_", "AWS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        ["bash", "-c", re.sub(r"inv cloud\.env", rf"\g<0> --name {NAME}", line)],
        cwd=clone,
        env=environment | {"PACKER_NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A fresh clone of this work tree, uncommitted changes included, and a cloud that was started in it."""
    clone = tmp_path / "clone"
    copy_work_tree(clone)
    (clone / ".venv").symlink_to((ROOT / ".venv").resolve())
    try:
        up = _bash(clone, f"./inv cloud.up --name {NAME}")
        assert up.returncode == 0, up.stderr
        yield clone
    finally:
        control.down(NAME, clouds.STATE)


@pytest.mark.incident("packer build by hand failed for want of a bundle: only where a task had made one it worked")
def test_the_documented_line_builds_an_image_from_a_fresh_clone_and_needs_nothing_before_it(clone: Path) -> None:
    cloud = control.find(NAME, clouds.STATE)
    assert cloud is not None
    lab = Lab(cloud, Path(), clone.parent)
    assert not (clone / "build/bundle").exists()
    before = own_files(clone)

    # Refused before anything is launched: the same line where tools.env had not made the bundle.
    refused = _bash(clone, LINE.replace("&& packer init", "&& rm -r ../../build/bundle && packer init"))
    assert refused.returncode == 1
    words = " ".join(re.sub(r"[│╵╷]", " ", refused.stdout + refused.stderr).split())
    assert words.count("Error: ") == 1, words
    assert "bundle/test-local (the API's bundle: ./inv build-binary --version test-local makes it)" in words
    assert lab.ec2.describe_instances()["Reservations"] == []
    assert lab.ec2.describe_key_pairs()["KeyPairs"] == []

    write_atomically(ROOT / rehearsed.BY_HAND, json.dumps({"sources": provenance.sources(ROOT), "ami_id": ""}))
    built = _bash(clone, LINE)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    (image,) = lab.ec2.describe_images(Owners=["self"])["Images"]
    assert (image["Name"], image["State"]) == ("zmanim-test-local", "available")
    assert image["ImageId"] in "\n".join(built.stdout.splitlines()[-4:]), "the id is not what it ends with"
    assert own_files(clone) == before, "what a build by hand leaves is no part of the tree"
    write_atomically(
        ROOT / rehearsed.BY_HAND, json.dumps({"sources": provenance.sources(ROOT), "ami_id": image["ImageId"]})
    )
