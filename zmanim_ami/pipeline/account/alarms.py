"""What an environment is watched by: alarms on the absence of good news, and a dashboard of what they look at.

The image sends the metrics (zmanim_host/monitoring/vitals.py and its backups), without dimensions: an alarm is about
the environment, whichever instance serves it. docs/on-aws.md says what each means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import mail, topic
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef, PutMetricAlarmInputTypeDef


@dataclass(frozen=True)
class Watch:
    """One alarm: `periods` in a row of `period` seconds each, in which the statistic is wrong.

    `good` alarms go off below the threshold, and count a period without any datapoint as one; of the others, which
    count bad news, such a period is as it should be.
    """

    name: str
    metric: str
    statistic: Literal["Sum", "Minimum"]
    period: int
    periods: int
    threshold: float
    meaning: str
    good: bool = True


WATCHES = (
    Watch("not-ready", "Ready", "Sum", 60, 5, 1.0, "no machine has served for five minutes"),
    Watch("disk-full", "DiskFree", "Minimum", 300, 3, 15.0, "a disk is 85 % full, or no machine says how full it is"),
    # A night and its random delay, with an hour and a half to spare.
    Watch("no-backup", "BackupCompleted", "Sum", 3600, 26, 1.0, "no backup has been complete for 26 hours"),
    Watch("proof-put-off", "ProofPutOff", "Sum", 86400, 1, 1.0, "the newest backup was not proven", good=False),
    Watch("mail-refused", "MailRefused", "Sum", 300, 1, 1.0, "SES refuses the mail about failures", good=False),
)
_COMPARED = (
    *("Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods", "DatapointsToAlarm", "Threshold"),
    *("ComparisonOperator", "TreatMissingData", "AlarmActions", "OKActions", "ActionsEnabled"),
)
# What else the image and CloudWatch's agent send, for the dashboard.
_GRAPHS = (
    ("Ready", ("Ready",), "Sum"),
    ("Free disk (percent)", ("DiskFree",), "Minimum"),
    ("Used memory (percent)", ("mem_used_percent",), "Maximum"),
    ("Backups", ("BackupCompleted", "ProofPutOff"), "Sum"),
    ("Backup and drill (seconds)", ("BackupSeconds", "RestoreDrillSeconds"), "Maximum"),
    ("Age of restored data (seconds)", ("RestoreDrillDataAge",), "Maximum"),
)
_WIDTH, _HEIGHT, _COLUMNS = 8, 6, 3


def name(settings: Settings, environment: str, watch: Watch) -> str:
    """Return an alarm's name."""
    return settings.alarm_prefix.replace("{environment}", environment) + watch.name


def topic_arn(settings: Settings, environment: str, account: str, region: str) -> str:
    """Return the SNS topic that the alarms tell."""
    return f"arn:aws:sns:{region}:{account}:{settings.alarms_topic.replace('{environment}', environment)}"


def plan(
    clients: aws.Clients, settings: Settings, environment: str, account: str, *, watched: bool
) -> Iterator[Change]:
    """Yield what is missing for somebody to hear of failures: SES that sends mail, and alarms with topic and dashboard.

    There are no alarms where nobody expects a machine to serve (`watched` is false). Raises botocore's errors.
    """
    yield from mail.plan(clients, settings.mail_from, settings.mail_to)
    if not watched:
        return
    yield from topic.plan(clients, topic_arn(settings, environment, account, clients.region), settings.mail_to)
    names = [name(settings, environment, watch) for watch in WATCHES]
    existing = {
        each.get("AlarmName"): each for each in clients.cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
    }
    for watch in WATCHES:
        wanted = definition(watch, settings, environment, account, clients.region)
        found = existing.get(wanted["AlarmName"])
        if found is not None:
            wanted = _merged(watch, wanted, found)
        put = partial(clients.cloudwatch.put_metric_alarm, **wanted)
        if found is None:
            yield Change("create", f"alarm {wanted['AlarmName']}", f"nobody would hear that {watch.meaning}", put)
        elif any(found.get(key) != wanted.get(key) for key in _COMPARED):
            yield Change("update", f"alarm {wanted['AlarmName']}", "it differs from what it should be", put)
    yield from _plan_dashboard(clients, settings, environment, account)


