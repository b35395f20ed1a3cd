"""CloudWatch's alarms: moto keeps them, and here they are evaluated, change their state and tell SNS topics.

An alarm of less than a minute's period is looked at every 10 seconds, any other every minute, by the periods that have
ended by then (a sliding window that moves with the clock's minute or 10 seconds). Only alarms on one metric with a
plain statistic: any other is refused, for it would stay silent.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.session import get_session
from moto.cloudwatch.models import Alarm, CloudWatchBackend, MetricDatumBase, Statistics, cloudwatch_backends
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult
from moto.core.utils import utcnow

from localcloud.api.patches import ApiError, add, patch
from localcloud.cloudwatch.evaluation import OPERATORS, Datapoint, Evaluation, Rule, evaluate
from localcloud.settings import ACCOUNT

log = logging.getLogger(__name__)

# Publishes to a topic: region, ARN, subject, message.
Publish = Callable[[str, str, str, str], object]

STATISTICS = {"SampleCount", "Average", "Sum", "Minimum", "Maximum"}
TREATMENTS = {"missing", "ignore", "breaching", "notBreaching"}
# What was sent at the end of a period is on its way for a moment.
SETTLE = timedelta(seconds=2)
DAY = 86400


class Alarms:
    """moto's CloudWatch with alarms that go off. `now` gives naive UTC, as moto's own clock does."""

    def __init__(self, publish: Publish, now: Callable[[], datetime] = utcnow) -> None:
        self._publish = publish
        self._now = now
        self._evaluated: dict[Alarm, datetime] = {}

    def watch(self) -> None:
        """Evaluate for ever, in a thread."""

        def work() -> None:
            while True:
                try:
                    self.step()
                except Exception:
                    log.exception("alarms can't be evaluated")
                time.sleep(1)

        threading.Thread(target=work, name="alarms", daemon=True).start()

    def step(self) -> None:
        """Evaluate every alarm whose turn it is."""
        for region, backend in list(cloudwatch_backends[ACCOUNT].items()):
            for alarm in list(backend.alarms.values()):
                end = _floor(self._now() - SETTLE, 10 if alarm.period < 60 else 60)
                if self._evaluated.get(alarm) != end:
                    self._evaluated[alarm] = end
                    self._evaluate(region, backend, alarm, end)

    def _evaluate(self, region: str, backend: CloudWatchBackend, alarm: Alarm, end: datetime) -> None:
        rule = _rule(alarm)
        points = datapoints(backend.metric_data, alarm, end, rule.range)
        result = evaluate(rule, points, alarm.state_value)
        if result.state != alarm.state_value:
            self._change(region, alarm, result)

    def _change(self, region: str, alarm: Alarm, result: Evaluation) -> None:
        before, at = alarm.state_value, self._now()
        alarm.update_state(result.reason, json.dumps(_reason_data(alarm, result, at)), result.state)
        alarm.state_transitioned_timestamp = at  # type: ignore[attr-defined]  # moto has no such attribute yet
        _record(alarm, at, "StateUpdate", f"Alarm updated from {before} to {result.state}")
        actions = {
            "OK": alarm.ok_actions,
            "ALARM": alarm.alarm_actions,
            "INSUFFICIENT_DATA": alarm.insufficient_data_actions,
        }
        subject = f'{result.state}: "{alarm.name}" in {region_name(region)}'[:100]
        for action in actions[result.state] if alarm.actions_enabled else ():
            try:
                self._publish(region, action, subject, json.dumps(_message(alarm, before, at, region)))
                words = f"Successfully executed action {action}"
            except Exception as error:
                # As on AWS, an action that can't be taken is only written down: a topic that is not there is silence.
                log.warning("the alarm %s could not tell %s: %r", alarm.name, action, error)
                words = f"Failed to execute action {action}"
            _record(alarm, at, "Action", words)

    # ---- What the API takes ----

    @patch(CloudWatchBackend.put_metric_alarm, wraps=True)
    def put_metric_alarm(self, original: Any, backend: CloudWatchBackend, **given: Any) -> Alarm:
        """Make an alarm, whose state is not known yet, or change one, whose state stays."""
        if given.get("rule") or given.get("metric_data_queries") or given.get("extended_statistic"):
            raise NotImplementedError("only alarms on one metric with a statistic are evaluated")
        if wrong := refusal(given):
            raise ApiError("ValidationError", wrong)
        existing = backend.alarms.get(given["name"])
        made: Alarm = original(backend, **given)
        if existing is None:
            made.state_value, made.state_reason_data = "INSUFFICIENT_DATA", ""
            _record(made, self._now(), "ConfigurationUpdate", f'Alarm "{made.name}" created')
            return made
        for name in ("state_value", "state_reason", "state_reason_data", "state_updated_timestamp", "history"):
            setattr(made, name, getattr(existing, name))
        self._evaluated.pop(existing, None)
        _record(made, self._now(), "ConfigurationUpdate", f'Alarm "{made.name}" updated')
        return made

    @patch(CloudWatchBackend.put_metric_data, wraps=True)
    def put_metric_data(
        self, original: Any, backend: CloudWatchBackend, namespace: str, metric_data: Sequence[dict[str, Any]]
    ) -> None:
        """Take metrics; without a storage resolution of a second only their minute is kept."""
        now = self._now()
        for number, each in enumerate(metric_data, 1):
            at = each.get("Timestamp") or now
            at = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
            if not now - timedelta(days=14) <= at <= now + timedelta(hours=2):
                raise ApiError(
                    "InvalidParameterValue",
                    f"The parameter MetricData.member.{number}.Timestamp must specify a time within the past two weeks,"
                    " and no more than two hours in the future.",
                )
            each["Timestamp"] = _floor(at, 1 if each.get("StorageResolution") == 1 else 60)
        original(backend, namespace, metric_data)


@add(CloudWatchResponse)
def describe_alarm_history(response: Any) -> ActionResult:
    """DescribeAlarmHistory, the newest first: what was done to alarms, and which states they were in."""
    name, kind = response._get_param("AlarmName"), response._get_param("HistoryItemType")
    items = [
        item
        for alarm in response.cloudwatch_backend.alarms.values()
        for item in _items(alarm)
        if name in {None, alarm.name} and kind in {None, item["HistoryItemType"]}
    ]
    return ActionResult({"AlarmHistoryItems": sorted(items, key=lambda item: item["Timestamp"], reverse=True)})


def refusal(given: Any) -> str:
    """Return what AWS refuses an alarm for, or nothing (PutMetricAlarm in the CloudWatch API reference)."""
    period, periods = int(given.get("period") or 0), int(given["evaluation_periods"])
    longest = DAY if period < 3600 else 7 * DAY
    if period not in {10, 20, 30} and (period <= 0 or period % 60):
        return "Period must be 10, 20, 30 or a multiple of 60"
    if period * periods > longest:
        of = "a day" if longest == DAY else "seven days"
        return f"Metrics cannot be checked across more than {of} (EvaluationPeriods * Period must be <= {longest})"
    if not 1 <= int(given.get("datapoints_to_alarm") or 1) <= periods:
        return "DatapointsToAlarm must be less than or equal to EvaluationPeriods"
    if given["comparison_operator"] not in OPERATORS or given.get("statistic") not in STATISTICS:
        return "ComparisonOperator and Statistic must be of a metric's alarm"
    if given.get("treat_missing_data") not in {None, *TREATMENTS}:
        return f"Option {given['treat_missing_data']} is not supported. Supported options are {sorted(TREATMENTS)}"
    return ""


def datapoints(data: Sequence[MetricDatumBase], alarm: Alarm, end: datetime, number: int) -> list[Datapoint]:
    """Return an alarm's last `number` datapoints before `end`, the newest first."""
    wanted = {(each.name, each.value) for each in alarm.dimensions}
    fitting = [
        datum
        for datum in list(data)
        if (datum.namespace, datum.name) == (alarm.namespace, alarm.metric_name)
        and {(each.name, each.value) for each in datum.dimensions} == wanted
        and alarm.unit in {None, datum.unit}
    ]
    period = timedelta(seconds=alarm.period)
    result = []
    for back in range(1, number + 1):
        begin = end - back * period
        statistics = Statistics([alarm.statistic], begin)
        statistics.metric_data = [datum for datum in fitting if begin <= datum.timestamp < begin + period]
        value = statistics.get_statistics_for_type(alarm.statistic) if statistics.metric_data else None
        result.append(Datapoint(begin, None if value is None else float(value)))
    return result


