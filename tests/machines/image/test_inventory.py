"""docs/ami-contents.md and the extract that it is made from are those of an image that was really built."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.machines.image import ImageLab, image_files
from zmanim_ami.pipeline.docs import inventory as contents_inventory
from zmanim_ami.pipeline.docs import tree


@pytest.fixture(scope="module")
def inventory(images: ImageLab) -> Any:
    return json.loads(image_files(images)["/usr/share/zmanim/inventory.json"].read_text())


def test_the_image_has_what_the_tree_says(inventory: Any) -> None:
    assert list(contents_inventory.disagreements(inventory, tree.read(ROOT))) == []


def test_the_committed_extract_is_the_image_s(inventory: Any) -> None:
    built = contents_inventory.normalise(inventory, tree.read(ROOT))
    assert contents_inventory.read(ROOT) == built, (
        "./inv write-contents --inventory build/packer/VERSION/output/inventory.json"
    )
