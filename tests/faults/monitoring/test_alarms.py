"""Production breaks, and somebody hears of it: by the metrics that really arrive, and by the alarms that judge them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud import control
from localcloud.settings import ACCOUNT
from tests.support.machines.backups import mails
from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for
from zmanim_ami.pipeline.account import alarms
from zmanim_ami.pipeline.settings import Settings

ENVIRONMENT = "prod"
NAMESPACE = f"zmanim/{ENVIRONMENT}"
ALARM = "not-ready-within-seconds"
# Every five seconds in the place of every minute, as the alarm below looks at 10 seconds.
OFTEN = (
    "mkdir -p /run/systemd/system/zmanim-metrics.timer.d && printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/5\\n'"
    " >/run/systemd/system/zmanim-metrics.timer.d/often.conf && systemctl daemon-reload &&"
    " systemctl restart zmanim-metrics.timer"
)


@pytest.fixture(scope="module")
def production(images: ImageLab) -> str:
    """A machine of production that sends often, and production's own alarm with short periods."""
    machine = images.serve(ENVIRONMENT)
    images.run(machine, OFTEN)
    (watch,) = (each for each in alarms.WATCHES if each.name == "not-ready")
    wanted: Any = alarms.definition(watch, Settings(), ENVIRONMENT, ACCOUNT, images.cloud.region)
    short = {"AlarmName": ALARM, "Period": 10, "EvaluationPeriods": 3, "DatapointsToAlarm": 3}
    images.client("cloudwatch").put_metric_alarm(**{**wanted, **short})
    expect(images, "OK")
    return machine


def described(images: ImageLab) -> dict[str, Any]:
    (alarm,) = images.client("cloudwatch").describe_alarms(AlarmNames=[ALARM])["MetricAlarms"]
    return dict(alarm)


def expect(images: ImageLab, state: str) -> None:
    wait_for(lambda: described(images)["StateValue"] == state, 240, f"the alarm to be {state}")


def told(images: ImageLab) -> list[dict[str, Any]]:
    """Return what who has subscribed was told of that alarm, the oldest first."""
    lines = (images.cloud.directory / "notifications.jsonl").read_text().splitlines()
    messages = [json.loads(json.loads(line)["message"]) for line in lines]
    return [message for message in messages if message["AlarmName"] == ALARM]


def metrics(images: ImageLab) -> set[str]:
    listed = images.client("cloudwatch").list_metrics(Namespace=NAMESPACE)["Metrics"]
    assert all(metric["Dimensions"] == [] for metric in listed if metric["MetricName"] in {"Ready", "DiskFree"})
    return {metric["MetricName"] for metric in listed}


def test_an_account_s_own_alarms_see_what_the_image_sends(images: ImageLab, production: str) -> None:
    assert {"Ready", "DiskFree"} <= metrics(images)
    # By the minute, as in production.
    name = f"zmanim-{ENVIRONMENT}-not-ready"
    cloudwatch = images.client("cloudwatch")
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert alarm["Period"] == 60
    wait_for(lambda: cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"] == "OK", 240, name)


@pytest.mark.incident("PostgreSQL was down in production, and only a client's complaint told of it")
def test_postgresql_that_stops_is_told_and_so_is_that_it_is_back(images: ImageLab, production: str) -> None:
    images.run(production, "systemctl stop postgresql.service")
    expect(images, "ALARM")
    assert described(images)["StateReason"].startswith("Threshold Crossed: no datapoints were received for 3 periods")
    assert "postgresql" in json.loads(images.run(production, "cat /run/zmanim/serving.json"))["failed"]
    images.run(production, "systemctl start zmanim-api.service")
    expect(images, "OK")

    def changes() -> list[tuple[str, str]]:
        return [(message["OldStateValue"], message["NewStateValue"]) for message in told(images)]

    # The topic is told after the alarm has changed.
    wait_for(lambda: changes()[-2:] == [("OK", "ALARM"), ("ALARM", "OK")], 30, "both changes to be told")


@pytest.mark.fault(
    40,
    injected="SES that refuses mail",
    must="a metric tells of it, and each mail is sent once it may be",
)
def test_mail_that_ses_refuses_is_told_without_mail_and_sent_once_it_may_be(images: ImageLab, production: str) -> None:
    ses = images.client("ses")
    identities = ses.list_identities()["Identities"]
    for identity in identities:
        ses.delete_identity(Identity=identity)
    before = len(mails(images))
    images.run(production, "systemctl start backup-notify@a-test.service")
    # Refused is not away: no try a quarter of an hour later, and a metric in the place of a mail.
    output = images.run(production, "journalctl --no-pager --output=cat --unit=backup-notify@a-test.service")
    assert "SES refuses mail, and nobody hears of failures: (MessageRejected) Email address is not verified" in output
    images.run(production, "systemctl start backup-notify-retry.service; systemctl start zmanim-metrics.service")
    assert "MailRefused" in metrics(images)
    assert len(mails(images)) == before
    for identity in identities:
        ses.verify_email_identity(EmailAddress=identity)
    control.confirm_all(images.cloud)
    images.run(production, "systemctl start backup-notify@another-test.service")
    subjects = [mail["subject"] for mail in mails(images)[before:]]
    assert subjects == [f"zmanim {ENVIRONMENT}: {name}-test failed" for name in ("a", "another")]
    assert images.run(production, "ls /var/lib/zmanim-notices").split().count("refused.json") == 0


def test_a_machine_that_is_gone_is_told_and_one_without_its_volume_is_no_good_news(
    images: ImageLab, production: str
) -> None:
    images.ec2.terminate_instances(InstanceIds=[production])
    expect(images, "ALARM")
    # The one that is launched in its place is refused its volume: it knows where it is, and says nothing of itself.
    refused = images.start(ENVIRONMENT, consent=False)
    assert not images.wait_report(refused)["ok"]
    images.run(refused, "systemctl start zmanim-metrics.service")
    assert json.loads(images.run(refused, "cat /run/zmanim/serving.json"))["serves"] is False
    items = images.client("cloudwatch").describe_alarm_history(AlarmName=ALARM, HistoryItemType="StateUpdate")
    assert items["AlarmHistoryItems"][0]["HistorySummary"] == "Alarm updated from OK to ALARM"
