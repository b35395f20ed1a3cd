"""Alarms that go off by the metrics that arrived, and whom they tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from localcloud.cloudwatch import alarms
from localcloud.cloudwatch.alarms import Alarms, region_name

REGION = "eu-west-1"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:people"
START = datetime(2026, 11, 28, 10, 0)  # naive UTC, as moto's clock
HEARTBEAT: dict[str, Any] = {
    "AlarmName": "silent",
    "Namespace": "ours/prod",
    "MetricName": "Heartbeat",
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 3,
    "DatapointsToAlarm": 3,
    "Threshold": 1.0,
    "ComparisonOperator": "LessThanThreshold",
    "TreatMissingData": "breaching",
    "AlarmActions": [TOPIC],
    "OKActions": [TOPIC],
}


class CloudWatch:
    """CloudWatch with a clock of the test's own, and what its topics were told."""

    def __init__(self) -> None:
        self.now = START
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.alarms = Alarms(self.publish, lambda: self.now)
        self.client = boto3.client("cloudwatch", REGION)

    def publish(self, region: str, topic: str, subject: str, message: str) -> None:
        if topic != TOPIC:
            raise LookupError(topic)
        self.told.append((region, subject, json.loads(message)))

    def put(self, **changes: Any) -> None:
        self.client.put_metric_alarm(**{**HEARTBEAT, **changes})

    def beat(self, value: float = 1.0, **more: Any) -> None:
        data: Any = {"MetricName": "Heartbeat", "Value": value, **more}
        self.client.put_metric_data(Namespace="ours/prod", MetricData=[data])

    def minutes(self, number: int, *, beating: bool) -> list[str]:
        """Let minutes go by, each with a heartbeat or none; return the state after each."""
        states = []
        for _ in range(number):
            if beating:
                self.beat()
            for _ in range(6):
                self.now += timedelta(seconds=10)
                self.alarms.step()
            states.append(self.state)
        return states

    @property
    def state(self) -> str:
        return str(self.described["StateValue"])

    @property
    def described(self) -> dict[str, Any]:
        (alarm,) = self.client.describe_alarms()["MetricAlarms"]
        return dict(alarm)


@pytest.fixture
def watch(changed: Callable[..., None]) -> CloudWatch:
    made = CloudWatch()
    changed(alarms, made.alarms)
    return made


def test_silence_is_an_alarm_and_the_next_heartbeat_ends_it(watch: CloudWatch) -> None:
    watch.put()
    assert watch.state == "INSUFFICIENT_DATA"
    assert watch.minutes(6, beating=True)[-1] == "OK"
    # Five datapoints are looked at, and a good one among them is enough for as long as that.
    assert watch.minutes(6, beating=False) == ["OK"] * 5 + ["ALARM"]
    assert watch.described["StateReason"] == (
        "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as"
        " [Breaching]."
    )
    assert json.loads(watch.described["StateReasonData"])["recentDatapoints"] == []
    assert watch.minutes(2, beating=True)[-1] == "OK"
    changes = [(message["OldStateValue"], message["NewStateValue"]) for _, _, message in watch.told]
    assert changes[-2:] == [("OK", "ALARM"), ("ALARM", "OK")]
    region, subject, message = watch.told[-2]
    assert (region, subject) == (REGION, 'ALARM: "silent" in EU (Ireland)')
    assert message["NewStateReason"].startswith("Threshold Crossed: no datapoints were received for 3 periods")
    assert message["Trigger"]["MetricName"] == "Heartbeat"


def test_a_topic_is_told_of_changes_and_not_again_while_nothing_changes(watch: CloudWatch) -> None:
    watch.put()
    watch.minutes(30, beating=False)
    assert [subject for _, subject, _ in watch.told] == ['ALARM: "silent" in EU (Ireland)']


