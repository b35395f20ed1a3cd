"""What waited for the secrets is started once they are there, and nothing else is."""

from __future__ import annotations

import pytest
from zmanim_host.host import HostFault
from zmanim_host.recovery import recover


class Systemd:
    """What systemctl answers, call by call (0 when nothing is planned), and what it was asked."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked: list[str] = []

    def __call__(self, *arguments: str) -> int:
        self.asked.append(" ".join(arguments))
        return self.codes.pop(0) if self.codes else 0


def test_it_tries_until_the_secrets_are_there_and_then_starts_what_needs_them() -> None:
    systemd, pauses = Systemd(1, 1, 0), list[float]()
    recover(30, systemctl=systemd, sleep=pauses.append)
    assert pauses == [30, 30, 30], "it never tries at once: the unit has only just failed"
    assert systemd.asked == [
        *["start zmanim-secrets.service"] * 3,
        "--no-block start redis.service zmanim-api.service",
        "--no-block restart zmanim-ready.service",
    ]


def test_systemd_that_takes_nothing_is_a_fault_and_not_the_end() -> None:
    with pytest.raises(HostFault, match=r"does not take redis\.service"):
        recover(1, systemctl=Systemd(0, 1), sleep=lambda seconds: None)
