"""What an account's owner made stricter stays so, whatever account.apply adds to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import ROOT, bucket_name
from tests.support import pipeline_cloud as cloud
from zmanim_ami.pipeline.account import alarms, bucket_rules, changes, requirements
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings

POLICIES = ROOT / "infrastructure" / "iam"
BACKUPS, RELEASES = bucket_name("backups"), bucket_name("releases")
(NO_BACKUP,) = (watch for watch in alarms.WATCHES if watch.name == "no-backup")
WHOLE = {"Status": "Enabled", "Filter": {"Prefix": ""}}
KEEP = {
    "Sid": "NobodyDestroysAVersion",
    "Effect": "Deny",
    "Principal": "*",
    "Action": ["s3:DeleteObjectVersion", "s3:PutLifecycleConfiguration"],
    "Resource": [f"arn:aws:s3:::{BACKUPS}", f"arn:aws:s3:::{BACKUPS}/*"],
}


@pytest.fixture
def clients() -> Iterator[Clients]:
    with cloud.account() as made:
        apply(made)
        yield made


def plan(clients: Clients, environment: str = "prod") -> list[changes.Change]:
    return requirements.plan(clients, environment, policies=POLICIES)


def apply(clients: Clients, environment: str = "prod") -> None:
    changes.apply(plan(clients, environment))
    assert plan(clients, environment) == []


def rules(clients: Clients) -> dict[str, Any]:
    found = clients.s3.get_bucket_lifecycle_configuration(Bucket=BACKUPS)["Rules"]
    return {rule["ID"]: rule for rule in found}


def write_rules(clients: Clients, *content: Any) -> None:
    clients.s3.put_bucket_lifecycle_configuration(Bucket=BACKUPS, LifecycleConfiguration={"Rules": content})


def statements(clients: Clients) -> list[Any]:
    found: list[Any] = json.loads(clients.s3.get_bucket_policy(Bucket=BACKUPS)["Policy"])["Statement"]
    return found


def write_statements(clients: Clients, *content: Any) -> None:
    document = {"Version": "2012-10-17", "Statement": content}
    clients.s3.put_bucket_policy(Bucket=BACKUPS, Policy=json.dumps(document))


@pytest.mark.incident("account.apply put a bucket of 365 days and a Deny on DeleteObjectVersion back to 35 days")
def test_a_bucket_that_was_made_stricter_stays_so_and_the_plan_says_it(
    clients: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = [{**rule} for rule in rules(clients).values()]
    for rule in longer:
        if "NoncurrentVersionExpiration" in rule:
            rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": 365}
    write_rules(clients, *longer)
    write_statements(clients, KEEP, *statements(clients))
    capsys.readouterr()
    assert plan(clients) == []
    output = capsys.readouterr().err
    assert "rule deleted keeps deleted versions for 365 days" in output
    assert "statement NobodyDestroysAVersion of its policy" in output
    assert rules(clients)["deleted"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 365}


def test_what_is_missing_is_added_beside_what_the_owner_made(clients: Clients) -> None:
    write_rules(clients, {**WHOLE, "ID": "mine", "NoncurrentVersionExpiration": {"NoncurrentDays": 400}})
    write_statements(clients, KEEP)
    reasons = {change.action: change.reason for change in plan(clients)}
    assert "keeps deleted versions for 400 days" in reasons["limit"]
    assert "NobodyDestroysAVersion" in reasons["restrict"]
    apply(clients)
    assert set(rules(clients)) == {"mine", "uploads", "delete-markers"}
    assert [each["Sid"] for each in statements(clients)] == ["NobodyDestroysAVersion", "TlsOnly"]


def test_of_rules_that_overlap_the_shortest_counts_so_ours_is_as_long_as_the_longest(clients: Clients) -> None:
    """S3 applies the shorter expiration where two rules are for the same versions."""
    part = {"Status": "Enabled", "Filter": {"Prefix": "data/"}, "ID": "mine"}
    write_rules(clients, {**part, "NoncurrentVersionExpiration": {"NoncurrentDays": 400}})
    apply(clients)
    assert rules(clients)["deleted"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 400}


def test_a_rule_that_is_switched_off_keeps_for_ever_and_stays_off(clients: Clients) -> None:
    content = [{**rule, "Status": "Disabled"} if name == "deleted" else rule for name, rule in rules(clients).items()]
    write_rules(clients, *content)
    assert plan(clients) == []


def test_a_rule_that_deletes_too_soon_is_lengthened_and_one_that_deletes_live_backups_goes(clients: Clients) -> None:
    write_rules(
        clients,
        {**WHOLE, "ID": "short", "NoncurrentVersionExpiration": {"NoncurrentDays": 3}},
        {**WHOLE, "ID": "live", "Expiration": {"Days": 30}},
    )
    (change,) = plan(clients)
    assert "short keeps deleted versions for 3 days only" in change.reason
    assert "live deletes live backups" in change.reason
    apply(clients)
    assert rules(clients)["short"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 35}
    assert "live" not in rules(clients)


def test_delete_markers_expire_by_a_rule_of_their_own_and_never_by_days(clients: Clients) -> None:
    marks = rules(clients)["delete-markers"]
    assert marks["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert marks.keys() == {"ID", "Status", "Filter", "Expiration"}


def test_a_policy_of_the_same_sid_that_says_something_else_is_kept_beside_ours(clients: Clients) -> None:
    write_statements(clients, {**KEEP, "Sid": "TlsOnly"})
    apply(clients)
    assert [each["Sid"] for each in statements(clients)] == ["TlsOnly", "TlsOnly2"]


def test_a_default_of_object_lock_is_left_alone() -> None:
    with cloud.account() as clients:
        clients.s3.create_bucket(
            Bucket=BACKUPS,
            CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
            BucketNamespace="account-regional",
            ObjectLockEnabledForBucket=True,
        )
        retention: Any = {"Mode": "COMPLIANCE", "Days": 90}
        lock: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
        clients.s3.put_object_lock_configuration(Bucket=BACKUPS, ObjectLockConfiguration=lock)
        apply(clients)
        found = clients.s3.get_object_lock_configuration(Bucket=BACKUPS)["ObjectLockConfiguration"]
        assert retention.items() <= found["Rule"]["DefaultRetention"].items()


def test_an_alarm_that_goes_off_sooner_and_tells_more_people_stays_so(clients: Clients) -> None:
    wanted = alarms.definition(NO_BACKUP, Settings(), "prod", cloud.ACCOUNT, "eu-west-1")
    other = f"arn:aws:sns:eu-west-1:{cloud.ACCOUNT}:pager"
    stricter: Any = {
        **wanted,
        "EvaluationPeriods": 13,
        "DatapointsToAlarm": 13,
        "AlarmActions": [other, *wanted.get("AlarmActions", [])],
        "OKActions": [other, *wanted.get("OKActions", [])],
    }
    clients.cloudwatch.put_metric_alarm(**stricter)
    assert plan(clients) == []
    clients.cloudwatch.put_metric_alarm(**{**stricter, "TreatMissingData": "ignore", "AlarmActions": [other]})
    apply(clients)
    (alarm,) = clients.cloudwatch.describe_alarms(AlarmNames=["zmanim-prod-no-backup"])["MetricAlarms"]
    assert (alarm["EvaluationPeriods"], alarm["TreatMissingData"]) == (13, "breaching")
    assert alarm["AlarmActions"] == [other, *wanted.get("AlarmActions", [])]
    assert alarm["OKActions"] == [other, *wanted.get("OKActions", [])]


def test_a_policy_of_a_role_that_only_denies_is_kept(clients: Clients) -> None:
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"}]}
    clients.iam.put_role_policy(RoleName="zmanim-prod-instance", PolicyName="stricter", PolicyDocument=json.dumps(deny))
    assert plan(clients) == []


def test_one_statement_that_is_no_list_is_a_policy_too() -> None:
    merged = bucket_rules.policy("b", {"Version": "2012-10-17", "Statement": KEEP})
    assert [each["Sid"] for each in merged.content] == ["NobodyDestroysAVersion", "TlsOnly"]


def test_releases_are_kept_and_what_was_deleted_or_broken_off_among_them_is_not_for_ever(clients: Clients) -> None:
    def found() -> dict[str, Any]:
        rules = clients.s3.get_bucket_lifecycle_configuration(Bucket=RELEASES)["Rules"]
        return {rule["ID"]: rule for rule in rules}

    assert set(found()) == {"deleted", "uploads", "delete-markers"}
    assert found()["deleted"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 35
    assert found()["uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert not any("Days" in rule.get("Expiration", {}) for rule in found().values())
    # How long a report of verification is kept is its owner's to say.
    own: Any = {"Status": "Enabled", "Filter": {"Prefix": "reports/"}, "ID": "own", "Expiration": {"Days": 400}}
    configuration: Any = {"Rules": [*found().values(), own]}
    clients.s3.put_bucket_lifecycle_configuration(Bucket=RELEASES, LifecycleConfiguration=configuration)
    assert plan(clients) == []
    assert found()["own"]["Expiration"] == {"Days": 400}


def test_no_release_expires_where_machines_live_for_minutes(clients: Clients) -> None:
    apply(clients, "verify")
    name = bucket_name("releases", "verify")
    found = clients.s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert {rule["ID"] for rule in found} == {"deleted", "uploads", "delete-markers"}


def test_an_object_lock_a_copy_elsewhere_and_access_logs_are_their_owner_s_and_stay(clients: Clients) -> None:
    s3, where = clients.s3, {"LocationConstraint": "eu-west-1"}
    for name in ("zmanim-copies", "zmanim-logs"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)  # type: ignore[arg-type]
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    lock: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 35}}}
    rule: Any = {
        "ID": "elsewhere",
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": "arn:aws:s3:::zmanim-copies"},
    }
    copies: Any = {"Role": f"arn:aws:iam::{cloud.ACCOUNT}:role/copies", "Rules": [rule]}
    s3.put_object_lock_configuration(Bucket=BACKUPS, ObjectLockConfiguration=lock)
    s3.put_bucket_replication(Bucket=BACKUPS, ReplicationConfiguration=copies)
    s3.put_bucket_acl(Bucket="zmanim-logs", ACL="log-delivery-write")  # type: ignore[arg-type]  # S3 has it
    logging: Any = {"LoggingEnabled": {"TargetBucket": "zmanim-logs", "TargetPrefix": "backups/"}}
    s3.put_bucket_logging(Bucket=BACKUPS, BucketLoggingStatus=logging)
    clients.s3.put_bucket_versioning(Bucket=bucket_name("releases"), VersioningConfiguration={"Status": "Suspended"})
    apply(clients)
    locked = s3.get_object_lock_configuration(Bucket=BACKUPS)["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert (locked["Mode"], locked["Days"]) == ("GOVERNANCE", 35)
    assert s3.get_bucket_replication(Bucket=BACKUPS)["ReplicationConfiguration"]["Rules"][0]["ID"] == "elsewhere"
    assert s3.get_bucket_logging(Bucket=BACKUPS)["LoggingEnabled"]["TargetBucket"] == "zmanim-logs"


def test_of_a_pointer_that_was_deleted_a_version_stays_however_long_ago_that_was() -> None:
    """The next release's serial goes on from it; a lower one would be a replay to every machine."""
    for backups, kept in ((False, {"NewerNoncurrentVersions": 1}), (True, {})):
        merged = bucket_rules.lifecycle([], backups=backups, passing=False)
        (rule,) = (each for each in merged.content if each["ID"] == "deleted")
        assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 35, **kept}
