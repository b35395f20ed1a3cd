"""The extract of an inventory is the same for every build of a tree, and no image of another tree becomes the page."""

from __future__ import annotations

import json
import runpy
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, image_tree
from tests.support.errors import raises
from zmanim_ami.pipeline.ami.provenance import PACKER_DIRECTORY
from zmanim_ami.pipeline.docs import inventory as contents_inventory
from zmanim_ami.pipeline.docs import page as contents_page
from zmanim_ami.pipeline.docs import tree
from zmanim_ami.pipeline.docs.inventory import disagreements, normalise

CONTENTS = tree.read(ROOT)
COMPILED = ("redis", "pgvector", "pg_cron")


def built(version: str = "v1.2.3", python: str = "39", suffix: str = "-1.amzn2023.aarch64") -> dict[str, Any]:
    """Return an inventory that a build of this tree could have written."""
    release = f"/opt/zmanim/releases/{version}"
    owned = {"owner": "0:0", "sha256": version}
    return {
        "postgresql_repo": "amazonlinux",
        "release": {"version": version},
        "packages": dict.fromkeys([*CONTENTS.versions["packages"], *COMPILED, "glibc"], f"1{suffix}"),
        "users": {
            **{user.name: f"{user.number}:{user.number} /sbin/nologin" for user in CONTENTS.users},
            "ec2-user": "x",
        },
        "units": {
            **{unit.name: "static" for unit in CONTENTS.units},
            **dict.fromkeys(CONTENTS.enabled, "enabled"),
            "of-the-base.service": "enabled",
        },
        "listening_on_the_builder": [
            "tcp 0.0.0.0:22",
            "tcp [::]:22",
            f"udp 10.0.0.{python}%ens5:68",
            "tcp 127.0.0.53%lo:53",
        ],
        "files": {
            **{each.destination: {"mode": each.mode, **owned} for each in CONTENTS.placed},
            f"{release}/zmanim-api": {"mode": "0755", **owned},
            f"{release}/migrations/2026{python}_x.sql": {"mode": "0644", **owned},
            "/opt/zmanim/current": {"link": f"releases/{version}"},
            f"/opt/zmanim/zmanim_host/__pycache__/cli.cpython-{python}.pyc": {"mode": "0644", **owned},
            "/etc/systemd/system/zmanim.target.wants/redis.service": {"link": "/etc/systemd/system/redis.service"},
        },
    }


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_tree.shared_copy(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def clone(tmp_path: Path, copied: Path) -> Path:
    """A copy of what the page is made from, with an inventory of it beside."""
    image_tree.link(copied, tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "inventory.json").write_text(json.dumps(built()))
    return tmp_path


def test_versions_hosts_and_checksums_make_no_difference() -> None:
    assert normalise(built(), CONTENTS) == normalise(built("v2.0.0-rc1", "313", "-2.standin.noarch"), CONTENTS)


def test_the_extract_has_what_no_file_of_the_tree_says() -> None:
    extract = normalise(built(), CONTENTS)
    assert extract.files == {
        "/opt/zmanim/current": "-> releases/VERSION",
        "/opt/zmanim/releases/VERSION/migrations/*.sql": "0644 0:0",
        "/opt/zmanim/releases/VERSION/zmanim-api": "0755 0:0",
    }
    assert extract.listening == ("tcp 22, every address", "tcp 53, loopback", "udp 68, its own address")
    assert extract.users["redis"] == "401:401 nologin"


def test_an_inventory_looks_wherever_a_file_of_ours_is_put(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGING", str(ROOT / PACKER_DIRECTORY))
    places = runpy.run_path(str(ROOT / PACKER_DIRECTORY / "scripts/inventory.py"))["ours"]()
    assert [
        each.destination
        for each in CONTENTS.placed
        if not any(Path(each.destination).is_relative_to(at) for at in places)
    ] == []
    # And where only a build puts something: releases, links, restic, what enabling makes.
    assert {"/opt/zmanim", "/etc/zmanim", "/usr/local/bin", "/etc/systemd/system"} <= set(map(str, places))


def test_an_image_of_this_tree_does_not_disagree_with_it() -> None:
    assert list(disagreements(built(), CONTENTS)) == []


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("packages", "jq", None, "the package jq is not there"),
        ("packages", "pg_cron", None, "the package pg_cron is not there"),
        ("packages", "gcc", "11", "gcc, of which there should be nothing left after compiling, is there"),
        ("files", "/opt/zmanim/backup.sh", None, "/opt/zmanim/backup.sh is not there"),
        ("files", "/opt/zmanim/backup.sh", {"mode": "0777"}, "/opt/zmanim/backup.sh has the mode 0777, not 0755"),
        ("units", "redis.service", "disabled", "redis.service is disabled, not enabled"),
        ("units", "chronyd.service", None, "chronyd.service is missing, not enabled"),
        ("units", "restic-backup.service", "enabled", "restic-backup.service is enabled, not static"),
        ("users", "redis", "999:401 /sbin/nologin", "the user redis is 999:401 /sbin/nologin, not 401"),
    ],
)
def test_what_an_image_has_otherwise_than_the_tree_is_said(part: str, name: str, value: Any, message: str) -> None:
    inventory = deepcopy(built())
    inventory[part].pop(name, None)
    if value is not None:
        inventory[part][name] = value
    assert list(disagreements(inventory, CONTENTS)) == [message]


