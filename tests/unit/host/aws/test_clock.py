"""A clock that S3 would refuse is told before anything is signed."""

from __future__ import annotations

import http.client
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from zmanim_host.aws import clock
from zmanim_host.host import HostError

NOW = datetime(2026, 12, 1, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(1200, "20 minutes ahead of S3's"), (-1200, "20 minutes behind"), (86400, "1440 minutes ahead of"),
     (-86400, "1440 minutes behind")],
)  # fmt: skip
def test_a_clock_that_s3_would_refuse_is_told_with_by_how_much(ahead: int, words: str) -> None:
    with pytest.raises(HostError, match=words):
        clock.check("s3", ask=lambda host: NOW - timedelta(seconds=ahead), now=lambda: NOW)


@pytest.mark.parametrize("theirs", [NOW, NOW + timedelta(minutes=15), NOW - timedelta(minutes=15), None])
def test_a_clock_within_what_s3_puts_up_with_is_good_and_so_is_one_that_nobody_can_judge(
    theirs: datetime | None,
) -> None:
    clock.check("s3", ask=lambda host: theirs, now=lambda: NOW)


def test_the_time_is_that_of_an_answer_to_a_request_that_nobody_signed() -> None:
    asked: list[Any] = []

    def connect(date: str | None, error: Exception | None = None) -> Any:
        def getresponse() -> Any:
            if error:
                raise error
            return SimpleNamespace(getheader=lambda name: date)

        return lambda host, timeout: SimpleNamespace(
            request=lambda *words: asked.append((host, *words)), getresponse=getresponse, close=lambda: None
        )

    assert clock.server_time("s3.x", connect(format_datetime(NOW, usegmt=True))) == NOW
    assert asked == [("s3.x", "HEAD", "/")]
    for date, error in ((None, None), ("soon", None), (None, OSError()), (None, http.client.BadStatusLine(""))):
        assert clock.server_time("s3.x", connect(date, error)) is None
