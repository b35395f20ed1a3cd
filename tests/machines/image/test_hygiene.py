"""What must not be in the image, read from its layers without booting it: a boot would make half of it anew."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.machines.image import ImageLab, files_with, image_files, merged
from tests.support.machines.promises import hygiene


@pytest.fixture(scope="module")
def tree(images: ImageLab) -> Mapping[str, Path]:
    return image_files(images)


@pytest.mark.fault(
    48,
    injected="a search of the image for what a builder leaves",
    must="no host key, history, state, stamp, cache, log or compiler is in it",
)
@pytest.mark.parametrize("what", hygiene.GONE)
def test_nothing_of_the_builder_is_left(tree: Mapping[str, Path], what: str) -> None:
    assert hygiene.left_of_the_builder(tree, what) == []


@pytest.mark.fault(
    48,
    injected="a search of the image for an identity",
    must="machine-id and authorized_keys are empty, no password opens it",
)
def test_the_image_has_no_identity_and_no_key_that_opens_it(tree: Mapping[str, Path]) -> None:
    hygiene.expect_no_identity(tree)


def test_every_log_is_empty(tree: Mapping[str, Path]) -> None:
    hygiene.expect_empty_logs(tree)


def test_nothing_can_be_written_by_everybody_and_no_program_gained_a_setuid_bit(
    images: ImageLab, tree: Mapping[str, Path]
) -> None:
    hygiene.expect_closed_modes(tree, merged(images.cloud.directory / "layers" / "none", images.root))


@pytest.mark.fault(48, injected="a search of the image for the account's secrets and for keys", must="none is found")
@pytest.mark.incident("secrets ended up in what was shipped")
def test_no_secret_is_in_what_the_build_wrote(images: ImageLab) -> None:
    # What the build added to the base, deleted files aside: the base is Amazon's.
    layer = images.cloud.directory / "layers" / images.image
    assert list(files_with(layer, hygiene.secrets_of_the_build(images), keys=True)) == []


def test_a_file_that_is_whited_out_is_not_taken_for_one_that_is_there(tmp_path: Path) -> None:
    """The reader of layers itself: without this, a leftover of the base could hide from the tests above."""
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for path in (lower / "a/gone", lower / "a/kept", upper / "a/new"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert set(merged(upper, lower)) == {"/a", "/a/new", "/a/gone", "/a/kept"}
    _white_out(upper / "a/gone")
    assert set(merged(upper, lower)) == {"/a", "/a/new", "/a/kept"}


def _white_out(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
