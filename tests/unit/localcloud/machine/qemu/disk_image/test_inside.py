"""What is put into a disk image's root file system lies where it belongs, and nothing outside of it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localcloud.machine.qemu import base_disk
from localcloud.machine.qemu.disk_image import inside

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
BUNDLE = "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree that has what an image has to have."""
    path = tmp_path / "root"
    for name in (*inside.NEEDED, "boot/vmlinuz-6.12.1.amzn2023", "boot/initramfs.img", BUNDLE):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"{name}\n")
    return path


@pytest.fixture
def over(tmp_path: Path) -> Path:
    base_disk.lay_guest(tmp_path / "over")
    return tmp_path / "over"


def put(root: Path, over: Path) -> list[str]:
    return inside.put(root, CERTIFICATE, over, root.parent / "kernel")


def test_the_cloud_is_trusted_and_its_agent_wanted_and_the_kernel_known(root: Path, over: Path) -> None:
    assert put(root, over) == []
    assert CERTIFICATE.strip() in (root / BUNDLE).read_bytes()
    assert "Ec2" in (root / "etc/cloud/cloud.cfg.d/99-localcloud.cfg").read_text()
    wanted = root / "usr/lib/systemd/system/sysinit.target.wants/localcloud-agent.service"
    assert wanted.resolve(strict=True) == root / base_disk.PLACES["localcloud-agent.service"]
    assert all((root / place).is_file() for place in base_disk.PLACES.values())
    assert (root.parent / "kernel").read_text() == "boot/vmlinuz-6.12.1.amzn2023\n"


def test_doing_it_again_is_harmless(root: Path, over: Path) -> None:
    put(root, over)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert put(root, over) == []
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", [*inside.NEEDED, "boot/vmlinuz-6.12.1.amzn2023"])
def test_what_is_missing_is_said_and_nothing_is_written(root: Path, over: Path, name: str) -> None:
    (root / name).unlink()
    (lacking,) = put(root, over)
    assert lacking.startswith(f"/{name}"[:13])
    assert not (root / "etc/cloud").exists()
    assert not (root.parent / "kernel").exists()


def test_a_kernel_that_is_a_link_out_of_the_image_is_none(root: Path, over: Path) -> None:
    kernel = root / "boot/vmlinuz-6.12.1.amzn2023"
    kernel.unlink()
    kernel.symlink_to("/etc/hostname")
    assert put(root, over) == ["/boot/vmlinuz-*"]


@pytest.mark.parametrize("link", ["usr/lib/localcloud", "usr/lib/udev", "etc/cloud", "usr/lib/systemd/system", "etc"])
def test_a_link_in_the_image_leads_nobody_out_of_it(root: Path, over: Path, tmp_path: Path, link: str) -> None:
    """The image's maker could have one at any place that is written to: as root that would be a file of this host."""
    (tmp_path / "outside").mkdir()
    place = root / link
    if place.exists():
        place.rename(place.with_name("elsewhere"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(tmp_path / "outside")
    assert put(root, over) == []
    assert list((tmp_path / "outside").iterdir()) == []
    # Where the image's own processes look, the files are.
    assert (root / str(tmp_path / "outside").lstrip("/")).is_dir()


def test_a_tree_that_can_t_be_written_is_said_in_the_system_s_words(root: Path, over: Path, tmp_path: Path) -> None:
    (root / "usr/lib/udev").write_text("a file, where a directory belongs")
    (tmp_path / "ca.pem").write_bytes(CERTIFICATE)
    with pytest.raises(SystemExit, match=r"can't be written to: .*Not a directory"):
        _main(root, over)


def test_what_is_missing_is_written_for_who_started_it(root: Path, over: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(CERTIFICATE)
    (root / "usr/bin/cloud-init").unlink()
    _main(root, over)
    assert json.loads((tmp_path / "lacking").read_text()) == ["/usr/bin/cloud-init"]


def _main(root: Path, over: Path) -> None:
    inside.main(str(root), *(str(root.parent / name) for name in ("ca.pem", over.name, "kernel", "lacking")))
