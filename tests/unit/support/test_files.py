from __future__ import annotations

from pathlib import Path

import pytest

from support.files import write_atomically


def test_a_file_is_replaced_whole_and_has_the_mode_from_its_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "made" / "key.pem"
    write_atomically(path, b"old", 0o600)
    write_atomically(path, "new", 0o600)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(path.parent.iterdir()) == [path]


def test_where_it_can_not_be_replaced_the_old_content_stays(tmp_path: Path) -> None:
    (tmp_path / "directory" / "content").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "directory", "new")
    assert (tmp_path / "directory" / "content").is_dir()
