"""Machines with a kernel of their own: what they need is asked for, built apart, and only for them."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import pytest

from localcloud.machine.qemu import acceleration, base_disk
from localcloud.settings import NSPAWN, QEMU
from tests.support.errors import raises
from tests.support.programs import arguments, on_path
from zmanim_ami.rehearsal import cloud, kernel
from zmanim_ami.rehearsal.cloud import Prepared
from zmanim_ami.rehearsal.host import Host
from zmanim_ami.rehearsal.settings import MachineSettings

# What Debian's package holds, as far as it is looked at; its last argument is the tree.
_EXTRACT = """
for tree; do :; done
mkdir -p "$tree/boot" "$tree/usr/lib/modules/6.12.1-cloud-amd64/kernel"
echo a kernel >"$tree/boot/vmlinuz-6.12.1-cloud-amd64"
"""


def programs(directory: Path, monkeypatch: pytest.MonkeyPatch, mmdebstrap: str = _EXTRACT) -> None:
    """Programs in the place of those that need root or a network: namespaces are left out."""
    unshare = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'
    on_path(directory, monkeypatch, {"mmdebstrap": mmdebstrap, "unshare": unshare})


def prepared(directory: Path) -> Prepared:
    return Prepared(directory / "tree", None, directory, directory / "versions.json", ())


def test_a_kernel_is_fetched_once_and_kept_with_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch)
    first, again = kernel.fetch(tmp_path / "cache"), kernel.fetch(tmp_path / "cache")
    assert first == again
    assert first.image.read_text() == "a kernel\n"
    assert first.modules.name == "6.12.1-cloud-amd64"
    assert sorted(path.name for path in first.image.parent.iterdir()) == ["modules", "vmlinuz"]
    (call,) = arguments(tmp_path, "mmdebstrap")
    assert "--variant=extract" in call


@pytest.mark.parametrize(
    "mmdebstrap", ["echo 'E: Unable to fetch' >&2; exit 1", 'for tree; do :; done; mkdir -p "$tree/boot"']
)
def test_a_download_that_fails_or_brings_no_kernel_is_said_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mmdebstrap: str
) -> None:
    programs(tmp_path, monkeypatch, mmdebstrap)
    with raises("kernel-not-downloaded"):
        kernel.fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").glob("kernel-*")) == []


def test_one_disk_is_made_of_each_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch)
    made: list[Path] = []

    def make(tree: Path, _kernel: base_disk.Kernel, _entry: Path, **_options: object) -> None:
        made.append(tree)

    monkeypatch.setattr(base_disk, "make", make)
    trees = [tmp_path / "one", tmp_path / "other", tmp_path / "one"]
    disks = [kernel.base_disk_of(tree, tmp_path / "cache") for tree in trees]
    assert made == trees[:2]
    assert disks[0] == disks[2] != disks[1]


def test_machines_on_the_host_s_kernel_need_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch)
    before = prepared(tmp_path)
    assert cloud.with_machines(before, tmp_path, MachineSettings(NSPAWN)) is before
    assert arguments(tmp_path, "mmdebstrap") == []


def test_a_cloud_of_them_has_the_disk_and_what_accelerates_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "versions.json").write_text('{"base": {"release": "2023.1", "kernel": "6.12"}}')
    monkeypatch.setattr(kernel, "base_disk_of", lambda *_: tmp_path / "disk")
    monkeypatch.setattr(acceleration, "choose", lambda way, *_: {"auto": "kvm"}[way])
    with_own = cloud.with_machines(prepared(tmp_path), tmp_path, MachineSettings(QEMU, "auto"))
    assert with_own == dataclasses.replace(prepared(tmp_path), disk=tmp_path / "disk", accelerator="kvm")
    settings = cloud.settings("own", with_own, tmp_path)
    assert (settings.machines, settings.accelerator, settings.images[0].disk) == (QEMU, "kvm", tmp_path / "disk")
    assert cloud.settings("own", prepared(tmp_path), tmp_path).machines == NSPAWN


def test_a_host_of_another_architecture_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with raises("architecture-missing", match="--machines nspawn") as caught:
        cloud.check_machines(MachineSettings(QEMU))
    assert caught.value.exit_code == 3
    cloud.check_machines(MachineSettings(NSPAWN))


def test_only_who_wants_such_machines_is_told_of_qemu(tmp_path: Path) -> None:
    packages = Host(tmp_path, path=str(tmp_path)).missing_packages()
    more = Host(tmp_path, QEMU, path=str(tmp_path), firmware=tmp_path / "none").missing_packages()
    for_disk_images = {"qemu-system-common", "mtools", "ovmf"}
    assert set(more) - set(packages) == {"qemu-system-x86", "qemu-utils", "e2fsprogs", "kmod", *for_disk_images}
