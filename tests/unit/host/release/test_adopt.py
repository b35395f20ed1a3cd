"""What starts next, whatever was fetched: the last good release, or the image's own, and the reason in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.release_files import NOW, OTHER_KEY, Site, files, packed, program, site, start
from zmanim_host.release import store as store_module
from zmanim_host.release.adopt import Channel, Machine, adopt
from zmanim_host.release.rules import Release
from zmanim_host.release.store import Status, Store

NEW = packed(files())


@pytest.fixture
def machine(tmp_path: Path) -> Site:
    return site(tmp_path)


def test_a_new_release_is_in_force_on_probation_at_the_next_start(machine: Site) -> None:
    machine.channel(NEW)
    status = start(machine)
    assert machine.running == status.version == "v1.2.3"
    assert status.why == "from the channel, on probation; the channel's serial 7 names v1.2.3"
    assert (status.on_probation, status.run_migrations) == (True, True)
    assert start(machine) == status


def test_a_rollback_is_in_force_at_the_next_start_even_behind_the_image(machine: Site) -> None:
    machine.channel(packed(files("v0.9.0")), version="v0.9.0", rollback=True)
    assert start(machine).version == machine.running == "v0.9.0"


def test_nothing_of_a_release_that_is_not_needed_any_more_is_kept(machine: Site) -> None:
    for number, version in enumerate(("v1.2.3", "v1.2.4", "v1.2.5"), start=7):
        machine.channel(packed(files(version)), version=version, serial=number)
        start(machine)
    assert {path.name for path in machine.store.releases.iterdir()} == {"v1.0.0", "v1.2.5", "current"}


def cut(machine: Site, content: bytes) -> None:
    (machine.fetched / "bundle").write_bytes(content)


def pointer(machine: Site, content: bytes) -> None:
    (machine.fetched / "pointer.json").write_bytes(content)


def link(machine: Site, target: str) -> None:
    (machine.fetched / "pointer.json").unlink()
    (machine.fetched / "pointer.json").symlink_to(target)


def pipe(machine: Site) -> None:
    (machine.fetched / "pointer.json").unlink()
    os.mkfifo(machine.fetched / "pointer.json")


WRONG: dict[str, tuple[Callable[[Site], None], str]] = {
    "truncated": (lambda it: cut(it, NEW[:-10]), "bytes, and should have"),
    "another hash": (lambda it: cut(it, NEW[:-1] + b"x"), "SHA-256 is"),
    "no bundle": (lambda it: (it.fetched / "bundle").unlink(), "has not been fetched"),
    "a longer bundle": (lambda it: cut(it, NEW + b"x"), "has more than"),
    "no signature": (lambda it: pointer(it, json.dumps({"payload": "e30="}).encode()), "is not signed"),
    "another key's": (lambda it: it.channel(NEW, OTHER_KEY), "signature is not that of prod.pem"),
    "another environment's": (lambda it: it.channel(NEW, environment="verify"), "is for 'verify'"),
    "expired": (lambda it: it.channel(NEW, expires="2026-01-01T00:00:00Z"), "expired at 2026-01-01"),
    "older than allowed": (lambda it: it.channel(NEW, oldest_allowed="v1.2.4"), "the oldest that is allowed"),
    "another architecture": (lambda it: it.channel(NEW, architecture="x86_64"), "is for 'x86_64'"),
    "an x86-64 program": (lambda it: it.channel(packed(files(content=program(machine=62)))), "for another machine"),
    "another version's bundle": (lambda it: it.channel(packed(files("v1.2.4"))), "another one than its manifest"),
    "garbage": (lambda it: pointer(it, b"\0" * 100), "not JSON"),
    "a huge pointer": (lambda it: pointer(it, b" " * 20_000), "has more than"),
    "a pointer that is a link": (lambda it: link(it, "/etc/passwd"), "Too many levels of symbolic links"),
    "a pointer that is a pipe": (pipe, "not a plain file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_verify_leaves_in_force_what_is_and_says_why(machine: Site, what: str) -> None:
    spoil, reason = WRONG[what]
    machine.channel(NEW)
    spoil(machine)
    status = start(machine)
    assert machine.running == status.version == "v1.0.0"
    assert reason in status.why
    assert "\n" not in status.why
    assert {path.name for path in machine.store.releases.iterdir()} == {"v1.0.0", "current"}


def test_a_replayed_serial_is_refused_and_a_newer_one_is_not(machine: Site) -> None:
    machine.channel(NEW)
    start(machine)
    newer = packed(files("v1.2.4"))
    machine.channel(newer, version="v1.2.4", serial=6)
    assert "serial 6 is a replayed one: 7 was seen before" in start(machine).why
    machine.channel(newer, version="v1.2.4", serial=7)
    assert "serial 7 was seen before with other content" in start(machine).why
    assert machine.running == "v1.2.3"
    machine.channel(newer, version="v1.2.4", serial=8)
    assert start(machine).version == "v1.2.4"


@pytest.mark.incident("a machine with a new data volume followed an old signed rollback, for it had seen no serial")
def test_a_new_volume_follows_no_pointer_that_is_older_than_its_image(machine: Site) -> None:
    (machine.keys / "prod.serial").write_text("9\n")
    old = packed(files("v0.9.0"))
    machine.channel(old, version="v0.9.0", rollback=True, serial=8)
    status = start(machine)
    assert machine.running == "v1.0.0"
    assert "serial 8 is a replayed one: this image was built after 9" in status.why
    # The one that was the newest then is the channel's word still.
    machine.channel(old, version="v0.9.0", rollback=True, serial=9)
    assert start(machine).version == "v0.9.0"


@pytest.mark.parametrize("text", ["", "-1", "nine", "9" * 17, "9\n9", "0x9"])
def test_an_image_whose_serial_is_none_follows_nothing(machine: Site, text: str) -> None:
    (machine.keys / "prod.serial").write_text(text)
    machine.channel(NEW)
    assert "the image's serial of prod is none" in start(machine).why
    assert machine.running == "v1.0.0"


def test_a_record_of_a_version_is_no_pointer(machine: Site) -> None:
    machine.channel(NEW, serial=0)
    assert "the channel's serial is not a number from 1" in start(machine).why
    assert machine.running == "v1.0.0"


def test_the_serial_outlives_the_root_disk(machine: Site, tmp_path: Path) -> None:
    machine.channel(NEW, serial=9)
    start(machine)
    (tmp_path / "replaced").mkdir()
    other = site(tmp_path / "replaced")
    (machine.store.data / "zmanim").rename(other.store.data / "zmanim")
    other.channel(NEW, serial=8)
    status = start(other)
    assert "serial 8 is a replayed one: 9 was seen before" in status.why
    assert (other.running, other.store.load().probation) == ("v1.0.0", None)


def test_an_older_image_can_read_what_is_remembered(machine: Site) -> None:
    machine.channel(NEW)
    start(machine)
    state = json.loads(machine.store.state_file.read_text())
    assert state["trial"]["release"]["version"] == "v1.2.3"
    assert set(state) == {"format", "serial", "digest", "oldest_allowed", "denied", "trial", "rolled_back_to"}


def test_an_expired_pointer_leaves_running_what_it_brought(machine: Site) -> None:
    machine.channel(NEW)
    start(machine)
    around = Machine(lambda: 0, lambda: True, lambda: NOW + 10**9)
    status = adopt(machine.store, Channel("prod", machine.fetched, machine.keys), around)
    assert status.version == machine.running == "v1.2.3"


@pytest.mark.fault(
    45,
    injected="the power gone at each write, rename and sync of an adoption",
    must="a whole release is in force, and the next boot adopts the new one",
)
@pytest.mark.parametrize("moment", ["mkdir", "replace", "rename", "fsync"])
def test_a_power_cut_at_any_step_leaves_a_whole_release_in_force(
    machine: Site, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Every call of a step in turn is the last thing that happens; the next boot has to make it right."""
    machine.channel(NEW)
    place = os if moment == "fsync" else Path
    real = getattr(place, moment)
    calls = last = 0
    survived = False

    class PowerCut(BaseException):
        pass

    def cut_short(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == last:
            raise PowerCut
        return real(*arguments, **options)

    while not survived:
        calls, last = 0, last + 1
        with monkeypatch.context() as powered:
            powered.setattr(place, moment, cut_short)
            # What tidies up in a live process does not happen without power.
            powered.setattr(store_module, "shutil", SimpleNamespace(rmtree=lambda path: None))
            try:
                start(machine)
                survived = True
            except PowerCut:
                pass
        assert machine.running in {"v1.0.0", "v1.2.3"}
        assert (machine.store.releases / "current" / "zmanim-api").is_file()
        status = start(machine)
        assert (status.version, status.on_probation) == ("v1.2.3", True)
        assert not list(machine.store.releases.glob(".unfinished*"))
        _forget(machine)
    assert last > 1


def _forget(machine: Site) -> None:
    machine.store.point("current", Release("v1.0.0"))
    shutil.rmtree(machine.store.releases / "v1.2.3")
    (machine.store.state_file).unlink()


@pytest.mark.parametrize("path", ["zmanim-api", "release.json"])
def test_a_full_disk_leaves_in_force_what_is(machine: Site, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    machine.channel(NEW)
    real = os.open

    def full(name: Any, *arguments: Any, **options: Any) -> int:
        if path in str(name) and arguments[0] & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device", str(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", full)
    status = start(machine)
    assert "No space left on device" in status.why
    assert machine.running == status.version == "v1.0.0"
    assert {each.name for each in machine.store.releases.iterdir()} == {"v1.0.0", "current"}


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1, "serial": "1"}', "\0"])
def test_a_state_that_can_t_be_understood_stops_adopting_and_nothing_else(machine: Site, content: str) -> None:
    machine.channel(NEW)
    start(machine)
    machine.store.state_file.write_text(content)
    machine.channel(packed(files("v1.2.4")), version="v1.2.4", serial=8)
    status = start(machine)
    assert (status.version, machine.running) == ("v1.2.3", "v1.2.3")
    assert "can't be understood" in status.why


