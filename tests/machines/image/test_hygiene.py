"""What must not be in the image, read from its layers without booting it: a boot would make half of it anew."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.machines.image import ImageLab, files_with, image_files, merged

GONE = {
    "host keys": ["/etc/ssh/ssh_host_*"],
    "the machine's name and identity": ["/etc/hostname", "/var/lib/dbus/machine-id"],
    "cloud-init's state and the builder's user data": [
        "/var/lib/cloud/data",
        "/var/lib/cloud/instance",
        "/var/lib/cloud/instances",
        "/var/lib/cloud/sem",
    ],
    "leases": ["/var/lib/dhclient", "/var/lib/dhcpcd", "/var/lib/NetworkManager/*lease*"],
    "seeds": ["/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret"],
    "stamps of timers": ["/var/lib/systemd/timers"],
    "what crashed": ["/var/lib/systemd/coredump/*"],
    "the agent's registration": ["/var/lib/amazon/ssm"],
    "caches of packages": ["/var/cache/dnf", "/var/cache/yum", "/var/lib/dnf/history.sqlite*"],
    "histories": ["/root/.*_history", "/home/*/.*_history", "/root/.lesshst", "/home/*/.lesshst", "*/.viminfo"],
    "homes' settings": ["/root/.aws", "/home/*/.aws", "/root/.cache", "/home/*/.cache", "*/.pgpass", "*/.netrc"],
    "logs of the build": ["/var/log/cloud-init*", "/var/log/journal/*", "/var/log/dnf*"],
    "temporary files": ["/tmp/*", "/var/tmp/*"],
    "compilers": [
        f"*/bin/{name}"
        for name in ("gcc", "gcc-*", "cc", "g++", "c++", "clang", "ld", "as", "make", "rpmbuild", "go", "cargo")
    ]
    + ["*/cc1", "*/cc1plus"],
    "headers": ["/usr/include/stdio.h", "/usr/include/openssl/*", "/usr/include/postgresql*", "/usr/include/pgsql*"],
    "data": ["/data/*", "/var/lib/pgsql/data/*", "*/PG_VERSION", "*/dump.rdb"],
}


@pytest.fixture(scope="module")
def tree(images: ImageLab) -> Mapping[str, Path]:
    return image_files(images)


@pytest.mark.parametrize("what", GONE)
def test_nothing_of_the_builder_is_left(tree: Mapping[str, Path], what: str) -> None:
    assert [name for name in sorted(tree) for pattern in GONE[what] if fnmatch.fnmatchcase(name, pattern)] == []


def test_the_image_has_no_identity_and_no_key_that_opens_it(tree: Mapping[str, Path]) -> None:
    # Empty, not absent and not "uninitialized": those would make the next boot one that applies every preset.
    assert tree["/etc/machine-id"].read_bytes() == b""
    keys = [name for name in tree if fnmatch.fnmatchcase(name, "*/authorized_keys*")]
    assert keys
    assert [name for name in keys if tree[name].stat().st_size] == []
    shadow = dict(line.split(":")[:2] for line in tree["/etc/shadow"].read_text().splitlines())
    assert shadow["root"].startswith(("!", "*"))
    assert [name for name, password in shadow.items() if not password.startswith(("!", "*"))] == []


def test_every_log_is_empty(tree: Mapping[str, Path]) -> None:
    logs = [name for name in tree if name.startswith("/var/log/") and tree[name].is_file()]
    assert [name for name in logs if tree[name].stat().st_size and not tree[name].is_symlink()] == []


def test_nothing_can_be_written_by_everybody_and_no_program_gained_a_setuid_bit(
    images: ImageLab, tree: Mapping[str, Path]
) -> None:
    modes = {name: path.lstat().st_mode for name, path in tree.items()}
    open_files = [name for name, mode in modes.items() if stat.S_ISREG(mode) and mode & stat.S_IWOTH]
    # A directory of everybody's is one where each can only remove what is theirs: /tmp and the like.
    sticky = stat.S_IWOTH | stat.S_ISVTX
    open_folders = [name for name, mode in modes.items() if stat.S_ISDIR(mode) and mode & sticky == stat.S_IWOTH]
    assert (open_files, open_folders) == ([], [])
    assert _set_ids(tree) == _set_ids(merged(images.cloud.directory / "layers" / "none", images.root))


@pytest.mark.incident("secrets ended up in what was shipped")
def test_no_secret_is_in_what_the_build_wrote(images: ImageLab) -> None:
    # What the build added to the base, deleted files aside: the base is Amazon's.
    layer = images.cloud.directory / "layers" / images.image
    seeded = [value.encode() for each in ("prod", "verify") for value in images.secrets(each).values()]
    assert len(seeded) == 6
    seeded.append(images.environment["AWS_ACCESS_KEY_ID"].encode())  # what the build itself ran with
    assert list(files_with(layer, seeded, keys=True)) == []


def test_a_file_that_is_whited_out_is_not_taken_for_one_that_is_there(tmp_path: Path) -> None:
    """The reader of layers itself: without this, a leftover of the base could hide from the tests above."""
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    for path in (lower / "a/gone", lower / "a/kept", upper / "a/new"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert set(merged(upper, lower)) == {"/a", "/a/new", "/a/gone", "/a/kept"}
    _white_out(upper / "a/gone")
    assert set(merged(upper, lower)) == {"/a", "/a/new", "/a/kept"}


def _set_ids(tree: Mapping[str, Path]) -> set[str]:
    special = stat.S_ISUID | stat.S_ISGID
    return {name for name, path in tree.items() if path.is_file() and path.lstat().st_mode & special}


def _white_out(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