def test_metrics_of_another_namespace_or_with_dimensions_are_other_metrics(watch: CloudWatch) -> None:
    watch.put()
    for _ in range(6):
        watch.beat(Dimensions=[{"Name": "InstanceId", "Value": "i-1"}])
        other: Any = {"MetricName": "Heartbeat", "Value": 1.0}
        watch.client.put_metric_data(Namespace="ours/verify", MetricData=[other])
        watch.minutes(1, beating=False)
    assert watch.state == "ALARM"


def test_ten_seconds_are_seen_where_a_metric_is_stored_by_the_second_only(watch: CloudWatch) -> None:
    watch.put(Period=10)
    states: dict[int, set[str]] = {1: set(), 60: set()}
    for resolution, seen in states.items():
        for step in range(18):
            watch.beat(StorageResolution=resolution)
            watch.now += timedelta(seconds=10)
            watch.alarms.step()
            if step > 5:
                seen.add(watch.state)
    # One datapoint a minute is none of the last five for one step in six: such an alarm flaps.
    assert states == {1: {"OK"}, 60: {"OK", "ALARM"}}


@pytest.mark.parametrize(
    ("statistic", "state"), [("Sum", "OK"), ("Average", "ALARM"), ("Minimum", "ALARM"), ("Maximum", "OK")]
)
def test_the_statistic_is_of_all_values_of_a_period(watch: CloudWatch, statistic: str, state: str) -> None:
    watch.put(Statistic=statistic, EvaluationPeriods=1, DatapointsToAlarm=1)
    for value in (0.0, 0.0, 1.5):
        watch.beat(value)
    watch.minutes(2, beating=False)
    assert watch.state == state


def test_a_changed_alarm_keeps_its_state_until_it_is_looked_at(watch: CloudWatch) -> None:
    watch.put()
    watch.minutes(2, beating=False)
    watch.put(TreatMissingData="notBreaching")
    assert watch.state == "ALARM"
    watch.minutes(1, beating=False)
    assert watch.state == "OK"


def test_an_action_that_fails_is_written_down_and_in_no_other_alarm_s_way(watch: CloudWatch) -> None:
    watch.put(AlarmActions=["arn:aws:sns:eu-west-1:123456789012:gone", TOPIC])
    watch.minutes(2, beating=False)
    assert len(watch.told) == 1
    items = watch.client.describe_alarm_history(AlarmName="silent", HistoryItemType="Action")["AlarmHistoryItems"]
    assert sorted(item["HistorySummary"].split()[0] for item in items) == ["Failed", "Successfully"]


def test_switched_off_actions_tell_nobody(watch: CloudWatch) -> None:
    watch.put(ActionsEnabled=False)
    watch.minutes(2, beating=False)
    assert (watch.state, watch.told) == ("ALARM", [])


def test_a_state_that_was_set_by_hand_lasts_until_the_next_look(watch: CloudWatch) -> None:
    watch.put()
    watch.minutes(3, beating=True)
    watch.client.set_alarm_state(AlarmName="silent", StateValue="ALARM", StateReason="try")
    assert watch.state == "ALARM"
    assert watch.minutes(1, beating=True) == ["OK"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Period": 45}, "multiple of 60"),
        ({"EvaluationPeriods": 1441, "DatapointsToAlarm": 1}, "more than a day"),
        ({"Period": 86400, "EvaluationPeriods": 8, "DatapointsToAlarm": 1}, "seven days"),
        ({"DatapointsToAlarm": 4}, "less than or equal to EvaluationPeriods"),
        ({"TreatMissingData": "bad"}, "bad"),
    ],
)
def test_an_alarm_that_aws_refuses_is_refused(watch: CloudWatch, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words) as refused:
        watch.put(**change)
    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_a_metric_with_an_impossible_time_is_refused(watch: CloudWatch) -> None:
    for away in (timedelta(days=-15), timedelta(hours=3)):
        with pytest.raises(ClientError, match="must specify a time"):
            watch.beat(Timestamp=(START + away).replace(tzinfo=UTC))


def test_regions_have_the_names_that_notifications_give_them() -> None:
    assert region_name("eu-west-1") == "EU (Ireland)"
    assert region_name("us-east-1") == "US East (N. Virginia)"
