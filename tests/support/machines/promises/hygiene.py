"""What must not be in an image, read from its files without booting it: a boot would make half of it anew."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Mapping
from pathlib import Path

from tests.support.machines.image import ImageLab

# What an image shows: its paths, and the file of the host that is there.
Tree = Mapping[str, Path]

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


def left_of_the_builder(tree: Tree, what: str) -> list[str]:
    """Return the paths of that kind (a key of GONE) which are in the image."""
    return [name for name in sorted(tree) for pattern in GONE[what] if fnmatch.fnmatchcase(name, pattern)]


def expect_no_identity(tree: Tree) -> None:
    """The image has no identity, no password, and no key that opens it."""
    # Empty, not absent and not "uninitialized": those would make the next boot one that applies every preset.
    assert tree["/etc/machine-id"].read_bytes() == b""
    keys = [name for name in tree if fnmatch.fnmatchcase(name, "*/authorized_keys*")]
    assert keys
    assert [name for name in keys if tree[name].stat().st_size] == []
    shadow = dict(line.split(":")[:2] for line in tree["/etc/shadow"].read_text().splitlines())
    assert shadow["root"].startswith(("!", "*"))
    assert [name for name, password in shadow.items() if not password.startswith(("!", "*"))] == []


def expect_empty_logs(tree: Tree) -> None:
    """Every log is empty, those of logins and boots among them."""
    logs = [name for name in tree if name.startswith("/var/log/") and tree[name].is_file()]
    assert logs
    assert [name for name in logs if tree[name].stat().st_size and not tree[name].is_symlink()] == []


def expect_closed_modes(tree: Tree, base: Tree) -> None:
    """Nothing can be written by everybody, and no program has a setuid bit that it has not in the base."""
    modes = {name: path.lstat().st_mode for name, path in tree.items()}
    open_files = [name for name, mode in modes.items() if stat.S_ISREG(mode) and mode & stat.S_IWOTH]
    # A directory of everybody's is one where each can only remove what is theirs: /tmp and the like.
    sticky = stat.S_IWOTH | stat.S_ISVTX
    open_folders = [name for name, mode in modes.items() if stat.S_ISDIR(mode) and mode & sticky == stat.S_IWOTH]
    assert (open_files, open_folders) == ([], [])
    assert _set_ids(tree) == _set_ids(base)


def secrets_of_the_build(images: ImageLab) -> list[bytes]:
    """Return what no image may hold: the account's secrets, and the key that the build itself ran with."""
    seeded = [value.encode() for each in ("prod", "verify") for value in images.secrets(each).values()]
    assert len(seeded) == 6
    return [*seeded, images.environment["AWS_ACCESS_KEY_ID"].encode()]


def _set_ids(tree: Tree) -> set[str]:
    special = stat.S_ISUID | stat.S_ISGID
    return {name for name, path in tree.items() if path.is_file() and path.lstat().st_mode & special}
