"""Metrics for CloudWatch, in the environment's own namespace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zmanim_host.aws.awscli import aws
from zmanim_host.host import HostError, log


@dataclass(frozen=True)
class Metric:
    """One value; `unit` is one of CloudWatch's (Count, Seconds, Bytes)."""

    name: str
    value: float
    unit: str


def put(environment: str, region: str, metrics: Sequence[Metric]) -> None:
    """Send metrics. CloudWatch being away is logged and no error: what is missing there raises its own alarm."""
    data = [{"MetricName": metric.name, "Value": metric.value, "Unit": metric.unit} for metric in metrics]
    # The instance's role allows no other namespace.
    arguments = ["--namespace", f"zmanim/{environment}", "--metric-data", json.dumps(data)]
    try:
        aws("cloudwatch", "put-metric-data", *arguments, region=region, attempts=3)
    except HostError as error:
        log(f"the metrics {', '.join(metric.name for metric in metrics)} could not be sent: {error}")
