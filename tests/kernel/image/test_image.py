"""An image that a machine with a kernel of its own has built: nothing of that machine's is in it.

What only such a builder has: a seed of random numbers that its kernel was given, records of logins and boots, a journal
and a mounted disk of its own, a shutdown.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines.image import ImageLab, files_with
from tests.support.machines.promises import disk, hygiene

RECORDS = {"wtmp", "wtmp.db", "btmp", "utmp", "lastlog", "lastlog2.db"}


@pytest.fixture(scope="module")
def root(images: ImageLab) -> Iterator[Path]:
    with disk.mounted_image(images) as path:
        yield path


@pytest.fixture(scope="module")
def tree(root: Path) -> dict[str, Path]:
    return disk.files_of(root)


@pytest.mark.parametrize("what", hygiene.GONE)
def test_nothing_of_the_builder_is_left(tree: dict[str, Path], what: str) -> None:
    assert hygiene.left_of_the_builder(tree, what) == []


def test_the_image_has_no_identity_and_no_key_that_opens_it(tree: dict[str, Path]) -> None:
    hygiene.expect_no_identity(tree)


def test_every_log_is_empty_and_so_is_every_record_of_logins_and_boots(tree: dict[str, Path]) -> None:
    hygiene.expect_empty_logs(tree)
    # Wherever a distribution keeps them, if it does.
    records = [path for name, path in tree.items() if name.rpartition("/")[2] in RECORDS and path.is_file()]
    assert [path for path in records if path.stat().st_size] == []


def test_nothing_can_be_written_by_everybody_and_no_program_gained_a_setuid_bit(
    images: ImageLab, tree: dict[str, Path]
) -> None:
    hygiene.expect_closed_modes(tree, disk.files_of(images.root))


@pytest.mark.incident("secrets ended up in what was shipped")
def test_no_secret_is_in_what_the_build_wrote(images: ImageLab, root: Path) -> None:
    paths = disk.written(root, images.root)
    assert root / "opt/zmanim/zmanim-host" in paths
    assert list(files_with(root, hygiene.secrets_of_the_build(images), keys=True, paths=paths)) == []


def test_its_builder_had_let_go_of_the_disk(root: Path) -> None:
    """A file system that was cut off has a journal to replay, and its first boot would be no first boot."""
    source = _output("findmnt", "--noheadings", "--output", "SOURCE", str(root)).strip()
    shown = _output("dumpe2fs", "-h", source)
    assert "Filesystem state:         clean" in shown
    assert "needs_recovery" not in shown


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
