"""image.list, image.show and image.check, of an account with two regions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support import bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.image_life import HERE, THERE, Life, two_regions
from tests.support.images import inventories
from zmanim_ami.pipeline.advisories.findings import Open
from zmanim_ami.pipeline.images import bom, check, diff, listing
from zmanim_ami.pipeline.publish import publication
from zmanim_ami.pipeline.sbom import document
from zmanim_ami.pipeline.sbom import store as sbom
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

SETTINGS = Settings(ami_regions=(THERE,))
ID = "/zmanim/prod/ami-id"
MADE = datetime(2026, 11, 30, tzinfo=UTC)


@dataclass
class Shelf:
    """v1.0.0 was published, v1.1.0 is, and v1.2.0 was never verified; each with the report that its tag names."""

    here: Life
    there: Life
    images: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)

    def build(self, version: str, **packages: str) -> None:
        made = self.here.image(version, verified="")
        fixed = {"id": "ALAS-1", "severity": "low", "fixes": [inventories.rpm("openssl", "3.0.9", epoch="1")]}
        opened = {"id": "ALAS-1", "severity": "low", "packages": ["a 1 < 2"]}
        kept = {"open": [opened], "not_covered": ["redis (rpm)"], "advisories": [fixed]}
        self.put("advisories", made, json.dumps(kept).encode())
        self.here.amis[made].add_tags({"zmanim:advisories": "1 low; 1 not covered (2026-11-30)"})
        sbom.keep(self.here.clients, made, document.make(inventories.inventory(), MADE))
        cloud.attest(self.here.clients, made, version=version, packages=packages, versions={"kernel": "6.12"})
        self.images[version], self.copies[version] = made, self.there.image(version, source=made)

    def put(self, folder: str, ami_id: str, content: bytes) -> None:
        bucket = bucket_name("releases", "verify")
        self.here.clients.s3.put_object(Bucket=bucket, Key=f"{folder}/{ami_id}.json", Body=content)

    def listed(self) -> dict[str, listing.Listed]:
        found = listing.listed(self.here.clients, [self.there.clients], SETTINGS)
        return {each.version: each for each in found}

    def wrong(self) -> set[str]:
        found = check.check(self.here.clients, [self.there.clients], SETTINGS)
        return {each.name for each in found if not each.ok}


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with two_regions() as (here, there):
        cloud.prepare_reports(here.clients)
        made = Shelf(here, there)
        made.build("v1.0.0", bash="5.2.15", openssl="3.0.8")
        made.build("v1.1.0", bash="5.2.26", postgresql17="17.12")
        made.images["v1.2.0"] = here.image("v1.2.0", verified="")
        for version in ("v1.0.0", "v1.1.0"):
            publication.publish(here.clients, SETTINGS, [there.clients], version=parse(version))
        yield made


def test_the_list_has_every_image_and_who_uses_it_and_what_it_costs(shelf: Shelf) -> None:
    launched = shelf.there.clients.ec2.run_instances(ImageId=shelf.copies["v1.0.0"], MinCount=1, MaxCount=1)
    rows = shelf.listed()
    assert list(rows) == ["v1.2.0", "v1.1.0", "v1.0.0"]
    assert [(row.published, row.verified) for row in rows.values()] == [("", False), ("now", True), ("once", True)]
    assert rows["v1.0.0"].used_by == (f"instance {launched['Instances'][0]['InstanceId']}",)
    assert rows["v1.0.0"].regions == (THERE, HERE)
    assert [row.advisories for row in rows.values()] == ["not known", *["1 low; 1 not covered (2026-11-30)"] * 2]
    # moto's snapshots say no more than the size of their volumes, which are the most that they can hold.
    size = shelf.here.clients.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"][0]["VolumeSize"]
    assert rows["v1.1.0"].usd_a_month == round(2 * size * 0.05, 2)
    assert rows["v1.2.0"].usd_a_month == round(size * 0.05, 2)


def test_all_that_is_known_of_a_version_is_shown(shelf: Shelf) -> None:
    shown = listing.shown(shelf.here.clients, [shelf.there.clients], SETTINGS, parse("v1.0.0"))
    assert shown.listed.ami_id == shelf.images["v1.0.0"]
    assert shown.recorded == {HERE: shelf.images["v1.0.0"], THERE: shelf.copies["v1.0.0"]}
    assert shown.report == "kept, and the one that the image's tag names"
    assert (shown.open, shown.not_covered) == ((Open("ALAS-1", "low", ("a 1 < 2",)),), ("redis (rpm)",))
    assert shown.sbom == cloud.image_tags(shelf.here.clients, shelf.images["v1.0.0"])["zmanim:sbom"]
    assert [each.what for each in shown.publications] == ["published"]
    with raises("no-such-image"):
        listing.shown(shelf.here.clients, [], SETTINGS, parse("v9.0.0"))


def test_an_image_whose_advisories_were_not_kept_shows_none_known_and_not_none(shelf: Shelf) -> None:
    shown = listing.shown(shelf.here.clients, [shelf.there.clients], SETTINGS, parse("v1.2.0"))
    assert (shown.open, shown.not_covered, shown.sbom) == (None, None, "")


def test_an_image_s_sbom_is_the_one_that_its_tag_names_and_what_is_in_it_is_counted(shelf: Shelf) -> None:
    found = bom.find(shelf.here.clients, parse("v1.0.0"))
    assert found.components == {
        "application": 2, "operating-system": 1, "pkg:generic": 1, "pkg:golang": 5, "pkg:rpm": 3,
    }  # fmt: skip
    assert found.document == document.make(inventories.inventory(), MADE)
    with raises("no-sbom"):
        bom.find(shelf.here.clients, parse("v1.2.0"))


def test_what_was_published_as_it_was_meant_passes_every_check(shelf: Shelf) -> None:
    assert shelf.wrong() == set()


def _life(shelf: Shelf, region: str) -> Life:
    return {HERE: shelf.here, THERE: shelf.there}[region]


def _put(shelf: Shelf, region: str, name: str, value: str) -> None:
    _life(shelf, region).clients.ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)


BROKEN: dict[str, tuple[Callable[[Shelf], Any], set[str]]] = {
    "a region's pointer was moved by hand": (
        lambda shelf: _put(shelf, THERE, ID, shelf.copies["v1.0.0"]),
        {f"{THERE}: {ID}"},
    ),
    "a region's label was not moved": (
        lambda shelf: _put(shelf, THERE, "/zmanim/prod/ami-version", "v1.0.0"),
        {f"{THERE}: /zmanim/prod/ami-version"},
    ),
    "the protection was taken away": (
        lambda shelf: vars(shelf.here.amis[shelf.images["v1.1.0"]]).update(deregistration_protection="disabled"),
        {f"{HERE}: image"},
    ),
    "the copy is gone": (
        lambda shelf: shelf.there.amis.pop(shelf.copies["v1.1.0"]),
        {f"{THERE}: image"},
    ),
    "the tag is another report's": (
        lambda shelf: shelf.here.amis[shelf.images["v1.1.0"]].add_tags({"zmanim:verified": "cd" * 32}),
        {"report"},
    ),
    "the tag is gone": (
        lambda shelf: shelf.here.clients.ec2.delete_tags(
            Resources=[shelf.images["v1.1.0"]], Tags=[{"Key": "zmanim:verified"}]
        ),
        {"verified", "report"},
    ),
    "the report is another one": (
        lambda shelf: shelf.put("reports", shelf.images["v1.1.0"], b"{}"),
        {"report"},
    ),
    "the SBOM is another one": (
        lambda shelf: shelf.here.clients.s3.put_object(
            Bucket=bucket_name("releases", "verify"), Key=f"sboms/{shelf.images['v1.1.0']}.cdx.json", Body=b"{}"
        ),
        {"sbom"},
    ),
    "the SBOM's tag is gone": (
        lambda shelf: shelf.here.clients.ec2.delete_tags(
            Resources=[shelf.images["v1.1.0"]], Tags=[{"Key": "zmanim:sbom"}]
        ),
        {"sbom", "report"},
    ),
    "the record is gone": (
        lambda shelf: shelf.here.clients.ssm.delete_parameter(Name="/zmanim/prod/images/v1.1.0"),
        {"record", f"{THERE}: {ID}"},
    ),
    "what one would go back to is gone": (
        lambda shelf: vars(shelf.here.amis[shelf.images["v1.0.0"]]).update(state="disabled"),
        {"going back to v1.0.0"},
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_not_as_it_was_meant_fails_its_check_and_no_other(shelf: Shelf, what: str) -> None:
    do, wrong = BROKEN[what]
    do(shelf)
    assert shelf.wrong() == wrong


def inventory(version: str, **changes: Any) -> bytes:
    base = {
        "release": {"version": version},
        "packages": {"bash": "5.2.15"},
        **{part: inventories.inventory()[part] for part in ("rpms", "go")},
        "users": {"zmanim": "402:402 /sbin/nologin"},
        "units": {"zmanim-api.service": "enabled"},
        "listening_on_the_builder": ["tcp 0.0.0.0:22", "tcp 127.0.0.1:53"],
        "files": {
            "/etc/zmanim/postgresql.conf": {"mode": "0644", "owner": "0:0", "sha256": "a" * 64},
            f"/opt/zmanim/releases/{version}/zmanim-api": {"mode": "0755", "owner": "0:0", "sha256": "b" * 64},
            "/opt/zmanim/current": {"link": "releases/current"},
        },
    }
    return json.dumps({**base, **changes}).encode()


def test_a_diff_says_what_changed_and_what_nobody_knows(shelf: Shelf) -> None:
    result = diff.diff(shelf.here.clients, SETTINGS, parse("v1.1.0"), parse("v1.0.0"))
    assert [(each.kind, each.name, each.before, each.after) for each in result.changes] == [
        ("package", "bash", "5.2.15", "5.2.26"),
        ("package", "openssl", "3.0.8", ""),
        ("package", "postgresql17", "", "17.12"),
    ]
    assert [each.partition(" (")[0] for each in result.unknown] == [
        "files, units, users and ports of v1.0.0",
        "files, units, users and ports of v1.1.0",
        "advisories for v1.0.0",
        "advisories for v1.1.0",
    ]
    text = diff.markdown(result)
    assert text.startswith("## v1.0.0 → v1.1.0\n")
    assert "| openssl | 3.0.8 | not in it |" in text
    assert "- not known: files, units, users and ports of v1.0.0" in text


def test_a_diff_shows_files_units_and_ports_where_both_inventories_were_kept(shelf: Shelf) -> None:
    shelf.put("inventories", shelf.images["v1.0.0"], inventory("v1.0.0"))
    changed = {"mode": "0644", "owner": "0:0", "sha256": "c" * 64}
    later = json.loads(inventory("v1.1.0", units={}, listening_on_the_builder=["tcp 0.0.0.0:22", "tcp 0.0.0.0:80"]))
    later["files"]["/etc/zmanim/postgresql.conf"] = changed
    shelf.put("inventories", shelf.images["v1.1.0"], json.dumps(later).encode())
    result = diff.diff(shelf.here.clients, SETTINGS, parse("v1.1.0"))  # against the published one: the same
    assert (result.changes, result.unknown) == ((), ())
    assert "The same in all that was kept of both." in diff.markdown(result)
    result = diff.diff(shelf.here.clients, SETTINGS, parse("v1.1.0"), parse("v1.0.0"))
    assert result.unknown == ()
    assert [(each.kind, each.name) for each in result.changes if each.kind != "package"] == [
        ("configuration", "/etc/zmanim/postgresql.conf"),
        ("unit", "zmanim-api.service"),
        ("port", "tcp 53, loopback"),
        ("port", "tcp 80, reachable"),
    ]


def test_a_report_that_the_image_does_not_name_shows_no_packages(shelf: Shelf) -> None:
    shelf.put("reports", shelf.images["v1.0.0"], json.dumps({"packages": {"bash": "9"}, "versions": {}}).encode())
    result = diff.diff(shelf.here.clients, SETTINGS, parse("v1.1.0"), parse("v1.0.0"))
    assert result.changes == ()
    assert "the kept one is not the one that the image names" in result.unknown[0]


def test_an_image_that_is_gone_is_compared_by_its_record(shelf: Shelf) -> None:
    del shelf.here.amis[shelf.images["v1.0.0"]]
    result = diff.diff(shelf.here.clients, SETTINGS, parse("v1.1.0"), parse("v1.0.0"))
    assert [each.name for each in result.changes] == ["bash", "openssl", "postgresql17"]
    with raises("no-such-image"):
        diff.diff(shelf.here.clients, SETTINGS, parse("v9.0.0"))


def test_a_diff_names_the_advisories_that_are_mended_and_the_go_modules_that_changed(shelf: Shelf) -> None:
    shelf.put("inventories", shelf.images["v1.0.0"], inventory("v1.0.0"))
    later = inventories.inventory()
    later["go"][inventories.RESTIC]["modules"]["golang.org/x/sync"] = "v0.18.0"
    mended = [inventories.rpm("openssl", "3.0.9", epoch="1")]
    shelf.put("inventories", shelf.images["v1.1.0"], inventory("v1.1.0", rpms=mended, go=later["go"]))
    result = diff.diff(shelf.here.clients, SETTINGS, parse("v1.1.0"), parse("v1.0.0"))
    was = "low: openssl 1:3.0.8-1.amzn2023 < 1:3.0.9-1.amzn2023"
    assert [each for each in result.changes if each.kind in {"advisory", "module"}] == [
        diff.Change("module", "restic: golang.org/x/sync", "v0.17.0", "v0.18.0"),
        diff.Change("advisory", "ALAS-1", was, ""),
    ]
    assert f"| ALAS-1 | {was} | not open |" in diff.markdown(result)


def test_a_diff_of_an_image_of_before_there_were_advisories_says_that_nobody_knows_them(shelf: Shelf) -> None:
    old = json.loads(inventory("v1.0.0"))
    del old["rpms"]
    shelf.put("inventories", shelf.images["v1.0.0"], json.dumps(old).encode())
    shelf.put("inventories", shelf.images["v1.1.0"], inventory("v1.1.0"))
    result = diff.diff(shelf.here.clients, SETTINGS, parse("v1.1.0"), parse("v1.0.0"))
    assert result.unknown == ("advisories for v1.0.0 (nothing to compare was kept)",)
    assert "advisory" not in {each.kind for each in result.changes}


def test_before_the_first_publication_a_diff_says_that_there_is_nothing_to_compare_with(shelf: Shelf) -> None:
    shelf.here.clients.ssm.delete_parameter(Name="/zmanim/prod/ami-version")
    result = diff.diff(shelf.here.clients, SETTINGS, parse("v1.1.0"))
    assert diff.markdown(result) == "## nothing → v1.1.0\n\n- not known: anything, as nothing is published yet\n"
