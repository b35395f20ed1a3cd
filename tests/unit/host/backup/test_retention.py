"""Retention: 7 days, 4 older weeks, 3 older months, of complete runs only, whatever a clock says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backup_parts import AT, RECORD
from zmanim_host.backup.retention import (
    CHECK_PARTS,
    Owner,
    Proven,
    Run,
    check_part,
    is_check_day,
    is_future,
    newest_complete,
    owner,
    plan,
    retained,
    why_due,
)

START = datetime(2026, 1, 1, 3, 2, tzinfo=UTC)
DATABASE = replace(RECORD.databases[0], schema="digest")
OURS, OTHERS = "7000000000000000001", "7000000000000000002"


def night(number: int, *, complete: bool = True, hours: float = 0) -> Run:
    time = START + timedelta(days=number, hours=hours)
    name = f"n{number}-{hours}"
    return Run(name, time, (f"{name}-db", f"{name}-rec"), f"{name}-rec" if complete else None, system=OURS)


def adoption(number: int, system: str) -> Run:
    return Run(f"a{number}", START + timedelta(days=number, hours=1), (f"a{number}",), adoption=True, system=system)


def simulate(nights: Iterable[tuple[list[Run], datetime]]) -> list[set[Run]]:
    """Add each night's runs and apply the retention; return what was there after each."""
    existing: set[Run] = set()
    seen = []
    for new, now in nights:
        existing |= set(new)
        existing -= set(plan(existing, now).forget)
        seen.append(set(existing))
    return seen


@pytest.mark.fault(
    35,
    injected="120 nights, from 16 first days of a year",
    must="exactly 7 days, 4 older weeks and 3 older months are kept",
)
@pytest.mark.incident("--keep-daily 7 --keep-weekly 4 --keep-monthly 3 kept 11 runs of 120 nights, 54 days back")
@pytest.mark.parametrize("first", range(0, 365, 23))
def test_after_120_nights_there_are_7_days_4_older_weeks_and_3_older_months(first: int) -> None:
    remaining = simulate(([night(n)], night(n).time + timedelta(hours=1)) for n in range(first, first + 120))[-1]
    newest = sorted(remaining, key=lambda run: run.time, reverse=True)
    assert len(newest) == 14
    last = first + 119
    assert newest[:7] == [night(n) for n in range(last, last - 7, -1)]
    assert len({run.time.isocalendar()[:2] for run in newest[7:11]}) == 4
    assert len({(run.time.year, run.time.month) for run in newest[11:]}) == 3
    assert (newest[0].time - newest[-1].time).days >= 65


@pytest.mark.fault(
    38,
    injected="400 nights with a clock that jumps ahead five times",
    must="no run is removed that would have been kept without the jumps",
)
def test_400_nights_with_gaps_failures_and_a_jumping_clock_lose_nothing_that_they_would_have_without_the_jumps() -> (
    None
):
    jumps = {60: 400, 150: 1, 151: 40, 270: 4000, 300: 0.5}  # nights on which the clock was that many days ahead
    nights = []
    honest = []
    for n in range(400):
        if n % 37 in {5, 6, 7}:  # the instance was off
            continue
        run = night(n, complete=n % 11 != 3)
        now = run.time + timedelta(hours=1)
        honest.append(([run], now))
        if n in jumps:
            ahead = Run(f"ahead{n}", run.time + timedelta(days=jumps[n]), (f"ahead{n}",), f"ahead{n}")
            nights.append(([run, ahead], now))
        else:
            nights.append(([run], now))
    for with_jumps, without in zip(simulate(nights), simulate(honest), strict=True):
        # A run from the future that has become the past stands for its own day; before that it takes nobody's place.
        seen = {run for run in with_jumps if run.id.startswith("n")}
        missing = without - seen
        assert all(
            any(other.id.startswith("ahead") and other.time.date() >= run.time.date() for other in with_jumps)
            for run in missing
        )
        assert len({run.time.date() for run in with_jumps if run.record}) >= len(
            {run.time.date() for run in without if run.record}
        )


times = st.integers(min_value=0, max_value=400).flatmap(
    lambda n: st.builds(
        lambda complete, hours: night(n, complete=complete, hours=hours), st.booleans(), st.sampled_from([0, 5, 20.5])
    )
)
histories = st.sets(times, max_size=80)


@given(histories, st.integers(min_value=-50, max_value=450))
def test_every_run_has_one_fate_and_a_complete_one_goes_only_for_a_newer_one_of_its_period(
    runs: set[Run], today: int
) -> None:
    now = START + timedelta(days=today)
    thinning = plan(runs, now)
    assert set(thinning.keep) | set(thinning.forget) == runs
    assert not set(thinning.keep) & set(thinning.forget)
    stay = {run for run in thinning.keep if run.record and not is_future(run, now)}
    assert len(stay) <= 14
    for run in thinning.forget:
        assert not is_future(run, now)
        if run.record:
            # Its day has a newer one, or there are 7 newer days and its week has one, or the months are full.
            newer = [other for other in stay if other.time > run.time]
            same_day = [other for other in newer if other.time.date() == run.time.date()]
            assert same_day or len({other.time.date() for other in newer}) >= 7
        else:
            assert now - run.time >= timedelta(days=2)


