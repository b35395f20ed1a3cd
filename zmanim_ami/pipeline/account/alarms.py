"""How an account hears of backups: the address that mails about failures come from, and an alarm on silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from zmanim_ami.pipeline.aws import Clients

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import PutMetricAlarmInputTypeDef

Row = tuple[str, str, str, Callable[[Clients], object]]

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


def plan(clients: Clients, environment: str, account: str, *, watched: bool) -> Iterator[Row]:
    """Yield what is missing: the sender's address in SES, and an alarm when no backup has been complete for 26 hours.

    There is no such alarm where nobody expects nightly backups (`watched` is false). Raises botocore's errors.
    """
    known = set(clients.ses.list_identities()["Identities"])
    domain = MAIL_FROM.partition("@")[2]
    enough = {MAIL_FROM} | {domain.split(".", cut)[-1] for cut in range(domain.count("."))}
    if not known & enough:
        ask = "SES does not know it, and would send nothing; confirm the mail that comes there"
        yield "verify", f"address {MAIL_FROM}", ask, _verify_address
    if not watched:
        return
    wanted = definition(environment, account, clients.region)
    found = clients.cloudwatch.describe_alarms(AlarmNames=[name(environment)])["MetricAlarms"]
    if not found:
        why = "a backup that never ran would tell nobody"
        yield "create", f"alarm {name(environment)}", why, partial(_put_alarm, wanted=wanted)
    elif any(found[0].get(key) != wanted.get(key) for key in _COMPARED):
        yield "update", f"alarm {name(environment)}", "it is another one", partial(_put_alarm, wanted=wanted)


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


def _verify_address(clients: Clients) -> None:
    clients.ses.verify_email_identity(EmailAddress=MAIL_FROM)


def _put_alarm(clients: Clients, wanted: PutMetricAlarmInputTypeDef) -> None:
    clients.cloudwatch.put_metric_alarm(**wanted)
