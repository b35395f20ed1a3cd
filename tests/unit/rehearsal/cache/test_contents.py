"""What the user's cache holds is told by kind, with its size and its last use, and nothing of it is left out."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from support.cache import hold
from zmanim_ami.rehearsal.cache import contents
from zmanim_ami.rehearsal.cache.contents import KINDS, for_people, items, rows

DIGEST = "0123456789abcdef"
USED = 1_790_000_000.0
# A path of each kind, but "other".
PLACES = {
    "tools": (f"tools/packer-{DIGEST}", f"tools/packer-plugin-amazon-{DIGEST}"),
    "Go": (f"go/toolchain-{DIGEST}",),
    "compiled by Go": ("go/build",),
    "sources for Go": ("go/api-modules", "go/tool-modules", "go/modules"),
    "Debian's packages": ("debian",),
    "stand-in": (f"standin-{DIGEST}", f"standin-tree-{DIGEST}"),
    "bases": (f"base-{DIGEST}",),
    "QEMU": (f"kernel-{DIGEST}", f"disk-{DIGEST}", f"disk-image-{DIGEST}", f"downloaded-image-{DIGEST}"),
    "compiled packages": (f"packages/123456789012-{DIGEST}",),
    "moto's tests": (f"moto-tests-{DIGEST}",),
}
OTHERS = ("authority", "packer-config", "acceleration.json", ".standin.lock", "tools/.packer.lock", f"strange-{DIGEST}")


def fill(cache: Path, *names: str, size: int = 10_000, used: float = USED) -> None:
    for name in names:
        path = cache / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            (path / "root").mkdir(parents=True)
            (path / "root" / "file").write_bytes(b"x" * size)
        os.utime(path, (used, used))


def test_everything_in_the_cache_is_of_a_kind(tmp_path: Path) -> None:
    fill(tmp_path, *OTHERS, *(name for names in PLACES.values() for name in names))
    found = {str(item.path.relative_to(tmp_path)): item.kind.name for item in items(tmp_path)}
    assert found == {name: kind for kind, names in PLACES.items() for name in names} | dict.fromkeys(OTHERS, "other")
    assert PLACES.keys() | {"other"} == {kind.name for kind in KINDS}


def test_each_kind_is_told_with_its_size_and_its_last_use_and_the_sum_with_what_it_may_be(tmp_path: Path) -> None:
    fill(tmp_path, f"standin-{DIGEST}")
    fill(tmp_path, f"standin-tree-{DIGEST}", used=USED + 60)
    fill(tmp_path, "go/build", used=USED - 60)
    table = {row.name: row for row in rows(tmp_path, 3_000 * contents.MB)}
    assert list(table) == ["cache: compiled by Go", "cache: stand-in", "cache: all of it"]
    both = table["cache: stand-in"]
    assert 2 * 12_288 <= both.bytes <= 2 * 12_288 + 4 * 4096
    last = datetime.fromtimestamp(USED + 60).astimezone().isoformat(sep=" ", timespec="minutes")
    assert (both.last_used, both.found) == (last, f"0 MB, used last {last}")
    assert table["cache: all of it"].bytes == both.bytes + table["cache: compiled by Go"].bytes
    assert "3000 MB" in table["cache: all of it"].purpose
    assert all(row.ok and not row.needed for row in table.values())
    assert for_people(both).found == both.found


def test_a_cache_that_is_not_there_yet_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path / "none", 1) == []


def test_what_is_in_use_is_told_so(tmp_path: Path) -> None:
    fill(tmp_path, f"standin-{DIGEST}", f"base-{DIGEST}")
    hold(tmp_path / f"standin-{DIGEST}")
    assert {item.kind.name: item.held for item in items(tmp_path)} == {"stand-in": True, "bases": False}
    assert [row.name for row in rows(tmp_path, 1) if "in use" in row.found] == ["cache: stand-in", "cache: all of it"]


@pytest.mark.incident("two trees of the same files were counted as twice as much as they are on the disk")
def test_a_file_of_several_names_counts_once(tmp_path: Path) -> None:
    fill(tmp_path, f"standin-tree-{DIGEST}", size=1_000_000)
    alone = sum(item.bytes for item in items(tmp_path))
    (tmp_path / f"standin-{DIGEST}").mkdir()
    os.link(tmp_path / f"standin-tree-{DIGEST}" / "root" / "file", tmp_path / f"standin-{DIGEST}" / "file")
    both = [item.bytes for item in items(tmp_path)]
    assert sum(both) <= alone + 4096
    assert min(both) > 500_000


def test_what_lies_outside_counts_for_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "large", size=1_000_000)
    fill(tmp_path / "cache", f"base-{DIGEST}")
    (tmp_path / "cache" / f"base-{DIGEST}" / "link").symlink_to(tmp_path / "elsewhere")
    assert sum(item.bytes for item in items(tmp_path / "cache")) < 100_000
