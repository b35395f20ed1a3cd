"""What a machine that is well sends, and what one that is not does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import aws_server
from zmanim_host.aws.metrics import Metric
from zmanim_host.host import HostError
from zmanim_host.monitoring import vitals


@pytest.mark.incident("a production host that had lost PostgreSQL said so to nobody who does not look at it")
def test_only_a_machine_that_serves_says_ready() -> None:
    def names(serves: bool | None) -> list[str]:
        return [metric.name for metric in vitals.vitals(serves, 40.0, mail_refused=False)]

    assert names(True) == ["Ready", "DiskFree"]
    # Not 0: whoever is broken says nothing, as whoever is gone, and the alarm is on the silence.
    assert names(False) == ["DiskFree"]
    # Nobody has looked of late: that is no good news.
    assert names(None) == ["DiskFree"]


def test_ready_is_kept_by_the_second_for_alarms_of_ten_seconds() -> None:
    ready, disk = vitals.vitals(True, 39.96, mail_refused=False)
    assert (ready.value, ready.resolution) == (1, 1)
    assert (disk.value, disk.unit, disk.resolution) == (40.0, "Percent", 60)


def test_refused_mail_is_said_where_mail_does_not_go() -> None:
    assert [metric.name for metric in vitals.vitals(False, None, mail_refused=True)] == ["MailRefused"]


def test_the_fuller_disk_counts_and_without_a_volume_there_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {Path("/"): 60.0, Path("/data"): 12.5}
    monkeypatch.setattr(Path, "is_mount", lambda path: path == Path("/data"))
    assert vitals.disk_free(free=free.__getitem__) == 12.5
    assert vitals.disk_free(free={**free, Path("/data"): 90.0}.__getitem__) == 60.0
    monkeypatch.setattr(Path, "is_mount", lambda path: False)
    assert vitals.disk_free(free=free.__getitem__) is None


@pytest.mark.parametrize(
    ("blocks", "all_free", "available", "percent"), [(100, 15, 15, 15.0), (100, 20, 15, 100 * 15 / 95), (0, 0, 0, 0.0)]
)
def test_room_is_counted_as_df_counts_it(
    monkeypatch: pytest.MonkeyPatch, blocks: int, all_free: int, available: int, percent: float
) -> None:
    values: Any = (4096, 4096, blocks, all_free, available, 10, 5, 5, 0, 255)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    assert vitals.free_percent(Path("/")) == pytest.approx(percent)


def test_metrics_are_sent_signed_to_the_environment_s_own_namespace() -> None:
    with aws_server.answering(lambda received: (200, b"<PutMetricDataResponse/>")) as server:
        vitals.send("prod", [Metric("Ready", 1, "Count", resolution=1)], lambda: server.session)
    (request,) = server.requests
    body = request.body.decode()
    for word in (
        "Action=PutMetricData",
        "Namespace=zmanim%2Fprod",
        "MetricData.member.1.MetricName=Ready",
        "MetricData.member.1.Value=1.0",
        "MetricData.member.1.StorageResolution=1",
    ):
        assert word in body
    assert "Dimensions" not in body
    headers = request.headers
    assert "/eu-west-1/monitoring/aws4_request" in headers["authorization"]


def test_what_can_not_be_sent_is_logged_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    def away() -> Any:
        raise HostError("the metadata service does not answer")

    vitals.send("prod", [Metric("Ready", 1, "Count")], away)
    assert "the metrics Ready could not be sent: the metadata service does not answer" in capsys.readouterr().err
    vitals.send("prod", [], away)
    assert capsys.readouterr().err == ""
