"""What is asked of an instance about its backups, and what its answers are taken for; the account's part of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import ROOT, bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.stages.verification import Stage, stage  # noqa: F401 - a fixture
from zmanim_ami.pipeline.account import alarms, bucket_rules, changes, requirements
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.backup import drill as recovery
from zmanim_ami.pipeline.backup import remote
from zmanim_ami.pipeline.backup.drill import Recovery, recovery_drill
from zmanim_ami.pipeline.backup.remote import AnswerUnreadable
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.run_command import CommandNotRun
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

RUN = "20261124T030212Z-0a1b2c"
RESTORED = {"run": RUN, "seconds": 4.5, "age": 90.0, "rows": 19, "keys": 2}


@dataclass
class Instance:
    """An instance that answers each script by the first entry whose key is in it."""

    clients: Clients
    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)

    def send(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.scripts.append("\n".join(cloud.json_body(request)["Parameters"]["commands"]))
        return {"Command": {"CommandId": "0" * 36}}

    def invocation(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        status, text = next(
            (answer for key, answer in self.answers.items() if key in self.scripts[-1]), ("Success", "")
        )
        return {"Status": status, "StandardOutputContent": text, "StandardErrorContent": "its own words"}


@pytest.fixture
def instance() -> Iterator[Instance]:
    with cloud.account() as clients:
        made = Instance(clients)
        cloud.answer(clients.ssm, "SendCommand", made.send)
        cloud.answer(clients.ssm, "GetCommandInvocation", made.invocation)
        yield made


def row(run: str, state: str = "complete", *, future: bool = False) -> dict[str, object]:
    return {"run": run, "time": "2026-11-24T03:02:12Z", "state": state, "future": future, "bytes": 7, "system": "77"}


def test_a_backup_that_is_made_is_the_newest_complete_run(instance: Instance) -> None:
    rows = [row("ahead", future=True), row("cut", "incomplete"), row(RUN), row("older")]
    instance.answers = {"--list": ("Success", json.dumps(rows))}
    assert remote.make(instance.clients, "i-1", cloud.hurried()).run == RUN
    assert "systemctl start restic-backup.service" in instance.scripts[0]


def test_a_failed_backup_is_told_in_the_unit_s_own_words(instance: Instance) -> None:
    instance.answers = {"restic-backup": ("Failed", "")}
    with pytest.raises(CommandNotRun, match="its own words"):
        remote.make(instance.clients, "i-1", cloud.hurried())


def test_a_drill_s_answer_is_its_last_line(instance: Instance) -> None:
    instance.answers = {"backup-drill": ("Success", f"words\n{json.dumps(RESTORED)}\n")}
    assert remote.drill(instance.clients, "i-1", cloud.hurried()) == remote.Restored(**RESTORED)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "words", "{}", "[]", '{"run": "x"}'])
def test_no_answer_is_not_taken_for_a_good_one(instance: Instance, text: str) -> None:
    instance.answers = {"": ("Success", text)}
    with pytest.raises(AnswerUnreadable):
        remote.drill(instance.clients, "i-1", cloud.hurried())


@pytest.mark.parametrize("run", ["", "latest", "$(reboot)", RUN + "; reboot", RUN + "\n", "20261124T030212Z-0A1B2C"])
def test_what_is_no_run_s_id_gets_into_no_script(instance: Instance, run: str) -> None:
    with raises("run-invalid"):
        remote.restore(instance.clients, "i-1", run, replace=False, poller=cloud.hurried())
    assert instance.scripts == []


def test_a_restore_touches_nothing_live_unless_it_is_told_to(instance: Instance) -> None:
    instance.answers = {"restore.sh": ("Success", json.dumps(RESTORED))}
    remote.restore(instance.clients, "i-1", RUN, replace=False, poller=cloud.hurried())
    assert instance.scripts == [f"/opt/zmanim/restore.sh --run {RUN} --json"]
    remote.restore(instance.clients, "i-1", RUN, replace=True, poller=cloud.hurried())
    script = instance.scripts[-1]
    assert re.search(r"stop zmanim-api.*\n.*\n.*--replace --yes.*\n.*start zmanim-api", script)


def test_the_instance_is_the_only_one_that_runs_in_the_environment_or_it_is_named(instance: Instance) -> None:
    with raises("which-instance"):
        remote.instance(instance.clients, "prod", "i-; reboot")
    with raises("which-instance", match="0 instances of prod"):
        remote.instance(instance.clients, "prod", "")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "zmanim:environment", "Value": "prod"}]}]
    made = [
        instance.clients.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=tags)[  # type: ignore[arg-type]
            "Instances"
        ][0]["InstanceId"]
        for _ in range(1)
    ]
    assert remote.instance(instance.clients, "prod", "") == made[0]
    instance.clients.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=tags)  # type: ignore[arg-type]
    with raises("which-instance", match="2 instances of prod"):
        remote.instance(instance.clients, "prod", "")


# ---- recovery-drill ----


def recover(stage: Stage, **options: Any) -> Recovery | Plan:  # noqa: F811 - the fixture's value
    options = {"version": parse("v1.2.3"), "environment": "verify", **options}
    return recovery_drill(stage.clients, Settings(), poller=cloud.hurried(), **options)


def test_a_drill_launches_restores_and_leaves_nothing(stage: Stage) -> None:  # noqa: F811 - the fixture
    stage.answers = {}
    cloud.answer(
        stage.clients.ssm,
        "GetCommandInvocation",
        lambda request: {
            "Status": "Success",
            "StandardOutputContent": json.dumps(RESTORED),
            "StandardErrorContent": "",
        },
    )
    result = recover(stage)
    assert isinstance(result, Recovery)
    assert (result.run, result.rows, result.age) == (RUN, 19, 90.0)
    assert 0 <= result.empty_seconds <= result.healthy_seconds
    assert stage.scripts == [recovery.SCRIPT.rstrip("\n")]
    # It reads the backups that it is given, and is no owner of them.
    assert "--adopt" not in recovery.SCRIPT
    assert "stop restic-backup.timer" in recovery.SCRIPT
    assert cloud.alive(stage.clients) == []


def test_a_drill_of_an_image_that_does_not_even_start_empty_restores_nothing(stage: Stage) -> None:  # noqa: F811
    assert stage.ready is not None
    stage.ready["ok"] = False
    with raises("not-recovered"):
        recover(stage)
    assert stage.scripts == []
    assert cloud.alive(stage.clients) == []


def test_a_dry_drill_launches_nothing(stage: Stage) -> None:  # noqa: F811
    result = recover(stage, dry=True)
    assert isinstance(result, Plan)
    assert stage.launches == []


# ---- The account ----


def prepare(clients: Clients, environment: str) -> None:
    changes.apply(requirements.plan(clients, environment, policies=ROOT / "infrastructure/iam"))
    assert requirements.plan(clients, environment, policies=ROOT / "infrastructure/iam") == []


def test_what_a_bucket_s_owner_deletes_can_be_had_back_for_35_days_and_tls_is_a_must(instance: Instance) -> None:
    prepare(instance.clients, "prod")
    s3 = instance.clients.s3
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket_name("backups"))["Rules"]
    days = [rule["NoncurrentVersionExpiration"] for rule in rules if "NoncurrentVersionExpiration" in rule]
    assert days == [{"NoncurrentDays": bucket_rules.NONCURRENT_DAYS}] == [{"NoncurrentDays": 35}]
    # Marks go, and never what is live.
    assert [rule["Expiration"] for rule in rules if "Expiration" in rule] == [{"ExpiredObjectDeleteMarker": True}]
    for name in (bucket_name("backups"), bucket_name("releases")):
        (statement,) = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_passing_machines_backups_pass_and_nobody_waits_for_them(instance: Instance) -> None:
    prepare(instance.clients, "verify")
    rules = instance.clients.s3.get_bucket_lifecycle_configuration(Bucket=bucket_name("backups", "verify"))["Rules"]
    days = [rule["Expiration"]["Days"] for rule in rules if "Days" in rule.get("Expiration", {})]
    assert days == [bucket_rules.PASSING_DAYS]
    assert instance.clients.cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_a_lifecycle_or_policy_that_has_drifted_is_put_right(instance: Instance) -> None:
    prepare(instance.clients, "prod")
    instance.clients.s3.delete_bucket_lifecycle(Bucket=bucket_name("backups"))
    instance.clients.s3.delete_bucket_policy(Bucket=bucket_name("releases"))
    planned = requirements.plan(instance.clients, "prod", policies=ROOT / "infrastructure/iam")
    assert [(change.action, change.resource) for change in planned] == [
        ("limit", f"bucket {bucket_name('backups')}"),
        ("restrict", f"bucket {bucket_name('releases')}"),
    ]
    prepare(instance.clients, "prod")


(NO_BACKUP,) = (watch for watch in alarms.WATCHES if watch.name == "no-backup")


@pytest.mark.incident("backups had silently stopped, and the failure mails were rejected themselves")
def test_silence_alarms_after_26_hours_and_is_not_taken_for_good_news(instance: Instance) -> None:
    prepare(instance.clients, "prod")
    (alarm,) = instance.clients.cloudwatch.describe_alarms(AlarmNames=["zmanim-prod-no-backup"])["MetricAlarms"]
    assert (alarm["Period"], alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (3600, 26, 26)
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == ("Sum", "LessThanThreshold", 1.0)
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm["AlarmActions"] == [f"arn:aws:sns:eu-west-1:{cloud.ACCOUNT}:zmanim-prod-alarms"]
    # The name that the image sends under.
    assert f'"{alarm["MetricName"]}"' in (ROOT / "infrastructure/packer/files/zmanim_host/backup/steps.py").read_text()
    drifted = alarms.definition(NO_BACKUP, Settings(), "prod", cloud.ACCOUNT, "eu-west-1") | {
        "TreatMissingData": "notBreaching"
    }
    instance.clients.cloudwatch.put_metric_alarm(**drifted)
    (change,) = requirements.plan(instance.clients, "prod", policies=ROOT / "infrastructure/iam")
    assert (change.action, change.resource) == ("update", "alarm zmanim-prod-no-backup")


@pytest.mark.parametrize("identity", ["backup@zmanim.shtetl.io", "zmanim.shtetl.io", "shtetl.io"])
def test_an_address_whose_domain_ses_knows_is_not_asked_about(instance: Instance, identity: str) -> None:
    verify = (
        instance.clients.ses.verify_email_identity if "@" in identity else instance.clients.ses.verify_domain_identity
    )
    verify(**{"EmailAddress" if "@" in identity else "Domain": identity})
    planned = requirements.plan(instance.clients, "prod", policies=ROOT / "infrastructure/iam")
    assert [change for change in planned if change.action == "verify"] == []


def test_an_instance_may_delete_its_objects_and_no_version_of_them() -> None:
    text = (ROOT / "infrastructure/iam/instance.json").read_text()
    actions = [action for statement in json.loads(text)["Statement"] for action in _listed(statement["Action"])]
    assert "s3:DeleteObject" in actions
    assert [action for action in actions if re.search(r"Version|Lifecycle|Versioning|Policy|\*", action)] == []


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.incident("backup.now --instance of an unknown instance waited three minutes for its agent, in silence")
def test_an_instance_that_does_not_run_is_refused_at_once(instance: Instance) -> None:
    ec2 = instance.clients.ec2
    (launched,) = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"]
    name = launched["InstanceId"]
    assert remote.instance(instance.clients, "prod", name) == name
    ec2.stop_instances(InstanceIds=[name])
    with raises("which-instance") as error:
        remote.instance(instance.clients, "prod", name)
    assert error.value.found == "stopped"
    with raises("which-instance") as error:
        remote.instance(instance.clients, "prod", "i-0123456789abcdef0")
    assert error.value.found == "no such instance"
    assert instance.scripts == []
