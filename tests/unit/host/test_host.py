"""Files are written whole, and a program that fails is told with its own words."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from zmanim_host.cli import main
from zmanim_host.host import HostError, is_plain, read_plain, run, write_whole


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    write_whole(path, "new\n", mode=0o400)
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert list(tmp_path.iterdir()) == [path]


def test_what_an_interrupted_write_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".secret.unfinished").write_text("half")
    write_whole(tmp_path / "secret", "whole")
    assert (tmp_path / "secret").read_text() == "whole"


def test_a_lesser_user_s_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/file").write_bytes(b"12345")
    assert read_plain(tmp_path, "below/file", 5) == b"12345"
    assert read_plain(tmp_path, "below/none", 5) is None
    assert read_plain(tmp_path, "none/file", 5) is None
    with pytest.raises(HostError, match="more than 4 bytes"):
        read_plain(tmp_path, "below/file", 4)


@pytest.mark.incident("root followed links that a lesser user had made, and printed what they led to")
@pytest.mark.parametrize("name", ["link", "dangling", "linked/file", "pipe", "socket", "folder", "second", "file/file"])
def test_whatever_is_no_plain_file_of_a_lesser_user_is_not_read(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "folder").mkdir(parents=True)
    (theirs / "folder/file").write_text("theirs")
    (theirs / "file").write_text("theirs")
    (theirs / "link").symlink_to("folder/file")
    (theirs / "dangling").symlink_to("nowhere")
    (theirs / "linked").symlink_to("folder")
    (theirs / "first").write_text("a file with two names may be somebody else's")
    (theirs / "second").hardlink_to(theirs / "first")
    os.mkfifo(theirs / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(theirs / "socket"))
        with pytest.raises(HostError, match="plain file"):
            read_plain(theirs, name, 100)


def test_a_file_of_another_user_is_none_of_a_lesser_user_s() -> None:
    def status(mode: int, uid: int) -> os.stat_result:
        return os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))

    assert is_plain(status(stat.S_IFREG | 0o600, 401), 401)
    assert not is_plain(status(stat.S_IFREG | 0o600, 0), 401)
    assert not is_plain(status(stat.S_IFCHR | 0o600, 401), 401)


def test_a_failing_program_is_told_by_its_name_code_and_words() -> None:
    with pytest.raises(HostError, match=r"^sh: exit code 3: no such volume$"):
        run(["sh", "-c", "echo no such volume >&2; exit 3"], timeout=10)
    assert run(["sh", "-c", "exit 2"], timeout=10, may_exit=(0, 2)).returncode == 2


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(HostError, match="no end after 0 s"):
        run(["sleep", "60"], timeout=0.1)


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(HostError, match="can't be started"):
        run(["/no/such/program"], timeout=1)


def test_a_programs_environment_is_ours_and_what_is_added() -> None:
    assert run(["sh", "-c", 'echo "$ADDED" "$PATH"'], timeout=10, environment={"ADDED": "x"}).stdout.startswith("x /")


def test_input_is_handed_over() -> None:
    assert run(["cat"], timeout=10, input="SELECT 1").stdout == "SELECT 1"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["memory", "secrets"]])
def test_a_command_that_there_is_not_lists_those_there_are(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "usage: zmanim-host COMMAND" in capsys.readouterr().err
