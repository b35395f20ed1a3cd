"""Why a command failed reaches zmanim-ready: from root whatever a lesser user does, and from that one as plain text."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from zmanim_host.host import ErrorNotes, own_folder


@pytest.mark.incident("zmanim-ready put any file of this machine on the console")
def test_a_note_that_is_a_link_is_told_as_one_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("root:hunter2")
    notes = ErrorNotes(tmp_path / "errors")
    notes.put("redis-check", "it is damaged")
    (tmp_path / "errors/redis-damage").symlink_to(tmp_path / "shadow")
    (tmp_path / "errors/huge").write_bytes(bytes(ErrorNotes.LONGEST + 1))
    read = notes.all()
    assert read["redis-check"] == "it is damaged"
    assert "without links on the way" in read["redis-damage"]
    assert "more than" in read["huge"]
    assert "hunter2" not in str(read)


@pytest.mark.incident("a folder that redis's user made in the place of a note of root's kept that from being written")
def test_a_lesser_user_s_notes_are_apart_from_root_s_and_replace_none(tmp_path: Path) -> None:
    lesser = pwd.getpwnam("daemon")
    errors = tmp_path / "errors"
    assert own_folder(errors, os.geteuid()) == errors, "whoever makes it"
    (errors / "daemon").mkdir(parents=True)
    assert own_folder(errors, os.geteuid()) == errors
    assert own_folder(errors, lesser.pw_uid) == errors / "daemon"
    # What was in the way of root's note is only in the way of their own.
    (errors / "daemon/.data-volume.unfinished").mkdir()
    (errors / "daemon/data-volume").write_text("theirs")
    (errors / "daemon/redis-check").write_text("it is damaged")
    notes = ErrorNotes(errors)
    notes.put("data-volume", "root's")
    assert notes.all()["data-volume"] == "root's"
    assert notes.all()["redis-check"] == "it is damaged"
    notes.clear("data-volume")
    assert notes.all()["data-volume"] == "theirs"


def test_a_note_is_cut_to_what_is_read(tmp_path: Path) -> None:
    notes = ErrorNotes(tmp_path / "errors")
    notes.put("migrate", "\N{GRINNING FACE}" * ErrorNotes.LONGEST)
    assert set(notes.all()["migrate"]) == {"\N{GRINNING FACE}"}
