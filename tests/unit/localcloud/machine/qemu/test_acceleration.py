"""KVM is believed only after the machines' own kernel has printed a line by it; a /dev/kvm once hung in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localcloud.machine.qemu import acceleration
from localcloud.machine.qemu.acceleration import Seen, boot_by_kvm, choose
from tests.support.errors import raises

WORKS, HANGS = Seen(True, "Linux version 6.12"), Seen(False, "no line of the kernel's on its serial port within 10 s")


class Host:
    """A host whose KVM does what it is told, and counts how often it was tried."""

    def __init__(self, directory: Path, seen: Seen) -> None:
        self.seen, self.probes, self.cache = seen, 0, directory / "cache"
        self.kernel, self.boot_id = directory / "vmlinuz", directory / "boot_id"
        self.kernel.write_bytes(b"a kernel")
        self.boot_id.write_text("first\n")

    def probe(self, _kernel: Path) -> Seen:
        self.probes += 1
        return self.seen

    def choose(self, way: str) -> str:
        return choose(way, self.kernel, self.cache, probe=self.probe, boot_id=self.boot_id)


def test_kvm_is_used_where_the_kernel_has_spoken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Host(tmp_path, WORKS).choose("auto") == "kvm"
    assert "by KVM: Linux version 6.12" in capsys.readouterr().err


def test_where_it_stays_silent_machines_are_emulated_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Host(tmp_path, HANGS).choose("auto") == "tcg"
    assert "no line of the kernel's" in capsys.readouterr().err


def test_kvm_that_was_asked_for_and_fails_is_a_lack_of_this_host_s(tmp_path: Path) -> None:
    with raises("kvm-fails", match="no line of the kernel's") as caught:
        Host(tmp_path, HANGS).choose("kvm")
    assert caught.value.exit_code == 3


def test_whoever_wants_emulation_waits_for_no_probe(tmp_path: Path) -> None:
    host = Host(tmp_path, WORKS)
    assert (host.choose("tcg"), host.probes) == ("tcg", 0)


def test_another_word_is_refused(tmp_path: Path) -> None:
    with raises("accel-unknown", match="auto or kvm or tcg"):
        Host(tmp_path, WORKS).choose("hvf")


def test_the_answer_is_kept_until_the_host_starts_anew(tmp_path: Path) -> None:
    host = Host(tmp_path, HANGS)
    assert [host.choose("auto"), host.choose("auto")] == ["tcg", "tcg"]
    assert host.probes == 1
    host.boot_id.write_text("second\n")
    host.seen = WORKS
    assert (host.choose("auto"), host.probes) == ("kvm", 2)


def test_another_kernel_is_tried_again(tmp_path: Path) -> None:
    host = Host(tmp_path, WORKS)
    host.choose("auto")
    host.kernel.write_bytes(b"another kernel")
    host.seen = HANGS
    assert (host.choose("auto"), host.probes) == ("tcg", 2)


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"boot": "first"})])
def test_half_an_answer_is_none(tmp_path: Path, content: str) -> None:
    host = Host(tmp_path, WORKS)
    host.cache.mkdir()
    (host.cache / "kvm.json").write_text(content)
    assert (host.choose("auto"), host.probes) == ("kvm", 1)


def boot(directory: Path, script: str, seconds: float = 10.0) -> Seen:
    """Boot by a program that stands in for QEMU: its output is the machine's serial port."""
    program = directory / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    device = directory / "kvm"
    device.touch()
    return boot_by_kvm(directory / "vmlinuz", device=device, program=str(program), seconds=seconds)


def test_a_line_of_the_kernel_s_is_enough_and_nobody_waits_for_the_rest(tmp_path: Path) -> None:
    seen = boot(tmp_path, "printf 'SeaBIOS\\r\\n[    0.000000] Linux version 6.12.1 (gcc)\\r\\n'; exec sleep 60")
    assert seen == Seen(True, "Linux version 6.12.1 (gcc)")


def test_half_a_line_is_none(tmp_path: Path) -> None:
    seen = boot(tmp_path, "printf 'Linux version 6.12'; exec sleep 60", seconds=0.5)
    assert not seen.works


def test_a_machine_that_hangs_in_silence_is_given_up(tmp_path: Path) -> None:
    assert boot(tmp_path, "exec sleep 60", seconds=0.3) == Seen(
        False, "no line of the kernel's on its serial port within 0 s"
    )


def test_what_qemu_said_last_is_told_when_it_ended(tmp_path: Path) -> None:
    seen = boot(tmp_path, "echo starting; echo 'Could not access KVM kernel module' >&2; exit 1")
    assert seen == Seen(False, "QEMU ended: Could not access KVM kernel module")


def test_a_host_without_the_device_or_the_program_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert "is not there" in boot_by_kvm(tmp_path, device=missing).what
    (tmp_path / "kvm").touch()
    assert "No such file" in boot_by_kvm(tmp_path, device=tmp_path / "kvm", program=str(missing)).what


def test_the_ways_are_those_that_the_task_names() -> None:
    assert acceleration.WAYS == ("auto", "kvm", "tcg")
