"""instance.swap, cut short anywhere or run twice at once: the same command finishes it or takes it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.image_life import CutOff, cut_at
from tests.support.stages.instances import NEW, World, assert_as_before, assert_swapped, world
from zmanim_ami.pipeline.instances import journal
from zmanim_ami.pipeline.plan import Plan


@pytest.fixture
def stage() -> Iterator[World]:
    with world() as made:
        yield made


def test_cut_after_every_change_it_is_finished_or_taken_back_by_running_it_again() -> None:
    # Before a change all is as it is after the one before, to whoever runs it again.
    ends: set[str] = set()
    for number in range(100):
        with world() as stage:
            try:
                with cut_at(number, [stage.clients], after=True):
                    stage.swap()
            except CutOff:
                _run_again(stage, ends)
            else:
                assert_swapped_somehow(stage)
                break
    else:
        raise AssertionError("it never came to its end")
    assert ends == {"begun anew", "taken back", "finished"}


def _run_again(stage: World, ends: set[str]) -> None:
    begun = stage.unfinished()
    if not begun:
        # Nothing was noted yet, or the last note is gone.
        if stage.state(stage.old) == "running":
            assert_swapped(stage, stage.swap())
            ends.add("begun anew")
        else:
            assert_swapped_somehow(stage)
        return
    plan = stage.swap(dry=True)
    assert isinstance(plan, Plan)
    if plan.steps[0].action == "take back":
        with raises("swap-taken-back"):
            stage.swap()
        assert stage.serves() == [stage.old]
        assert cloud.alive(stage.clients) == [stage.old]
        assert (stage.leads_to(), stage.unfinished()) == (stage.old, [])
        ends.add("taken back")
    else:
        assert_swapped(stage, stage.swap())
        ends.add("finished")


def assert_swapped_somehow(stage: World) -> None:
    """See that the swap is done, whoever did it."""
    (serving,) = stage.serves()
    assert (stage.version(serving), stage.leads_to(), stage.unfinished()) == (NEW, serving, [])


def test_a_swap_that_was_cut_short_while_it_went_back_goes_on_going_back() -> None:
    for number in _changes_of_going_back():
        with world() as stage:
            stage.broken, stage.changes = {NEW}, True
            with pytest.raises(CutOff), cut_at(number, [stage.clients], after=True):
                stage.swap()
            if stage.unfinished():
                with raises("swap-taken-back"):
                    stage.swap()
            assert stage.serves() == [stage.old]
            assert (cloud.alive(stage.clients), stage.unfinished()) == ([stage.old], [])


def _changes_of_going_back() -> range:
    """Return the numbers of the changes that are made after the new instance got the volume."""
    with world() as stage:
        stage.broken, stage.changes = {NEW}, True
        with raises("swap-taken-back"), cut_at(1000, [stage.clients], after=True) as made:
            stage.swap()
        return range(made.index("AttachVolume") + 1, len(made))


def test_two_commands_at_once_do_not_undo_each_other(stage: World) -> None:
    def elsewhere(_request: object) -> None:
        (begun,) = journal.find(stage.clients, "prod")
        begun.note(back="same")

    cloud.answer(stage.clients.ec2, "CreateSnapshot", elsewhere)
    with raises("swap-not-taken-back", match="another command goes on"):
        stage.swap()
    cloud.answer(stage.clients.ec2, "CreateSnapshot", lambda request: None)
    with raises("swap-taken-back"):
        stage.swap()
    assert_as_before(stage)


def test_a_swap_that_began_during_the_backup_is_told_and_nothing_else_is_begun(stage: World) -> None:
    run = stage.run

    def slow(instance_id: str, script: str) -> tuple[str, str]:
        if "restic-backup.service" in script:
            journal.Journal(stage.clients, stage.volume, journal.Entry("prod", "v1.2.9", stage.old, "ab")).note()
        return run(instance_id, script)

    stage.run = slow  # type: ignore[method-assign]  # of this one only
    with raises("swap-begun", match="v1.2.9"):
        stage.swap()
    assert cloud.alive(stage.clients) == [stage.old]
