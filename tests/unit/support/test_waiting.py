from __future__ import annotations

import time

from support.waiting import wait_for


def test_the_first_true_result_ends_the_wait() -> None:
    looks = iter([0, "", None, "there", "never seen"])
    assert wait_for(lambda: next(looks), 20, 0.001) == "there"
    assert next(looks) == "never seen"


def test_time_that_runs_out_gives_the_last_result_and_one_look_is_had_in_any_case() -> None:
    began = time.monotonic()
    assert wait_for(list, 0.05, 0.001) == []
    assert 0.05 <= time.monotonic() - began < 10
    assert wait_for(lambda: "at once", 0) == "at once"