def definition(
    watch: Watch, settings: Settings, environment: str, account: str, region: str
) -> PutMetricAlarmInputTypeDef:
    """Return an alarm of an environment; its topic hears of the end as well."""
    told = [topic_arn(settings, environment, account, region)]
    return {
        "AlarmName": name(settings, environment, watch),
        "AlarmDescription": f"{environment}: {watch.meaning}. What to do: docs/on-aws.md, Alarms",
        "Namespace": f"zmanim/{environment}",
        "MetricName": watch.metric,
        "Statistic": watch.statistic,
        "Period": watch.period,
        "EvaluationPeriods": watch.periods,
        "DatapointsToAlarm": watch.periods,
        "Threshold": watch.threshold,
        "ComparisonOperator": "LessThanThreshold" if watch.good else "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "breaching" if watch.good else "notBreaching",
        "ActionsEnabled": True,
        "AlarmActions": told,
        "OKActions": told,
    }


def _merged(
    watch: Watch, wanted: PutMetricAlarmInputTypeDef, existing: MetricAlarmTypeDef
) -> PutMetricAlarmInputTypeDef:
    """Return the alarm with what its owner made stricter: fewer periods, a nearer threshold, and who else is told."""
    merged = wanted.copy()
    if existing.get("Period") == watch.period and existing.get("EvaluationPeriods", watch.periods) < watch.periods:
        merged["EvaluationPeriods"] = existing["EvaluationPeriods"]
        merged["DatapointsToAlarm"] = existing.get("DatapointsToAlarm", existing["EvaluationPeriods"])
    threshold = existing.get("Threshold", watch.threshold)
    merged["Threshold"] = max(threshold, watch.threshold) if watch.good else min(threshold, watch.threshold)
    merged["AlarmActions"] = _both(existing.get("AlarmActions", []), wanted.get("AlarmActions", []))
    merged["OKActions"] = _both(existing.get("OKActions", []), wanted.get("OKActions", []))
    merged["InsufficientDataActions"] = list(existing.get("InsufficientDataActions", []))
    return merged


def _both(told: Sequence[str], wanted: Sequence[str]) -> list[str]:
    return [*told, *(action for action in wanted if action not in told)]


# ---- The dashboard ----


def _plan_dashboard(clients: aws.Clients, settings: Settings, environment: str, account: str) -> Iterator[Change]:
    board, ours = f"zmanim-{environment}", widgets(settings, environment, account, clients.region)
    answer = aws.unless_refused(
        lambda: clients.cloudwatch.get_dashboard(DashboardName=board), "ResourceNotFound", "DashboardNotFoundError"
    )
    body: dict[str, Any] = json.loads(answer["DashboardBody"]) if answer else {}
    theirs = body.get("widgets", [])
    titles = {_title(widget) for widget in ours}
    # A widget of our title is ours; what else is there is its owner's, and stays.
    if all(widget in theirs for widget in ours):
        return
    content = {**body, "widgets": [*ours, *(widget for widget in theirs if _title(widget) not in titles)]}
    put = partial(clients.cloudwatch.put_dashboard, DashboardName=board, DashboardBody=json.dumps(content))
    yield Change(
        "update" if answer else "create",
        f"dashboard {board}",
        "it lacks some of what the alarms look at" if answer else "what the alarms look at could be seen nowhere",
        put,
    )


def widgets(settings: Settings, environment: str, account: str, region: str) -> list[dict[str, Any]]:
    """Return the dashboard's widgets (CloudWatch API reference, "Dashboard body structure and syntax")."""
    alarms = [f"arn:aws:cloudwatch:{region}:{account}:alarm:{name(settings, environment, watch)}" for watch in WATCHES]
    made: list[dict[str, Any]] = [
        {"type": "alarm", "properties": {"title": "Alarms", "alarms": alarms}},
    ]
    for title, metrics, statistic in _GRAPHS:
        properties = {
            "title": title,
            "region": region,
            "view": "timeSeries",
            "stat": statistic,
            "period": 300,
            "metrics": [[f"zmanim/{environment}", metric] for metric in metrics],
        }
        made.append({"type": "metric", "properties": properties})
    for number, widget in enumerate(made):
        row, column = divmod(number, _COLUMNS)
        widget.update(x=column * _WIDTH, y=row * _HEIGHT, width=_WIDTH, height=_HEIGHT)
    return made


def _title(widget: dict[str, Any]) -> str:
    return str(widget.get("properties", {}).get("title", ""))
