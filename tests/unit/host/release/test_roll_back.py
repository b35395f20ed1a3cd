"""A release that fails is rolled back once, to what ran well before, and somebody hears of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.programs import arguments, on_path
from tests.support.release_files import NOW, Site, files, packed, proven, site, start
from zmanim_host.host import HostError
from zmanim_host.release import adopt
from zmanim_host.release.adopt import roll_back
from zmanim_host.release.store import Store

NEW = packed(files())


@pytest.fixture
def machine(tmp_path: Path) -> Site:
    return site(tmp_path)


def test_a_release_that_crashes_is_rolled_back_to_the_last_good_one_and_denied(machine: Site) -> None:
    machine.channel(packed(files("v1.1.0")), version="v1.1.0", serial=6)
    start(machine)
    proven(machine)
    machine.channel(NEW)
    assert start(machine, restarts=4).version == "v1.2.3"
    assert start(machine, restarts=6).version == "v1.2.3"
    status = start(machine, restarts=7)
    assert machine.running == status.version == "v1.1.0"
    assert "v1.2.3 failed on this machine before and is not tried again" in status.why
    assert not status.run_migrations
    # For good: also after a reboot, and under a new serial.
    machine.channel(NEW, serial=8)
    assert start(machine).version == "v1.1.0"
    # And a release that mends it is adopted, with its migrations.
    machine.channel(packed(files("v1.2.4")), version="v1.2.4", serial=9)
    status = start(machine)
    assert (status.version, status.run_migrations) == ("v1.2.4", True)


def test_without_a_last_good_release_the_image_s_own_runs(machine: Site) -> None:
    machine.channel(NEW)
    start(machine)
    assert start(machine, restarts=3).version == machine.running == "v1.0.0"


def test_a_release_that_ends_while_the_database_is_away_is_not_to_blame(machine: Site) -> None:
    machine.channel(NEW)
    start(machine)
    assert start(machine, restarts=3, database=False).version == "v1.2.3"
    assert start(machine, restarts=5).version == "v1.2.3"
    assert start(machine, restarts=6).version == "v1.0.0"


def test_starts_by_hand_are_no_crashes(machine: Site) -> None:
    machine.channel(NEW)
    start(machine, restarts=2)
    for _ in range(5):
        assert start(machine, restarts=0).on_probation
    assert start(machine, restarts=3).version == "v1.0.0"


def test_no_release_is_rolled_back_behind_what_the_channel_allows(machine: Site) -> None:
    machine.channel(NEW, oldest_allowed="v1.2.0")
    start(machine)
    assert start(machine, restarts=3).version == "v1.2.3"
    with pytest.raises(HostError, match=r"no release to go back to that is v1\.2\.0 or newer"):
        roll_back(machine.store, machine.store.load(), "why not")
    # A newer one mends it all the same.
    machine.channel(packed(files("v1.2.4")), version="v1.2.4", serial=8, oldest_allowed="v1.2.0")
    assert start(machine, restarts=4).version == "v1.2.4"


def test_the_image_s_own_release_is_never_rolled_back(machine: Site) -> None:
    with pytest.raises(HostError, match="the image's own"):
        roll_back(machine.store, machine.store.load(), "why not")
    assert machine.running == "v1.0.0"


def crashed(machine: Site) -> None:
    machine.channel(NEW)
    start(machine)
    start(machine, restarts=3)
    assert machine.running == "v1.0.0"


def test_a_power_cut_within_a_roll_back_does_not_leave_the_bad_release_for_good(
    machine: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.channel(NEW)
    start(machine)

    def cut_short(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as powered:
        powered.setattr(Store, "point", cut_short)
        with pytest.raises(KeyboardInterrupt):
            start(machine, restarts=3)
    assert machine.running == "v1.2.3"
    assert start(machine).version == machine.running == "v1.0.0"
    (waiting,) = (machine.store.notices / "rolled-back").iterdir()
    assert "when the power went" in waiting.read_text()
    # What an operator allows again, and what has proven itself elsewhere on this volume, is left alone.
    machine.store.save(replace(machine.store.load(), denied=()))
    assert start(machine).version == "v1.2.3"
    proven(machine)
    running = machine.store.linked("current")
    assert running is not None
    machine.store.save(replace(machine.store.load(), denied=(running.sha256,)))
    assert start(machine).version == "v1.2.3"


@pytest.mark.incident("a bad release was rolled back at night, and nobody heard of it")
def test_what_is_rolled_back_is_left_to_be_mailed_once(machine: Site) -> None:
    crashed(machine)
    start(machine, restarts=6)
    (waiting,) = (machine.store.notices / "rolled-back").iterdir()
    output = json.loads(waiting.read_text())
    assert output.pop("at") > NOW - 10 * 365 * 86400
    assert output == {"version": "v1.2.3", "instead": "v1.0.0", "why": "it ended by itself 3 times"}
    assert waiting.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_takes_no_note_does_not_keep_a_release_from_being_rolled_back(
    machine: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.store.notices.rmdir()
    crashed(machine)
    assert len(machine.store.load().denied) == 1
    assert "that v1.2.3 is rolled back can't be mailed: [Errno 2] No such file or directory" in capsys.readouterr().err


def test_the_sending_is_started_when_something_was_left_and_may_fail(
    machine: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = on_path(tmp_path / "programs", monkeypatch, {"systemctl": "exit 1"})
    adopt.mail(machine.store)
    assert arguments(programs, "systemctl") == []
    crashed(machine)
    adopt.mail(machine.store)
    assert arguments(programs, "systemctl") == [["start", "--no-block", "backup-notify-retry.service"]]
    assert "backup-notify-retry.service could not be started, its timer starts it later" in capsys.readouterr().err