def region_name(region: str) -> str:
    """Return a region as alarms name it: EU (Ireland)."""
    for partition in get_session().get_data("endpoints")["partitions"]:
        if region in partition["regions"]:
            return str(partition["regions"][region]["description"]).replace("Europe (", "EU (")
    return region


def _rule(alarm: Alarm) -> Rule:
    return Rule(
        alarm.comparison_operator,
        float(alarm.threshold),
        int(alarm.evaluation_periods),
        int(alarm.datapoints_to_alarm) if alarm.datapoints_to_alarm else None,
        alarm.treat_missing_data or "missing",
    )


def _floor(at: datetime, seconds: int) -> datetime:
    whole = at.replace(microsecond=0)
    return whole - timedelta(seconds=(whole.minute * 60 + whole.second) % seconds)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}+0000"


def _reason_data(alarm: Alarm, result: Evaluation, at: datetime) -> dict[str, Any]:
    evaluated = [
        {"timestamp": _time(point.at), **({} if point.value is None else {"value": point.value})}
        for point in result.datapoints
    ]
    return {
        "version": "1.0",
        "queryDate": _time(at),
        "statistic": alarm.statistic,
        "period": alarm.period,
        "recentDatapoints": [point.value for point in reversed(result.datapoints) if point.value is not None],
        "threshold": float(alarm.threshold),
        "evaluatedDatapoints": evaluated,
    }


