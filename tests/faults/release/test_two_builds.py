"""Two builds of one commit, in two clones: what their builders find in their images is the same.

Compiled twice as well: the second build takes nothing from an earlier one. What may differ, and why, is EXCEPTIONS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.machines.image import ImageLab, copy_work_tree

VERSION = "v9.40.0"
# What of an inventory's path and value may differ between two builds, and docs/images.md says so, too.
EXCEPTIONS = {
    "the address that a builder was given": re.compile(r"/listening_on_the_builder/\d+ = udp 10\.[\d.]+(%\w+)?:68"),
}


def build(lab: ImageLab, clone: Path, *flags: str) -> tuple[Mapping[str, Any], bytes]:
    """Build the image in a clone of its own; return its inventory and its SBOM, and take the image away again."""
    copy_work_tree(clone)
    report = lab.task("build-ami", "--version", VERSION, "--json", *flags, directory=clone, step="build")
    lab.ec2.deregister_image(ImageId=json.loads(report)["ami_id"], DeleteAssociatedSnapshots=True)
    output = clone / "build/packer" / VERSION
    return json.loads((output / "inventory.json").read_text()), (output / "sbom.cdx.json").read_bytes()


def flat(value: object, path: str = "") -> Iterator[str]:
    """Yield each thing that an inventory says, as `/path/of/it = value`."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from flat(each, f"{path}/{name}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from flat(each, f"{path}/{number}")
    else:
        yield f"{path} = {value}"


def differing(one: object, other: object) -> list[str]:
    """Return what one of two inventories says and the other does not, but for the exceptions."""
    lines = sorted(set(flat(one)) ^ set(flat(other)))
    return [line for line in lines if not any(pattern.fullmatch(line) for pattern in EXCEPTIONS.values())]


@pytest.mark.fault(
    51,
    injected="one commit that is built twice, in two clones",
    must="inventory and bill of materials are the same, but for a builder's address",
)
def test_two_builds_of_one_commit_have_equal_inventories_and_the_same_bill_of_materials(
    images: ImageLab, tmp_path: Path
) -> None:
    first, bill = build(images, tmp_path / "one")
    second, other_bill = build(images, tmp_path / "other", "--no-package-cache")
    assert first["release"]["version"] == VERSION
    assert differing(first, second) == []
    assert differing(json.loads(bill), json.loads(other_bill)) == []
    assert bill == other_bill
    # The test of the test: one byte of one file is seen.
    changed = json.loads(json.dumps(second))
    path = next(name for name, about in changed["files"].items() if "sha256" in about)
    changed["files"][path]["sha256"] = "0" * 64
    assert len(differing(first, changed)) == 2
