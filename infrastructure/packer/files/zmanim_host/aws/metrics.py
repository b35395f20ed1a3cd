"""Metrics for CloudWatch, in the environment's own namespace.

None has a dimension: an instance that took another one's place is the same environment to an alarm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlencode

from zmanim_host.aws import client
from zmanim_host.aws.awscli import aws
from zmanim_host.host import HostError, log

SECONDS = 15.0


@dataclass(frozen=True)
class Metric:
    """One value; `unit` is one of CloudWatch's (Count, Seconds, Bytes, Percent).

    `resolution` is 1 for a metric that is kept by the second, which an alarm of 10 or 30 seconds needs; else 60.
    """

    name: str
    value: float
    unit: str
    resolution: int = 60


def namespace(environment: str) -> str:
    """Return where an environment's metrics are: the instance's role allows no other place."""
    return f"zmanim/{environment}"


def put(environment: str, region: str, metrics: Sequence[Metric]) -> None:
    """Send metrics. CloudWatch being away is logged and no error: what is missing there raises its own alarm."""
    data = [{"MetricName": metric.name, "Value": metric.value, "Unit": metric.unit} for metric in metrics]
    arguments = ["--namespace", namespace(environment), "--metric-data", json.dumps(data)]
    try:
        aws("cloudwatch", "put-metric-data", *arguments, region=region, attempts=3)
    except HostError as error:
        log(f"the metrics {', '.join(metric.name for metric in metrics)} could not be sent: {error}")


def send(session: client.Session, environment: str, metrics: Sequence[Metric]) -> None:
    """Send metrics without the AWS CLI, which takes a second of the processor: this is done every minute.

    Raises AwsRefused and HostError.
    """
    fields = {"Action": "PutMetricData", "Version": "2010-08-01", "Namespace": namespace(environment)}
    for number, metric in enumerate(metrics, 1):
        prefix = f"MetricData.member.{number}."
        values = {"MetricName": metric.name, "Value": repr(float(metric.value)), "Unit": metric.unit}
        fields.update((prefix + name, value) for name, value in values.items())
        fields[prefix + "StorageResolution"] = str(metric.resolution)
    request = client.Request(
        method="POST",
        service="monitoring",
        host=f"monitoring.{session.region}.amazonaws.com",
        path="/",
        headers={"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
        body=urlencode(fields).encode("ascii"),
    )
    client.ask(session, request, "CloudWatch refuses metrics", BytesIO(), limit=client.ANSWER_BYTES, seconds=SECONDS)