def test_the_page_is_made_from_a_build_s_inventory_and_stays_the_same_without_it(clone: Path) -> None:
    assert contents_page.write(clone, clone / "inventory.json").changed
    assert not contents_page.write(clone).changed
    assert contents_inventory.read(clone) == normalise(built(), CONTENTS)
    page = contents_page.page(clone)
    assert "| `/opt/zmanim/releases/VERSION/zmanim-api` | `0755 0:0` |" in page
    assert "tcp 22, every address; tcp 53, loopback" in page


def test_a_unit_that_was_never_built_does_not_keep_the_page_from_being_made(clone: Path) -> None:
    contents_page.write(clone, clone / "inventory.json")
    files = clone / PACKER_DIRECTORY / "files"
    (files / "zmanim-new.service").write_text("[Unit]\nDescription=New\n")
    table = files / "install.tsv"
    row = "file\tzmanim-new.service\t/etc/systemd/system/zmanim-new.service\troot:root\t0644\n"
    image_tree.rewrite(table, table.read_text() + row)
    preset = files / "zmanim.preset"
    image_tree.rewrite(preset, f"{preset.read_text()}enable zmanim-new.service\n")
    assert "| `zmanim-new.service` | enabled | at boot |" in contents_page.page(clone)


def test_an_extract_that_changes_changes_the_page(clone: Path) -> None:
    contents_page.write(clone, clone / "inventory.json")
    before = contents_page.page(clone)
    extract = clone / contents_inventory.EXTRACT
    extract.write_text(extract.read_text().replace("tcp 22, every address", "tcp 2222, every address"))
    assert contents_page.page(clone) != before


def test_an_inventory_of_another_image_is_refused_and_the_extract_stays(clone: Path) -> None:
    inventory = built()
    inventory["units"]["redis.service"] = "disabled"
    (clone / "inventory.json").write_text(json.dumps(inventory))
    with raises("inventory-unusable", match=r"redis\.service is disabled"):
        contents_page.write(clone, clone / "inventory.json")
    assert not (clone / contents_inventory.EXTRACT).exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"postgresql_repo": "pgdg"}'])
def test_what_is_no_inventory_of_this_route_is_refused(clone: Path, text: str) -> None:
    (clone / "inventory.json").write_text(text)
    with raises("inventory-unusable", match=r"inventory\.json is"):
        contents_page.write(clone, clone / "inventory.json")


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_without_a_committed_extract_there_is_no_page(clone: Path, text: str | None) -> None:
    if text is not None:
        (clone / contents_inventory.EXTRACT).write_text(text)
    with raises("inventory-unusable", match="--inventory"):
        contents_page.page(clone)
