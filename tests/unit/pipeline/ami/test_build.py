"""The rules of build-ami, with a stand-in for the build tools: Packer itself runs in the machine tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.images.site import Site, site_in
from zmanim_ami.pipeline.account.keys import release_key, signing_key
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.ami import package_cache as packages
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.settings import Settings


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_in(tmp_path) as made:
        yield made


def images(site: Site) -> list[str]:
    return [item["ImageId"] for item in site.clients.ec2.describe_images(Owners=["self"])["Images"]]


def test_the_first_build_validates_builds_and_tells_where_the_image_comes_from(site: Site) -> None:
    result = site.built()
    assert site.done == ["bundle", "validate", "build"]
    assert images(site) == [result.ami_id]
    assert (result.version, result.region, result.reused) == ("v1.2.3", "eu-west-1", False)
    assert result.source_ami == "ami-0000000000000000b"
    assert (result.commit, result.tree_digest) == (site.values["commit"], site.values["tree_digest"])


def test_the_same_version_commit_and_tree_is_reused(site: Site) -> None:
    first = site.built()
    site.done.clear()
    again = site.built()
    assert (again.ami_id, again.reused) == (first.ami_id, True)
    assert site.done == ["bundle"]


def test_the_release_channels_keys_go_into_the_image_and_another_key_is_another_image(site: Site) -> None:
    site.built()
    assert site.values["release_keys"] == ""
    signing_key.create(site.clients, release_key.of("prod"))
    cloud.make_bucket(site.clients, "releases", "prod")
    assert not site.built(replace=True).reused
    keys = Path(str(site.values["release_keys"]))
    assert {path.name for path in keys.iterdir()} == {"prod.pem", "prod.serial"}
    assert (keys / "prod.serial").read_text() == "0\n"
    der = site.clients.kms.get_public_key(KeyId="alias/zmanim-release-prod")["PublicKey"]
    assert (keys / "prod.pem").read_text() == release_key.pem(der)


def snapshots(site: Site) -> set[str]:
    return {item["SnapshotId"] for item in site.clients.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}


def test_an_image_that_packer_did_not_see_is_made_once_more_in_its_place(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.unseen = 1
    result = site.built()
    assert site.done == ["bundle", "validate", "build", "build, forced"]
    assert images(site) == [result.ami_id]
    assert len(snapshots(site)) == 1
    assert "eventual consistency" in capsys.readouterr().err


def test_an_image_that_packer_does_not_see_twice_is_an_error(site: Site) -> None:
    site.unseen = 2
    with raises("image-not-seen"):
        site.built()


def test_an_equal_image_that_can_not_be_launched_is_not_reused(site: Site) -> None:
    site.built()
    item = site.clients.ec2.describe_images(Owners=["self"])["Images"][0]
    cloud.answer(site.clients.ec2, "DescribeImages", lambda request: {"Images": [{**item, "State": "failed"}]})
    with raises("image-exists"):
        site.made()


def test_a_verified_and_published_image_is_reused_too(site: Site) -> None:
    first = site.built()
    site.clients.ec2.create_tags(Resources=[first.ami_id], Tags=[{"Key": image.VERIFIED_TAG, "Value": cloud.SHA}])
    site.clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value=first.ami_id, Type="String")
    assert site.built().reused


def test_another_tree_needs_a_word_to_replace_the_image(site: Site) -> None:
    first = site.built()
    site.change()
    with raises("image-exists") as error:
        site.made()
    assert "--replace" in error.value.fix
    assert images(site) == [first.ami_id]
    assert site.done.count("build") == 1


def test_a_replaced_image_leaves_no_snapshot_behind(site: Site) -> None:
    first = site.built()
    (old,) = image.of_id(site.clients, first.ami_id).snapshots
    site.change()
    second = site.built(replace=True)
    assert site.done[-1] == "build, forced"
    assert images(site) == [second.ami_id]
    remaining = {item["SnapshotId"] for item in site.clients.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    assert old not in remaining
    assert set(image.of_id(site.clients, second.ami_id).snapshots) <= remaining


def test_a_replacement_that_fails_leaves_the_old_image_as_it_was(site: Site) -> None:
    first = site.built()
    site.change()
    site.fails = True
    with raises("provisioner-failed"):
        site.made(replace=True)
    existing = image.of_id(site.clients, first.ami_id)
    assert existing.state == "available"
    remaining = {item["SnapshotId"] for item in site.clients.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    assert set(existing.snapshots) <= remaining


def test_a_published_image_is_never_replaced(site: Site) -> None:
    first = site.built()
    site.clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value=first.ami_id, Type="String")
    site.clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value="ami-later", Type="String", Overwrite=True)
    site.change()
    with raises("image-is-final"):
        site.made(replace=True)
    assert images(site) == [first.ami_id]


def test_replace_without_anything_to_replace_is_an_ordinary_build(site: Site) -> None:
    site.built(replace=True)
    assert site.done[-1] == "build"


@pytest.mark.parametrize("wrong", ["zmanim:commit", "zmanim:tree-digest", "zmanim:version"])
def test_an_image_that_is_not_tagged_as_it_was_built_is_not_believed(site: Site, wrong: str) -> None:
    def tamper(ami_id: str) -> None:
        site.clients.ec2.create_tags(Resources=[ami_id], Tags=[{"Key": wrong, "Value": "other"}])

    site.tamper = tamper
    with raises("image-not-as-built") as error:
        site.made()
    assert wrong in error.value.found


def test_an_image_that_packer_names_and_aws_does_not_know_is_an_error(site: Site) -> None:
    def tamper(ami_id: str) -> None:
        site.clients.ec2.deregister_image(ImageId=ami_id)

    site.tamper = tamper
    with pytest.raises(image.NoSuchImage):
        site.made()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(site: Site) -> None:
    shared = {"ami_users": ("111111111111",), "kms_key_id": "alias/mine"}
    plan = site.made(dry=True, settings=Settings(**shared, ami_regions=("eu-central-1",)))  # type: ignore[arg-type]
    assert isinstance(plan, Plan)
    assert [step.action for step in plan.steps] == ["launch", "create", "copy", "share"]
    assert site.done == ["bundle"]
    assert images(site) == []


def test_a_dry_run_of_a_replacement_names_what_would_go(site: Site) -> None:
    first = site.built()
    (snapshot,) = image.of_id(site.clients, first.ami_id).snapshots
    site.change()
    plan = site.made(dry=True, replace=True)
    assert isinstance(plan, Plan)
    assert [(step.action, step.subject) for step in plan.steps if step.action in {"deregister", "delete"}] == [
        ("deregister", f"{first.ami_id} (available)"),
        ("delete", snapshot),
    ]
    assert images(site) == [first.ami_id]


def test_a_dry_run_with_an_equal_image_has_nothing_to_do(site: Site) -> None:
    site.made()
    assert site.made(dry=True) == Plan(())


def test_a_region_that_does_not_exist_is_told_before_anything_is_built(site: Site) -> None:
    cloud.answer(site.clients.ec2, "DescribeRegions", lambda request: {"Regions": []})
    with raises("region-unknown"):
        site.made()
    assert site.done == []


def test_programs_that_do_not_ship_are_refused_before_anything_is_built(site: Site) -> None:
    (site.root / "infrastructure/packer/versions.json").write_text('{"programs": {"architecture": "x86_64"}}')
    with raises("programs-not-shipped", match="aarch64"):
        site.made()
    assert site.done == []


def test_compiled_packages_are_offered_to_the_next_build(site: Site) -> None:
    site.made()
    assert site.values["package_cache"] == ""
    site.change()
    site.made(replace=True)
    offered = Path(str(site.values["package_cache"]))
    assert [path.name for path in offered.iterdir()] == ["redis-7.2.16-1.aarch64.rpm"]
    assert offered.is_relative_to(site.cache)
    (site.root / "infrastructure/packer/main.pkr.hcl").write_text("# third\n")
    site.made(replace=True, package_cache=False)
    assert site.values["package_cache"] == ""


def test_packages_of_another_account_or_versions_file_are_never_offered(tmp_path: Path) -> None:
    release, other = (versions_of(release=each) for each in ("2023.1", "2023.2"))
    accounts = ("1" * 12, "2" * 12)
    assert len({packages.directory(tmp_path, account, each) for account in accounts for each in (release, other)}) == 4


def versions_of(release: str = "2023.1", redis: str = "7", restic: str = "0.19", made_for: str = "aarch64") -> Any:
    artifacts = {"redis": {"version": redis, "architecture": "source"}}
    programs = {"restic": {"version": restic, "architecture": made_for}}
    return {
        "base": {"release": release},
        "programs": {"architecture": made_for},
        "artifacts": {**artifacts, **programs},
    }


@pytest.mark.parametrize(("change", "same"), [("redis", False), ("restic", True)])
def test_what_is_compiled_is_another_package_and_a_program_is_none(tmp_path: Path, change: str, same: bool) -> None:
    before = packages.directory(tmp_path, "1" * 12, versions_of())
    assert (packages.directory(tmp_path, "1" * 12, versions_of(**{change: "8.0"})) == before) is same
    assert packages.directory(tmp_path, "1" * 12, versions_of(made_for="x86_64")) == before


def test_a_package_is_kept_whole_or_not_at_all_and_only_once(tmp_path: Path) -> None:
    (tmp_path / "output/rpms").mkdir(parents=True)
    (tmp_path / "output/rpms/a.rpm").write_text("one")
    rpm_cache = tmp_path / "kept"
    assert packages.store(rpm_cache, tmp_path / "output") == 1
    (tmp_path / "output/rpms/a.rpm").write_text("two")
    assert packages.store(rpm_cache, tmp_path / "output") == 0
    assert (rpm_cache / "a.rpm").read_text() == "one"
    (rpm_cache / ".b.rpm.1").write_text("half")
    assert packages.offered(rpm_cache) == str(rpm_cache)
    (rpm_cache / "a.rpm").unlink()
    assert packages.offered(rpm_cache) == ""


def test_a_build_that_fails_as_its_session_has_ended_says_so_and_what_takes_away_what_is_left(site: Site) -> None:
    """Packer then says only that a request was cancelled, after ten tries of each."""

    def fail(request: Mapping[str, object]) -> str | None:
        return "ExpiredToken" if "build" in site.done else None

    site.fails = True
    cloud.answer(site.clients.sts, "GetCallerIdentity", fail)
    with raises("session-ended") as error:
        site.made(settings=Settings(run="4711"))
    assert "./inv sweep --run 4711" in error.value.fix
    assert "ExpiredToken" in error.value.found


def test_settings_that_aws_would_refuse_at_the_end_are_refused_before_anything_is_built(site: Site) -> None:
    with raises("image-not-shareable"):
        site.made(settings=Settings(ami_users=("111111111111",)))
    with raises("image-not-shareable"):
        site.made(settings=Settings(ami_users=("111111111111",)), dry=True)
    with raises("region-unknown"):
        site.made(settings=Settings(ami_regions=("xx-nowhere-1",)))
    assert site.done == []
