"""What CloudWatch does to the beginning of a period that is asked for.

It is rounded down, by how long ago it is, because older datapoints are kept by longer periods only: "StartTime" of
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricStatistics.html. Without that a metric of
this minute, which is kept by its minute, would lie before "a few seconds ago".
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend
from moto.core.utils import utcnow

from localcloud.api.patches import patch

# Up to which age of the beginning it is rounded down to how many seconds; an hour beyond.
_KEPT = ((timedelta(days=15), 60), (timedelta(days=63), 300))
_OLDER = 3600
# Periods of high resolution, to which it is rounded down instead.
_SHORT = {1, 5, 10, 20, 30}


def rounded(start: datetime, period: int, now: datetime) -> datetime:
    """Return where a reading begins that asks for `start` (UTC, without a time zone) in periods of so many seconds."""
    seconds = next((kept for age, kept in _KEPT if now - start < age), _OLDER)
    if seconds == 60 and period in _SHORT:
        seconds = period
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    whole = (start - midnight) // timedelta(seconds=seconds)
    return midnight + whole * timedelta(seconds=seconds)


def _beginning(start: datetime, end: datetime, period: int) -> datetime:
    """Return the beginning as it is read; what is no period, in whole seconds, stays one that moto refuses."""
    whole = start.replace(microsecond=0) < end.replace(microsecond=0)
    return rounded(start, period, utcnow()) if whole else start


@patch(CloudWatchBackend.get_metric_statistics, wraps=True)
def get_metric_statistics(original: Any, backend: Any, *arguments: Any, **given: Any) -> Any:
    """GetMetricStatistics, from the beginning that CloudWatch makes of the one that is asked for."""
    namespace, metric, start, end, period, *rest = arguments
    return original(backend, namespace, metric, _beginning(start, end, period), end, period, *rest, **given)


@patch(CloudWatchBackend.get_metric_data, wraps=True)
def get_metric_data(
    original: Any, backend: Any, queries: list[dict[str, Any]], start_time: datetime, end_time: datetime, **given: Any
) -> Any:
    """GetMetricData, from the beginning that CloudWatch makes of the one that is asked for."""
    periods = [int(query["MetricStat"]["Period"]) for query in queries if "MetricStat" in query]
    start = _beginning(start_time, end_time, min(periods, default=60))
    return original(backend, queries, start, end_time, **given)
