"""Production breaks, and somebody hears of it: by the metrics that really arrive, and by the alarms that judge them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud import control
from localcloud.settings import ACCOUNT
from tests.support.machines.backups import Backups, mails
from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for
from zmanim_ami.pipeline.account import alarms
from zmanim_ami.pipeline.settings import Settings

ENVIRONMENT = "prod"
NAMESPACE = f"zmanim/{ENVIRONMENT}"
ALARM = "not-ready-within-seconds"
SILENCE = "no-backup-within-minutes"
FULL = "disk-full-within-minutes"
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


def shorten(images: ImageLab, watched: str, name: str) -> alarms.Watch:
    """Put production's own alarm under another name, with two periods of a minute each."""
    (watch,) = (each for each in alarms.WATCHES if each.name == watched)
    wanted: Any = alarms.definition(watch, Settings(), ENVIRONMENT, ACCOUNT, images.cloud.region)
    short = {"AlarmName": name, "Period": 60, "EvaluationPeriods": 2, "DatapointsToAlarm": 2}
    images.client("cloudwatch").put_metric_alarm(**{**wanted, **short})
    return watch


def described(images: ImageLab, name: str = ALARM) -> dict[str, Any]:
    (alarm,) = images.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return dict(alarm)


def expect(images: ImageLab, state: str, name: str = ALARM, *, seconds: float = 240) -> None:
    wait_for(lambda: described(images, name)["StateValue"] == state, seconds, f"the alarm to be {state}")


def told(images: ImageLab, name: str = ALARM) -> list[dict[str, Any]]:
    """Return what who has subscribed was told of that alarm, the oldest first."""
    lines = (images.cloud.directory / "notifications.jsonl").read_text().splitlines()
    messages = [json.loads(json.loads(line)["message"]) for line in lines]
    return [message for message in messages if message["AlarmName"] == name]


def changes(images: ImageLab, name: str = ALARM) -> list[tuple[str, str]]:
    return [(message["OldStateValue"], message["NewStateValue"]) for message in told(images, name)]


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
    # The topic is told after the alarm has changed.
    wait_for(lambda: changes(images)[-2:] == [("OK", "ALARM"), ("ALARM", "OK")], 30, "both changes to be told")


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
    # On a slow host others may fail as well.
    subjects = [mail["subject"] for mail in mails(images)[before:] if "-test failed" in mail["subject"]]
    assert subjects == [f"zmanim {ENVIRONMENT}: {name}-test failed" for name in ("a", "another")]
    assert images.run(production, "ls /var/lib/zmanim-notices").split().count("refused.json") == 0


@pytest.mark.fault(
    20,
    injected="a data volume of production's of which nine tenths of what was free are filled",
    must="the alarm goes off while both stores take writes, and is over when there is room",
)
def test_a_volume_that_fills_is_told_of_before_it_is_full(images: ImageLab, production: str) -> None:
    shorten(images, "disk-full", FULL)
    expect(images, "OK", FULL)
    room = "$(($(df --output=avail --block-size=1 /data | tail -n 1) * 9 / 10))"
    images.run(production, f"fallocate --length={room} /data/ballast")
    expect(images, "ALARM", FULL)
    images.query(production, "CREATE TABLE there_is_room AS SELECT 1")
    assert images.redis(production, "SET there_is room") == "OK"
    images.run(production, "rm /data/ballast")
    expect(images, "OK", FULL)


@pytest.mark.fault(
    40,
    injected="no good backup for two minutes, by production's own alarm of 26 hours with two periods of a minute",
    must="the alarm goes off, its topic is told, and one good backup ends it",
)
def test_silence_of_the_backups_is_told_and_one_good_one_ends_it(images: ImageLab, production: str) -> None:
    watch = shorten(images, "no-backup", SILENCE)
    assert watch.period * watch.periods == 26 * 3600
    backups = Backups(images, production)
    backups.succeed()
    expect(images, "OK", SILENCE)
    # A datapoint is looked at for two periods longer than the alarm's own (localcloud/cloudwatch/evaluation.py).
    expect(images, "ALARM", SILENCE, seconds=480)
    backups.succeed()
    expect(images, "OK", SILENCE)
    wait_for(lambda: changes(images, SILENCE)[-2:] == [("OK", "ALARM"), ("ALARM", "OK")], 30, "both changes to be told")


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