def test_without_the_data_volume_no_channel_is_followed(machine: Site, tmp_path: Path) -> None:
    machine.channel(NEW)
    store = Store(
        machine.store.releases, machine.store.baked_link, machine.store.data, tmp_path / "status", lambda path: False
    )
    around = Machine(lambda: 0, lambda: True, lambda: NOW)
    assert "is not mounted" in adopt(store, Channel("prod", machine.fetched, machine.keys), around).why
    assert machine.running == "v1.0.0"


@pytest.mark.parametrize("damage", ["gone", "no program", "leads elsewhere"])
def test_a_link_that_leads_to_nothing_whole_is_repaired(machine: Site, damage: str) -> None:
    machine.channel(NEW)
    start(machine)
    current = machine.store.releases / "current"
    if damage == "no program":
        (machine.store.releases / "v1.2.3" / "zmanim-api").unlink()
        (machine.fetched / "pointer.json").unlink()
    else:
        current.unlink()
        (machine.fetched / "pointer.json").unlink()
        if damage == "leads elsewhere":
            current.symlink_to("/tmp")
    assert start(machine).version == machine.running == "v1.0.0"


def test_an_image_without_a_key_or_an_environment_follows_no_channel(machine: Site) -> None:
    machine.channel(NEW)
    assert "no key for the channel of other" in start(machine, environment="other").why
    assert "does not know its environment" in start(machine, environment="").why
    (machine.keys / "prod.pem").unlink()
    assert "no key for the channel of prod" in start(machine).why
    assert machine.running == "v1.0.0"


def test_a_test_image_follows_no_channel(tmp_path: Path) -> None:
    machine = site(tmp_path, baked="test-mine")
    machine.channel(NEW)
    assert "a test image follows no channel" in start(machine).why
    assert machine.running == "test-mine"


def test_an_empty_channel_leaves_the_image_s_own_in_force(machine: Site) -> None:
    status = start(machine)
    assert status == Status("v1.0.0", "the image's own release; nothing is known of the channel of prod")
