"""Which release runs is told by what the API's process has mapped, and compared with the one in force."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.programs import on_path
from tests.support.release_files import site
from zmanim_host.host import Clock, HostError
from zmanim_host.release import running
from zmanim_host.release.store import Status


def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maps: str) -> Path:
    on_path(tmp_path, monkeypatch, {"systemctl": "echo MainPID=42"})
    (tmp_path / "42/map_files").mkdir(parents=True)
    (tmp_path / "42/maps").write_text(maps)
    return tmp_path


def test_the_digest_is_of_the_program_that_runs_and_not_of_what_lies_there_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = "00400000-00500000 r-xp 00000000 08:01 7 /usr/bin/qemu-aarch64\n"
    maps += f"0a000000-0b000000 r-xp 00000000 08:01 9 {running.RELEASES}/v1.2.3/zmanim-api (deleted)\n"
    proc = process(tmp_path, monkeypatch, maps)
    (proc / "42/map_files/a000000-b000000").write_bytes(b"the program")
    assert running.binary_sha256(proc) == hashlib.sha256(b"the program").hexdigest()


def test_a_program_that_can_t_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = f"0a000000-0b000000 r-xp 0 08:01 9 {running.RELEASES}/v1/zmanim-api\n"
    proc = process(tmp_path, monkeypatch, maps)
    with pytest.raises(HostError, match=r"the running program of zmanim-api\.service can't be read"):
        running.binary_sha256(proc)


def test_an_api_that_does_not_run_runs_no_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch, {"systemctl": "echo MainPID=0"})
    with pytest.raises(HostError, match=r"the process of zmanim-api\.service can't be looked at"):
        running.check_release(site(tmp_path).store, tmp_path)


def test_the_release_that_runs_is_told_with_the_reason_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = site(tmp_path)
    proc = process(tmp_path, monkeypatch, f"0a0-0b0 r-xp 0 08:01 9 {machine.store.releases}/v1.0.0/zmanim-api\n")
    # Nothing was chosen in this boot, or something else since.
    assert running.check_release(machine.store, proc) == "v1.0.0"
    machine.store.write_status(Status("v0.9.0", "from the channel"))
    assert running.check_release(machine.store, proc) == "v1.0.0"
    machine.store.write_status(Status("v1.0.0", "the image's own release; nothing is known of the channel"))
    assert running.check_release(machine.store, proc) == (
        "v1.0.0: the image's own release; nothing is known of the channel"
    )


@pytest.mark.incident("another release ran than the one in force, and the machine called itself ready")
def test_an_api_of_another_release_than_the_one_in_force_is_an_error_unless_it_is_restarted_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = site(tmp_path)
    other = f"0a0-0b0 r-xp 0 08:01 9 {machine.store.releases}/v1.2.3/zmanim-api\n"
    proc = process(tmp_path, monkeypatch, other)
    slept: list[float] = []
    with pytest.raises(HostError, match=r"v1\.2\.3 runs, and v1\.0\.0 is in force: systemctl restart zmanim-api"):
        running.check_release(machine.store, proc, clock=Clock(lambda: sum(slept), slept.append))
    assert sum(slept) >= 10

    def restart(_seconds: float) -> None:
        (proc / "42/maps").write_text(other.replace("v1.2.3", "v1.0.0"))

    assert running.check_release(machine.store, proc, clock=Clock(sleep=restart)) == "v1.0.0"
