"""Which release may run, for every pointer that was signed by the right key."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_host.host import HostError
from zmanim_host.release.pointer import Pointer, order
from zmanim_host.release.rules import (
    MOST_DENIED,
    Probation,
    Release,
    State,
    begin,
    check_serial,
    choose,
    crashes,
    deny,
    fall_back,
    seen,
)

NOW = 1000.0
EMPTY = State()
BAKED = Release("v1.0.0")
GOOD = Pointer("prod", 7, NOW + 1, "v1.1.0", "ab" * 32, 10, "aarch64", "v0.0.0", False, "d7")
VERSIONS = st.sampled_from(["v0.9.0", "v1.0.0-rc.1", "v1.0.0", "v1.0.1", "v1.1.0", "v2.0.0"])
SHAS = st.sampled_from(["aa" * 32, "bb" * 32, "cc" * 32])
POINTERS = st.builds(
    Pointer, st.just("prod"), st.integers(1, 9), st.floats(0, 2000), VERSIONS, SHAS, st.just(10),
    st.sampled_from(["aarch64", "x86_64"]), VERSIONS, st.booleans(), st.sampled_from(["d1", "d2"]),
)  # fmt: skip
RUNNING = st.just(BAKED) | st.builds(Release, VERSIONS, SHAS)
STATES = st.builds(State, serial=st.integers(0, 9), digest=st.just("d1"), denied=st.lists(SHAS, max_size=2).map(tuple))


def chosen(pointer: Pointer, state: State = EMPTY, running: Release = BAKED) -> Release:
    return choose(pointer, state, running=running, baked=BAKED, now=NOW)


def refusal(pointer: Pointer, state: State = EMPTY, running: Release = BAKED) -> str:
    with pytest.raises(HostError) as raised:
        chosen(pointer, state, running)
    return str(raised.value)


def test_a_newer_release_is_adopted() -> None:
    assert chosen(GOOD) == Release("v1.1.0", "ab" * 32)


def test_the_image_s_own_release_wins_over_an_older_one_but_not_over_a_rollback() -> None:
    older = replace(GOOD, version="v0.9.0")
    assert chosen(older) == BAKED
    assert chosen(replace(older, rollback=True)) == Release("v0.9.0", "ab" * 32)
    assert chosen(replace(GOOD, version="v1.0.0")) == BAKED


def test_what_is_older_than_what_runs_needs_to_be_called_a_rollback() -> None:
    running = Release("v1.2.0", "cc" * 32)
    assert "older than v1.2.0, and the channel does not say rollback" in refusal(GOOD, running=running)
    assert chosen(replace(GOOD, rollback=True), running=running) == Release("v1.1.0", "ab" * 32)


def test_after_a_rollback_a_newer_release_is_adopted_again() -> None:
    assert chosen(GOOD, running=Release("v0.9.0", "cc" * 32)).version == "v1.1.0"


def test_expiry_ends_adopting_and_never_running() -> None:
    expired = replace(GOOD, expires=NOW)
    assert "expired at 1970-01-01 00:16 UTC" in refusal(expired)
    running = Release(GOOD.version, GOOD.sha256)
    assert chosen(expired, running=running) == running


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architecture": "x86_64"}, "is for 'x86_64', and this is aarch64"),
        ({"oldest_allowed": "v1.1.1"}, "older than v1.1.1, the oldest that is allowed"),
    ],
)
def test_what_may_not_run_here_is_refused_by_its_reason(change: dict[str, str], reason: str) -> None:
    assert reason in refusal(replace(GOOD, **change))  # type: ignore[arg-type]  # each is text


def test_what_failed_here_is_not_tried_again() -> None:
    assert "failed on this machine before" in refusal(GOOD, State(denied=(GOOD.sha256,)))


def test_a_replayed_serial_is_refused_and_so_is_another_pointer_of_the_same_serial() -> None:
    state = seen(State(), GOOD)
    check_serial(GOOD, state, 0)
    with pytest.raises(HostError, match="serial 6 is a replayed one: 7 was seen before"):
        check_serial(replace(GOOD, serial=6), state, 0)
    with pytest.raises(HostError, match="serial 7 was seen before with other content"):
        check_serial(replace(GOOD, digest="another"), state, 0)


@given(POINTERS, STATES, RUNNING)
def test_no_pointer_makes_a_machine_run_what_it_may_not(pointer: Pointer, state: State, running: Release) -> None:
    try:
        release = chosen(pointer, state, running)
    except HostError:
        return
    assert release in (BAKED, running, Release(pointer.version, pointer.sha256))
    if release == running:
        return
    assert release.sha256 not in state.denied
    assert pointer.expires > NOW
    assert pointer.architecture == "aarch64"
    assert order(pointer.version) >= order(pointer.oldest_allowed)
    assert pointer.rollback or order(release.version) >= max(order(running.version), order(BAKED.version))


@given(st.lists(POINTERS, max_size=12))
def test_the_serial_that_is_remembered_never_falls(pointers: list[Pointer]) -> None:
    state, serials = State(), [0]
    for pointer in pointers:
        try:
            check_serial(pointer, state, 0)
        except HostError:
            continue
        state = seen(state, pointer)
        serials.append(state.serial)
    assert serials == sorted(serials)


def test_a_release_is_on_probation_unless_it_has_proven_itself() -> None:
    release = Release("v1.1.0", "ab" * 32)
    assert begin(State(), release, proven=False, restarts=2).probation == Probation(release, 2)
    assert begin(State(probation=Probation(BAKED), rolled_back_to="v1"), release, proven=True, restarts=2) == State()


def test_crashes_are_counted_from_the_probation_s_begin_and_anew_when_somebody_starts_the_unit() -> None:
    assert [crashes(Probation(BAKED, 2), restarts) for restarts in (2, 3, 5, 0, 1)] == [0, 1, 3, 0, 1]


@given(STATES, st.none() | RUNNING, VERSIONS)
def test_a_fall_back_is_never_denied_nor_older_than_allowed(state: State, good: Release | None, oldest: str) -> None:
    state = replace(state, oldest_allowed=oldest)
    try:
        release = fall_back(state, last_good=good, baked=BAKED)
    except HostError:
        assert order(BAKED.version) < order(oldest)
        return
    assert release in (good, BAKED)
    assert release.sha256 not in state.denied
    assert order(release.version) >= order(oldest)


def test_denied_releases_are_remembered_up_to_a_number_and_the_newest_longest() -> None:
    state = State()
    for number in range(MOST_DENIED + 3):
        state = deny(state, Release("v1.1.0", f"{number:064x}"), BAKED)
    assert len(state.denied) == MOST_DENIED
    assert state.denied[-1] == f"{MOST_DENIED + 2:064x}"
    assert state.rolled_back_to == "v1.0.0"