@given(histories, st.integers(min_value=0, max_value=400), st.integers(min_value=1, max_value=4000))
def test_a_run_from_the_future_changes_nobody_else_s_fate(runs: set[Run], today: int, ahead: int) -> None:
    now = START + timedelta(days=today)
    future = Run("future", now + timedelta(days=ahead), ("s",), "s", system=OURS)
    without, with_it = plan(runs, now), plan({*runs, future}, now)
    assert with_it.keep == {**without.keep, future: "dated in the future"}
    assert with_it.forget == without.forget
    assert future in with_it.future


@given(histories, st.integers(min_value=0, max_value=400))
def test_thinning_out_twice_is_thinning_out_once(runs: set[Run], today: int) -> None:
    now = START + timedelta(days=today)
    once = plan(runs, now)
    assert plan(once.keep, now).forget == {}


def test_the_newest_complete_run_of_a_day_stands_for_it() -> None:
    early, late, broken = night(3), night(3, hours=9), night(3, hours=12, complete=False)
    thinning = plan([early, late, broken], broken.time)
    assert set(thinning.keep) == {late, broken}
    assert set(thinning.forget) == {early}


def test_an_incomplete_run_goes_after_two_days_and_is_never_the_latest() -> None:
    broken = night(5, complete=False)
    assert broken in plan([broken, night(4)], broken.time + timedelta(hours=47)).keep
    assert broken in plan([broken, night(4)], broken.time + timedelta(hours=48)).forget
    assert newest_complete([broken, night(4)], broken.time) == night(4)
    assert newest_complete([broken], broken.time) is None


def test_the_latest_is_not_one_from_the_future() -> None:
    assert newest_complete([night(1), night(9)], START + timedelta(days=2)) == night(1)


def test_a_repository_is_of_the_newest_run_s_cluster_until_somebody_adopts_it() -> None:
    now = START + timedelta(days=10)
    assert owner([], now) is None
    assert owner([night(1), night(2)], now) == Owner(OURS)
    assert owner([night(1), adoption(2, OTHERS)], now) == Owner(OTHERS)
    assert owner([night(3), adoption(2, OTHERS)], now) == Owner(OURS)
    # A run from the future can't be argued with by any date; and alone it still says that somebody was here.
    assert owner([night(99), night(1), adoption(2, OTHERS)], now) == Owner(OTHERS)
    assert owner([night(99)], now) == Owner(OURS)


def test_a_copy_of_the_volume_is_not_the_owner_and_a_machine_that_takes_the_volume_over_is() -> None:
    production = Owner(OURS, "vol-1")
    assert production.lets(Owner(OURS, "vol-1"))
    for other in (Owner(OURS, "vol-2"), Owner(OURS), Owner(OTHERS, "vol-1")):
        assert not production.lets(other)
    # What an image wrote that knew no volumes stays its cluster's.
    assert Owner(OURS).lets(Owner(OURS, "vol-1"))
    assert not Owner(OURS).lets(Owner(OTHERS, "vol-1"))


@pytest.mark.incident("in 120 nights a machine on a copy of the volume pushed all of production's runs out")
def test_a_machine_on_a_copy_of_the_volume_pushes_nothing_out_in_120_nights() -> None:
    production, copy = Owner(OURS, "vol-1"), Owner(OURS, "vol-2")
    existing: set[Run] = {night(0)}  # of before volumes were known
    for number in range(1, 120):
        for who, hours in ((production, 0.0), (copy, 0.2)):
            run = replace(night(number, hours=hours), volume=who.volume)
            last = owner(existing, run.time)
            if last is not None and last.lets(who):
                existing.add(run)
        existing -= set(plan(existing, START + timedelta(days=number, hours=1)).forget)
    assert len(existing) == 14
    assert {run.volume for run in existing} <= {"", "vol-1"}


def test_an_adoption_stays_until_a_complete_run_has_followed_it() -> None:
    adopted = adoption(1, OTHERS)
    assert adopted in plan([night(0), adopted, night(30, complete=False)], START + timedelta(days=31)).keep
    assert adopted in plan([night(0), adopted, night(2)], START + timedelta(days=3)).forget


@given(st.dates(min_value=date(2026, 1, 1), max_value=date(2060, 1, 1)))
def test_four_sundays_in_a_row_read_the_whole_repository(day: date) -> None:
    sundays = [day + timedelta(days=n) for n in range(28) if is_check_day(day + timedelta(days=n))]
    assert {check_part(sunday) for sunday in sundays} == set(range(1, CHECK_PARTS + 1))


