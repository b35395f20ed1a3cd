"""What is kept of a new image: its SBOM, and the advisories that are open for it, each with a tag."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.images.site import Site, site_in
from zmanim_ami.pipeline.advisories import kept
from zmanim_ami.pipeline.ami import inventories
from zmanim_ami.pipeline.sbom import store as sbom


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path) as made:
        yield made


def test_the_sbom_of_a_new_image_is_kept_and_its_digest_is_the_image_s_tag(site: Site) -> None:
    cloud.make_bucket(site.clients, "releases", "verify")
    made = site.built()
    digest = cloud.image_tags(site.clients, made.ami_id)["zmanim:sbom"]
    document = sbom.read(site.clients, made.ami_id, digest)
    assert json.loads(document)["metadata"]["component"]["version"] == "v1.2.3"
    assert (site.root / "build/packer/v1.2.3/sbom.cdx.json").read_bytes() == document
    with raises("sbom-is-anothers"):
        sbom.read(site.clients, made.ami_id, "ab" * 32)
    with raises("no-sbom"):
        sbom.read(site.clients, made.ami_id, "")


def test_an_image_in_an_account_without_buckets_has_no_sbom_there_and_no_tag_of_one(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "zmanim:sbom" not in cloud.image_tags(site.clients, site.built().ami_id)
    assert "is not kept in the account" in capsys.readouterr().err


def test_a_build_that_was_cut_off_before_its_sbom_was_kept_is_completed_by_the_next(site: Site) -> None:
    cloud.make_bucket(site.clients, "releases", "verify")
    cloud.answer(site.clients.s3, "PutObject", lambda request: "AccessDenied" if "sboms/" in request["url"] else None)
    with raises("not-allowed"):
        site.made()
    cloud.answer(site.clients.s3, "PutObject", lambda request: None)
    again = site.built()
    assert again.reused
    assert sbom.SBOM_TAG in cloud.image_tags(site.clients, again.ami_id)


def test_what_is_open_as_an_image_is_built_is_kept_and_its_tag_says_so(site: Site) -> None:
    cloud.make_bucket(site.clients, "releases", "verify")
    made = site.built()
    tag = cloud.image_tags(site.clients, made.ami_id)["zmanim:advisories"]
    assert tag.startswith("0 critical, 1 important, 0 medium, 0 low; 3 not covered (20")
    there = inventories.read(site.clients, made.ami_id, inventories.ADVISORIES)
    assert there is not None
    assert [each.id for each in kept.found(there).open] == ["ALAS-1"]
    assert kept.advisories(there)[0].fixes[0]["version"] == "3.0.9"


def test_a_build_whose_advisories_can_not_be_read_fails_and_its_image_does_not_count_as_clean(site: Site) -> None:
    site.metadata = False
    with raises("advisories-unreadable"):
        site.made()
    assert "zmanim:advisories" not in cloud.image_tags(
        site.clients, site.clients.ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"]
    )


def test_an_image_that_another_machine_built_is_not_given_the_inventory_of_this_one(site: Site) -> None:
    made = site.built()
    cloud.make_bucket(site.clients, "releases", "verify")
    (site.root / "build/packer/v1.2.3/manifest.json").write_text("{}")
    assert site.built().reused
    assert "zmanim:sbom" not in cloud.image_tags(site.clients, made.ami_id)
