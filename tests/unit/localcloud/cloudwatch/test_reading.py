"""Where a reading of metrics begins."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from localcloud.cloudwatch import alarms, reading
from localcloud.cloudwatch.reading import rounded

NOW = datetime(2026, 11, 28, 10, 12, 44, 250_000)  # naive UTC, as moto's clock


@pytest.mark.parametrize(
    ("age", "period", "beginning"),
    [
        (timedelta(seconds=1), 60, datetime(2026, 11, 28, 10, 12)),
        (timedelta(seconds=1), 3600, datetime(2026, 11, 28, 10, 12)),
        (timedelta(seconds=1), 10, datetime(2026, 11, 28, 10, 12, 40)),
        (timedelta(seconds=1), 1, datetime(2026, 11, 28, 10, 12, 43)),
        (timedelta(days=20), 60, datetime(2026, 11, 8, 10, 10)),
        (timedelta(days=20), 10, datetime(2026, 11, 8, 10, 10)),
        (timedelta(days=70), 60, datetime(2026, 9, 19, 10)),
    ],
)
def test_a_beginning_is_rounded_down_by_its_age(age: timedelta, period: int, beginning: datetime) -> None:
    assert rounded(NOW - age, period, NOW) == beginning


@pytest.mark.incident("a metric of a moment ago, kept by its minute, was before the beginning that a client asked for")
def test_what_was_put_a_moment_ago_is_read_from_a_moment_ago(changed: Callable[..., None]) -> None:
    changed(alarms, alarms.Alarms(lambda *_: None), reading)
    client = boto3.client("cloudwatch", "eu-west-1")
    client.put_metric_data(Namespace="ours", MetricData=[{"MetricName": "Beats", "Value": 2.0}])
    now = datetime.now(UTC)
    start, end = now - timedelta(seconds=1), now + timedelta(minutes=1)
    points = client.get_metric_statistics(
        Namespace="ours", MetricName="Beats", StartTime=start, EndTime=end, Period=60, Statistics=["Sum"]
    )["Datapoints"]
    assert [point["Sum"] for point in points] == [2.0]
    wanted: Any = {"Metric": {"Namespace": "ours", "MetricName": "Beats"}, "Period": 60, "Stat": "Sum"}
    (result,) = client.get_metric_data(
        MetricDataQueries=[{"Id": "beats", "MetricStat": wanted}], StartTime=start, EndTime=end
    )["MetricDataResults"]
    assert result["Values"] == [2.0]
    at_once = start.replace(microsecond=0), start.replace(microsecond=900_000)
    for first, last in ((end, start), at_once):
        with pytest.raises(ClientError, match="StartTime must be less than"):
            client.get_metric_statistics(
                Namespace="ours", MetricName="Beats", StartTime=first, EndTime=last, Period=60, Statistics=["Sum"]
            )
