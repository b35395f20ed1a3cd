"""docs/ami-contents.md and the extract that it is made from are those of an image that was really built."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.machines.image import ImageLab, image_files
from zmanim_ami.pipeline.docs import inventory as contents_inventory
from zmanim_ami.pipeline.docs import tree
from zmanim_ami.pipeline.sbom import document


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


def test_the_image_s_sbom_has_its_packages_sources_modules_and_our_python(inventory: Any) -> None:
    found = json.loads(document.make(inventory, datetime.now(UTC)))
    urls = [str(each.get("purl", "")) for each in found["components"]]
    named = {row["name"] for row in inventory["rpms"]}
    assert {"system-release", "redis", "pgvector", "pg_cron"} < named
    assert sum(url.startswith("pkg:rpm/amzn/") for url in urls) == len(inventory["rpms"]) - 3
    assert sum(url.startswith("pkg:generic/") for url in urls) == 3
    depends = {each["ref"]: each.get("dependsOn", []) for each in found["dependencies"]}
    (restic,) = [url for url in urls if url.startswith("pkg:golang/github.com/restic/restic@")]
    assert len(depends[restic]) > 50
    assert any(url.startswith("pkg:golang/github.com/jackc/pgx/v5@") for url in depends["zmanim-api"])
    (python,) = [each for each in found["components"] if each["name"] == "zmanim-host"]
    assert len(python["components"]) > 30
