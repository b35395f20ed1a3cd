"""How an account hears of backups: the address that mails about failures come from, and an alarm on silence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.aws import Clients

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef, PutMetricAlarmInputTypeDef

# As infrastructure/packer/files/backup.conf has it, and the instance's policy allows.
MAIL_FROM = "backup@zmanim.shtetl.io"
METRIC = "BackupCompleted"
# A night and its random delay, with an hour and a half to spare.
HOURS = 26
_COMPARED = (
    *("Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods", "DatapointsToAlarm", "Threshold"),
    *("ComparisonOperator", "TreatMissingData", "AlarmActions", "ActionsEnabled"),
)


def name(environment: str) -> str:
    """Return the alarm's name."""
    return f"zmanim-{environment}-no-backup"


def topic(environment: str, account: str, region: str) -> str:
    """Return the SNS topic that the alarm tells: whoever is to hear of it subscribes there."""
    return f"arn:aws:sns:{region}:{account}:zmanim-{environment}-alarms"


def plan(clients: Clients, environment: str, account: str, *, watched: bool) -> Iterator[Change]:
    """Yield what is missing: the sender's address in SES, and an alarm when no backup has been complete for 26 hours.

    There is no such alarm where nobody expects nightly backups (`watched` is false). Raises botocore's errors.
    """
    known = set(clients.ses.list_identities()["Identities"])
    domain = MAIL_FROM.partition("@")[2]
    enough = {MAIL_FROM} | {domain.split(".", cut)[-1] for cut in range(domain.count("."))}
    if not known & enough:
        yield Change(
            "verify",
            f"address {MAIL_FROM}",
            "SES does not know it, and would send nothing; confirm the mail that comes there",
            partial(clients.ses.verify_email_identity, EmailAddress=MAIL_FROM),
        )
    if not watched:
        return
    wanted = definition(environment, account, clients.region)
    existing = clients.cloudwatch.describe_alarms(AlarmNames=[name(environment)])["MetricAlarms"]
    if existing:
        wanted = _merged(wanted, existing[0])
    put = partial(clients.cloudwatch.put_metric_alarm, **wanted)
    if not existing:
        yield Change("create", f"alarm {name(environment)}", "a backup that never ran would tell nobody", put)
    elif any(existing[0].get(key) != wanted.get(key) for key in _COMPARED):
        yield Change("update", f"alarm {name(environment)}", "it differs from what it should be", put)


def _merged(wanted: PutMetricAlarmInputTypeDef, existing: MetricAlarmTypeDef) -> PutMetricAlarmInputTypeDef:
    """Return the alarm with what its owner made stricter: fewer hours, and whoever else is told."""
    merged = wanted.copy()
    if existing.get("Period") == wanted.get("Period") and existing.get("EvaluationPeriods", HOURS) < HOURS:
        merged["EvaluationPeriods"] = existing["EvaluationPeriods"]
        merged["DatapointsToAlarm"] = existing.get("DatapointsToAlarm", existing["EvaluationPeriods"])
    told = existing.get("AlarmActions", [])
    merged["AlarmActions"] = [*told, *(action for action in wanted.get("AlarmActions", []) if action not in told)]
    merged["OKActions"] = list(existing.get("OKActions", []))
    merged["InsufficientDataActions"] = list(existing.get("InsufficientDataActions", []))
    return merged


def definition(environment: str, account: str, region: str) -> PutMetricAlarmInputTypeDef:
    """Return the alarm: 26 hours in a row without a complete run. An hour of which nothing is known counts as one."""
    return {
        "AlarmName": name(environment),
        "AlarmDescription": f"No backup of {environment} has been complete for {HOURS} hours: docs/backups.md",
        "Namespace": f"zmanim/{environment}",
        "MetricName": METRIC,
        "Statistic": "Sum",
        "Period": 3600,
        "EvaluationPeriods": HOURS,
        "DatapointsToAlarm": HOURS,
        "Threshold": 1.0,
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "breaching",
        "ActionsEnabled": True,
        "AlarmActions": [topic(environment, account, region)],
    }