def _message(alarm: Alarm, before: str, at: datetime, region: str) -> dict[str, Any]:
    """Return what a topic is told (Amazon CloudWatch User Guide, "Acting on alarm changes")."""
    return {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "AWSAccountId": ACCOUNT,
        "AlarmConfigurationUpdatedTimestamp": _time(alarm.configuration_updated_timestamp),
        "NewStateValue": alarm.state_value,
        "NewStateReason": alarm.state_reason,
        "StateChangeTime": _time(at),
        "Region": region_name(region),
        "AlarmArn": alarm.alarm_arn,
        "OldStateValue": before,
        "OKActions": alarm.ok_actions,
        "AlarmActions": alarm.alarm_actions,
        "InsufficientDataActions": alarm.insufficient_data_actions,
        "Trigger": {
            "MetricName": alarm.metric_name,
            "Namespace": alarm.namespace,
            "StatisticType": "Statistic",
            "Statistic": alarm.statistic.upper(),
            "Unit": alarm.unit,
            "Dimensions": [{"value": each.value, "name": each.name} for each in alarm.dimensions],
            "Period": alarm.period,
            "EvaluationPeriods": alarm.evaluation_periods,
            "DatapointsToAlarm": alarm.datapoints_to_alarm,
            "ComparisonOperator": alarm.comparison_operator,
            "Threshold": float(alarm.threshold),
            "TreatMissingData": alarm.treat_missing_data or "missing",
            "EvaluateLowSampleCountPercentile": "",
        },
    }


def _items(alarm: Alarm) -> list[dict[str, Any]]:
    """Return an alarm's history: moto keeps past states only, in a form that no operation shows."""
    return [item for item in alarm.history if isinstance(item, dict)]


def _record(alarm: Alarm, at: datetime, kind: str, summary: str) -> None:
    alarm.history.append(
        {
            "AlarmName": alarm.name,
            "AlarmType": "MetricAlarm",
            "Timestamp": at,
            "HistoryItemType": kind,
            "HistorySummary": summary,
            "HistoryData": alarm.state_reason,
        }
    )