def test_fewer_runs_than_there_are_places_are_all_kept() -> None:
    runs = [night(n) for n in range(5)]
    assert set(retained(sorted(runs, key=lambda run: run.time, reverse=True))) == set(runs)


def test_the_latest_is_the_newest_of_many_in_whatever_order_they_are_listed() -> None:
    now = night(5).time
    runs = [night(3), night(4, complete=False), night(1), night(2)]
    assert newest_complete(runs, now) == night(3)
    assert newest_complete(reversed(runs), now) == night(3)


def test_clocks_may_differ_by_a_quarter_of_an_hour_before_a_run_is_from_the_future() -> None:
    run = night(0)
    assert not is_future(run, run.time)
    assert not is_future(run, run.time - timedelta(minutes=15))
    assert is_future(run, run.time - timedelta(minutes=15, seconds=1))


def test_an_adoption_of_the_same_moment_as_a_run_stays() -> None:
    ours = night(0, hours=1)
    assert adoption(0, OURS) in plan([ours, adoption(0, OURS)], ours.time).keep


def test_the_repository_is_checked_on_sundays_and_one_part_is_the_week_s() -> None:
    monday = date(2026, 11, 23)
    week = [monday + timedelta(days=day) for day in range(7)]
    assert [is_check_day(day) for day in week] == [False] * 6 + [True]
    assert len({check_part(day) for day in week}) == 1
    assert check_part(monday) != check_part(monday - timedelta(days=1))


@pytest.mark.incident("a schema that can't be loaded again was dumped every night, and pushed out the last good run")
def test_the_newest_proven_run_outlives_any_number_of_unproven_ones() -> None:
    proven, older = replace(night(2), proven=START), replace(night(1), proven=START)
    fates = plan([older, proven, *(night(n) for n in range(3, 400))], night(400).time)
    assert fates.keep[proven] == "the newest that is proven to restore"
    assert older in fates.forget
    # One that is cut short, or of tomorrow, speaks for nobody.
    later = [replace(night(398, complete=False), proven=START), replace(night(500), proven=START)]
    assert proven in plan([proven, *later, *(night(n) for n in range(3, 400))], night(400).time).keep


@pytest.mark.parametrize(
    ("changes", "days", "expected"),
    [
        ({}, 1, ""),
        ({}, 32, "the last proof is of 2026-11-24"),
        ({"image_version": "v2"}, 1, "the image was v1.2.3 then, and is v2"),
        ({"databases": (replace(DATABASE, schema="other"),)}, 1, "the schema of zmanim has changed"),
        ({"databases": (replace(DATABASE, extensions={}),)}, 1, "the extensions of zmanim have changed"),
        ({"databases": (DATABASE, replace(DATABASE, name="second"))}, 1, "the database second is new"),
        ({"globals": replace(RECORD.globals, sha256="other")}, 1, "the roles have changed"),
        # An image that took no digest of the schema has said nothing about it.
        ({"databases": (replace(DATABASE, schema=""),)}, 1, "the schema of zmanim has changed"),
    ],
)
def test_a_proof_is_due_when_something_is_new_and_in_any_case_monthly(
    changes: dict[str, Any], days: int, expected: str
) -> None:
    proven = replace(RECORD, databases=(DATABASE,))
    newest = replace(proven, run="newest", **changes)
    assert why_due(newest, Proven(proven, AT), AT + timedelta(days=days)) == expected
    assert why_due(proven, Proven(proven, AT), AT + timedelta(days=400)) == ""
    assert why_due(newest, None, AT) == "no run has been proven yet"


def test_each_fate_has_its_reason_in_words() -> None:
    now = night(40).time
    runs = [
        *(night(n) for n in range(20, 41)),
        night(40, hours=-1),
        night(40, complete=False, hours=-2),
        night(30, complete=False, hours=1),
        adoption(10, OURS),
        night(41),
    ]
    fates = plan(runs, now)
    assert {reason: sum(each == reason for each in fates.keep.values()) for reason in fates.keep.values()} == {
        "dated in the future": 1,
        "the newest of its day": 7,
        "the newest of its week": 3,
        "incomplete, not yet 2 days old": 1,
    }
    assert {reason: sum(each == reason for each in fates.forget.values()) for reason in fates.forget.values()} == {
        "a newer run stands for its day, week or month": 12,
        "an adoption that a complete run has followed": 1,
        "incomplete": 1,
    }
    fates = plan([*(night(n) for n in range(60)), adoption(60, OURS)], night(61).time)
    assert list(fates.keep.values()).count("the newest of its month") == 1
    assert fates.keep[adoption(60, OURS)] == "says whose this repository is"
