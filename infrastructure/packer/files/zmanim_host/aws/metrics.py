"""Metrics for CloudWatch, in the environment's own namespace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zmanim_host.host import HostError, log, run


@dataclass(frozen=True)
class Metric:
    """One value; `unit` is one of CloudWatch's (Count, Seconds, Bytes)."""

    name: str
    value: float
    unit: str


def namespace(environment: str) -> str:
    """Return the namespace of an environment's metrics; the instance's role allows no other."""
    return f"zmanim/{environment}"


def put(environment: str, region: str, metrics: Sequence[Metric]) -> None:
    """Send metrics. CloudWatch being away is logged and no error: what is missing there raises its own alarm."""
    data = [{"MetricName": metric.name, "Value": metric.value, "Unit": metric.unit} for metric in metrics]
    command = ["aws", "cloudwatch", "put-metric-data", "--region", region, "--namespace", namespace(environment)]
    command += ["--metric-data", json.dumps(data), "--cli-connect-timeout", "5", "--cli-read-timeout", "15"]
    try:
        run(command, timeout=90, environment={"HOME": "/nonexistent", "AWS_MAX_ATTEMPTS": "3"})
    except HostError as error:
        log(f"the metrics {', '.join(metric.name for metric in metrics)} could not be sent: {error}")
