"""What is too much for the user's cache goes by its last use, and what is in use stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.cache import hold
from tests.support import ROOT
from tests.support.errors import raises
from tests.unit.rehearsal.cache.test_contents import DIGEST, USED, fill
from zmanim_ami.rehearsal.cache import contents
from zmanim_ami.rehearsal.cache.contents import KINDS, MB, OTHER, Item, items
from zmanim_ami.rehearsal.cache.eviction import keep_within, needed, plan
from zmanim_ami.rehearsal.settings import load
from zmanim_ami.toolchain import go_caches

_KIND = KINDS[0]
NEVER = time.time() + 1e6
ITEMS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 20), st.booleans(), st.sampled_from([_KIND, _KIND, OTHER])),
    max_size=20,
)


@given(ITEMS, st.integers(1, 300), st.integers(0, 25))
def test_only_what_nobody_needs_goes_in_the_order_of_its_last_use_and_no_more_than_has_to(
    numbers: list[tuple[int, int, bool, contents.Kind]], limit: int, since: int
) -> None:
    found = [
        Item(Path(str(number)), kind, size, float(used), held)
        for number, (size, used, held, kind) in enumerate(numbers)
    ]
    going = plan(found, limit, since)
    staying = [each for each in found if each not in going]
    assert len(going) + len(staying) == len(found)
    assert not any(each.held or each.kind is OTHER or each.used >= since for each in going)
    free = [each for each in staying if not each.held and each.kind is not OTHER and each.used < since - 1]
    assert all(gone.used <= stays.used for gone in going for stays in free)
    left = sum(each.bytes for each in staying)
    assert left <= limit or not free
    if going:
        assert left + going[-1].bytes > limit
    assert left >= needed(found, since)


def test_the_least_recently_used_goes_until_the_limit_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for age, name in enumerate(("base", "standin", "disk", "kernel")):
        fill(tmp_path, f"{name}-{DIGEST}", size=1_000_000, used=USED - age * 100)
    keep_within(tmp_path, 3 * MB, NEVER)
    assert {path.name for path in tmp_path.iterdir()} == {f"base-{DIGEST}", f"standin-{DIGEST}"}
    assert capsys.readouterr().err.splitlines() == [
        f"deleted from the cache: kernel-{DIGEST} (QEMU, 1 MB)",
        f"deleted from the cache: disk-{DIGEST} (QEMU, 1 MB)",
    ]


def test_what_is_in_use_stays_and_a_limit_that_is_less_is_told_with_the_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, f"standin-{DIGEST}", f"tools/packer-{DIGEST}", size=4_000_000)
    fill(tmp_path, f"base-{DIGEST}", size=1_000_000, used=USED + 100)
    hold(tmp_path / f"standin-{DIGEST}")
    os.utime(tmp_path / f"tools/packer-{DIGEST}")  # as a run's task has done, which has ended since
    keep_within(tmp_path, 5 * MB, time.time())
    assert {item.path.name for item in items(tmp_path)} == {f"standin-{DIGEST}", f"packer-{DIGEST}"}
    said = capsys.readouterr().err
    assert "may hold 5 MB" in said
    assert "has 8 MB: that stays" in said


def test_within_the_limit_nothing_goes_and_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, f"standin-{DIGEST}", "go/api-modules")
    keep_within(tmp_path, 3 * MB, NEVER)
    assert len(items(tmp_path)) == 2
    assert capsys.readouterr().err == ""


def test_files_of_several_names_go_with_the_last_of_them(tmp_path: Path) -> None:
    fill(tmp_path, f"standin-tree-{DIGEST}", size=4_000_000, used=USED - 100)
    fill(tmp_path, f"standin-{DIGEST}", size=0, used=USED)
    os.link(tmp_path / f"standin-tree-{DIGEST}" / "root" / "file", tmp_path / f"standin-{DIGEST}" / "same")
    os.utime(tmp_path / f"standin-{DIGEST}", (USED, USED))
    fill(tmp_path, f"base-{DIGEST}", size=1_000_000, used=USED + 100)
    keep_within(tmp_path, 3 * MB, NEVER)
    assert {path.name for path in tmp_path.iterdir()} == {f"base-{DIGEST}"}


def test_what_go_has_compiled_is_bounded_and_does_not_go(tmp_path: Path) -> None:
    compiled = go_caches.build(tmp_path) / "aa"
    compiled.mkdir(parents=True)
    for name, size in (("large", 1_000_000), ("small", 1)):
        (compiled / name).write_bytes(b"x" * size)
    keep_within(tmp_path, 1, NEVER, compiled=500_000)
    assert [path.name for path in compiled.iterdir()] == ["small"]


_KILLED = """
import os, shutil, sys
from pathlib import Path
from zmanim_ami.rehearsal.cache.eviction import keep_within
real = shutil.rmtree
def partly(path, **options):
    next(Path(path).rglob("file")).unlink()
    os._exit(9)
shutil.rmtree = partly
keep_within(Path(sys.argv[1]), 1, 1e12)
"""


def test_a_run_after_one_that_was_killed_while_it_deleted_finds_nothing_half_and_clears_the_rest_away(
    tmp_path: Path,
) -> None:
    fill(tmp_path, f"standin-{DIGEST}", f"tools/packer-{DIGEST}", size=1_000_000)
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 9
    left = [item.path for item in items(tmp_path) if item.kind is not OTHER]
    assert len(left) == 1
    assert (left[0] / "root" / "file").exists()
    keep_within(tmp_path, 100 * MB, NEVER)
    assert [item.path for item in items(tmp_path)] == left


@pytest.mark.parametrize("value", ["0", "-1", "lots", "3GB", "1.5"])
def test_a_limit_that_is_none_is_bad_input(value: str) -> None:
    with raises("setting-invalid", match="a whole number from 1") as caught:
        load(ROOT, {"ZMANIM_CACHE_MB": value})
    assert caught.value.exit_code == 2


def test_the_limit_is_a_setting_in_megabytes() -> None:
    assert load(ROOT, {}, {"cache_mb": "2500"}).cache_bytes == 2_500 * MB
