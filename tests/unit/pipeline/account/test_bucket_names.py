"""Which bucket an environment has: the old name's, the parameter's, or a new one that nobody else can have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from moto.s3.models import s3_backends

from tests.support import ROOT, bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from zmanim_ami.pipeline.account import changes, public_parameters, requirements, roles
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings

POLICIES = ROOT / "infrastructure" / "iam"
OLD = "zmanim-backups-prod"
HERE: Any = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
MARKER = "/zmanim/prod/backup/repository"


@pytest.fixture
def clients() -> Iterator[Clients]:
    with cloud.account() as made:
        yield made


def plan(clients: Clients, settings: Settings | None = None) -> list[changes.Change]:
    chosen = settings or Settings()
    return requirements.plan(clients, "prod", policies=POLICIES, settings=chosen, connect=cloud.clients)


def apply(clients: Clients, settings: Settings | None = None) -> str:
    """Make the account, which needs nothing more then; return the name of the bucket that has the backups."""
    changes.apply(plan(clients, settings))
    assert plan(clients, settings) == []
    return public_parameters.bucket(clients, "prod", "backups")


def test_a_new_account_gets_a_name_of_its_own_namespace(clients: Clients, capsys: pytest.CaptureFixture[str]) -> None:
    assert apply(clients) == bucket_name("backups") == f"{OLD}-{cloud.ACCOUNT}-eu-west-1-an"
    assert {each["Name"] for each in clients.s3.list_buckets()["Buckets"]} == {
        bucket_name("backups"),
        bucket_name("releases"),
    }
    assert f"bucket {bucket_name('backups')}, in this account's own regional namespace" in capsys.readouterr().err


@pytest.mark.incident("a name that was free at home was somebody else's on AWS, and the first apply ended there")
def test_a_name_that_another_account_has_is_in_nobodys_way(clients: Clients) -> None:
    s3_backends["210987654321"]["aws"].create_bucket(OLD, "eu-west-1")
    assert apply(clients) == bucket_name("backups")


def test_a_bucket_under_its_old_name_is_kept_and_used_and_said(
    clients: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    clients.s3.create_bucket(Bucket=OLD, **HERE)
    assert apply(clients) == OLD
    assert f"bucket {OLD}, kept under its old name" in capsys.readouterr().err
    document: Any = clients.iam.get_role_policy(RoleName="zmanim-prod-instance", PolicyName="instance")
    keep = next(each for each in document["PolicyDocument"]["Statement"] if each["Sid"] == "KeepOwnBackups")
    assert keep["Resource"] == f"arn:aws:s3:::{OLD}/restic/*"


def test_an_old_bucket_in_another_region_is_not_taken_for_this_ones(clients: Clients) -> None:
    other: Any = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    cloud.clients("eu-central-1").s3.create_bucket(Bucket=OLD, **other)
    assert apply(clients) == bucket_name("backups")


def test_another_setting_moves_no_bucket_that_is_in_use(clients: Clients, capsys: pytest.CaptureFixture[str]) -> None:
    used = apply(clients)
    capsys.readouterr()
    assert apply(clients, Settings(backups_bucket="acme-{environment}")) == used
    assert "the setting backups_bucket would name a new one acme-prod" in capsys.readouterr().err


def test_a_name_that_is_too_long_is_refused_before_anything_is_made(clients: Clients) -> None:
    with raises("bucket-name-too-long"):
        plan(clients, Settings(backups_bucket=f"{'x' * 40}-{{environment}}"))
    assert clients.s3.list_buckets()["Buckets"] == []


def test_whom_failures_are_told_to_is_what_the_settings_say(clients: Clients) -> None:
    apply(clients)
    other = Settings(mail_to="ops@example.org")
    rows = [(change.action, change.resource) for change in plan(clients, other)]
    assert rows == [("update", "parameter /zmanim/prod/mail-to"), ("update", "policy instance of zmanim-prod-instance")]
    apply(clients, other)
    assert public_parameters.read(clients, "/zmanim/prod/mail-to") == "ops@example.org"


@pytest.mark.incident("an image began a repository in an empty bucket while production's backups were in another one")
@pytest.mark.parametrize("deleted", [False, True])
def test_backups_of_before_there_were_markers_are_marked_even_deleted_ones(clients: Clients, deleted: bool) -> None:
    clients.s3.create_bucket(Bucket=OLD, **HERE)
    clients.s3.put_bucket_versioning(Bucket=OLD, VersioningConfiguration={"Status": "Enabled"})
    clients.s3.put_object(Bucket=OLD, Key="restic/config", Body=b"x")
    if deleted:
        clients.s3.delete_object(Bucket=OLD, Key="restic/config")
    assert [change.resource for change in plan(clients) if change.action == "mark"] == [f"parameter {MARKER}"]
    apply(clients)
    assert OLD in (public_parameters.read(clients, MARKER) or "")


def test_a_bucket_that_never_had_backups_is_not_marked(clients: Clients) -> None:
    apply(clients)
    assert public_parameters.read(clients, MARKER) is None


# ---- more than one region ----


REGION_B = "eu-central-1"
VALUES = dict.fromkeys(["environment", "account", "mail_from", "mail_to", "backups_bucket", "releases_bucket"], "prod")
ROLES = {"zmanim-prod-instance": "instance", "zmanim-release-prod": "release"}


def granted(clients: Clients, role: str = "zmanim-prod-instance") -> str:
    """The text of what a role may do."""
    return str(clients.iam.get_role_policy(RoleName=role, PolicyName=ROLES[role])["PolicyDocument"])


def names_of(region: str) -> set[str]:
    path, wanted = f"arn:aws:ssm:{region}:{cloud.ACCOUNT}:parameter/zmanim/prod/*", "arn:aws:s3:::zmanim-backups-prod"
    return {path, f"{wanted}-{cloud.ACCOUNT}-{region}-an/restic/*", f"ssm.{region}.amazonaws.com"}


def test_an_account_is_made_for_a_list_of_regions(clients: Clients) -> None:
    both = Settings(ami_regions=(REGION_B,))
    planned = plan(clients, both)
    assert {change.resource for change in planned} >= {
        f"bucket {bucket_name('backups')}",
        f"bucket {bucket_name('backups').replace('eu-west-1', REGION_B)} in {REGION_B}",
        f"secret /zmanim/prod/restic-password in {REGION_B}",
    }
    assert not any("alarm" in change.resource for change in planned if REGION_B in change.resource)
    apply(clients, both)
    for role in ROLES:
        for region in ("eu-west-1", REGION_B):
            assert f":{region}:" in granted(clients, role)
    assert all(name in granted(clients) for name in names_of("eu-west-1") | names_of(REGION_B))
    there = cloud.clients(REGION_B)
    assert public_parameters.bucket(there, "prod", "backups").endswith(f"-{REGION_B}-an")


@pytest.mark.incident("account.apply --region B silently took region A's rights from its instances")
def test_a_region_that_is_applied_later_takes_no_right_of_the_one_before(
    clients: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(clients)
    before = granted(clients)
    capsys.readouterr()
    there = cloud.clients(REGION_B)
    changes.apply(plan(there, replace(Settings(), region=REGION_B)))
    assert "have rights in eu-west-1 as well: they stay" in capsys.readouterr().err
    assert all(name in granted(clients) for name in names_of("eu-west-1") | names_of(REGION_B))
    assert all(name in before for name in names_of("eu-west-1"))
    # Neither has anything to change in what the other one has made.
    assert plan(there, replace(Settings(), region=REGION_B)) == []
    assert plan(clients) == []


def test_more_regions_than_a_role_can_hold_are_refused_by_its_name(clients: Clients) -> None:
    many = [{**VALUES, "region": f"xx-{name}-{number}"} for name in ("east", "west", "north") for number in range(10)]
    with raises("policies-too-large", match="zmanim-prod-instance"):
        list(roles.plan(clients, "prod", POLICIES, many))
