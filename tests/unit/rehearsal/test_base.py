"""A root file system that somebody brings is unpacked whole, or refused with what it lacks."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tarfile
from pathlib import Path

import pytest
from invoke.program import Program

import tasks
from tests.support.base_archive import BUNDLE, MACHINES, archive
from tests.support.errors import raises
from zmanim_ami.rehearsal import base
from zmanim_ami.rehearsal import run as rehearsing
from zmanim_ami.rehearsal.report import Result
from zmanim_ami.rehearsal.run import Options

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(CERTIFICATE)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_is_unpacked_with_its_modes_however_it_is_compressed(
    tmp_path: Path, certificate: Path, mode: str
) -> None:
    result = base.unpack(archive(tmp_path / "root.tar", mode=mode), tmp_path / "cache", certificate)
    assert (result.root / "etc/last").stat().st_mode & 0o7777 == 0o751
    assert CERTIFICATE in (result.root / BUNDLE).read_bytes()


def test_the_same_file_is_unpacked_once_and_another_one_anew(tmp_path: Path, certificate: Path) -> None:
    one = archive(tmp_path / "one.tar")
    first = base.unpack(one, tmp_path / "cache", certificate)
    shutil.copy(one, tmp_path / "copy.tar")
    assert base.unpack(tmp_path / "copy.tar", tmp_path / "cache", certificate).root == first.root
    other = base.unpack(archive(tmp_path / "two.tar", last="etc/other"), tmp_path / "cache", certificate)
    assert other.root != first.root
    assert other.sha256 != first.sha256
    certificate.write_bytes(CERTIFICATE.replace(b"x", b"y"))
    assert base.unpack(one, tmp_path / "cache", certificate).root != first.root


@pytest.mark.parametrize("name", base.NEEDED)
def test_what_a_container_image_lacks_is_named(tmp_path: Path, certificate: Path, name: str) -> None:
    with raises("base-incomplete") as caught:
        base.unpack(archive(tmp_path / "root.tar", without=name), tmp_path / "cache", certificate)
    assert f"/{name}" in caught.value.found
    assert [each.name for each in (tmp_path / "cache").iterdir() if each.name.startswith("base-")] == []


def test_a_tree_of_another_architecture_is_refused(tmp_path: Path, certificate: Path) -> None:
    other = next(name for name in MACHINES if name != platform.machine())
    with raises("base-incomplete") as caught:
        base.unpack(archive(tmp_path / "root.tar", machine=other), tmp_path / "cache", certificate)
    assert (caught.value.expected, caught.value.found) == (platform.machine(), other)


def test_an_archive_that_is_cut_short_is_not_taken_for_a_whole_one(tmp_path: Path, certificate: Path) -> None:
    path = archive(tmp_path / "root.tar.gz", mode="w:gz")
    os.truncate(path, path.stat().st_size - 20)
    with raises("base-unreadable"):
        base.unpack(path, tmp_path / "cache", certificate)
    with raises("base-unreadable"):
        base.unpack(tmp_path / "nothing.tar", tmp_path / "cache", certificate)


def test_a_member_that_would_leave_the_tree_is_refused(tmp_path: Path, certificate: Path) -> None:
    with raises("base-unreadable"):
        base.unpack(archive(tmp_path / "root.tar", last="../../outside"), tmp_path / "cache", certificate)
    assert list(tmp_path.rglob("outside")) == []


def test_what_docker_puts_into_an_export_is_taken_out(tmp_path: Path, certificate: Path) -> None:
    path = archive(tmp_path / "root.tar")
    with tarfile.open(path, "a") as tar:
        for name in (".dockerenv", "etc/hosts"):
            tar.addfile(tarfile.TarInfo(name))
    root = base.unpack(path, tmp_path / "cache", certificate).root
    assert not (root / ".dockerenv").exists()
    assert "127.0.0.1 localhost" in (root / "etc/hosts").read_text()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], (None, False)),
        (["--base", "root.tar.zst"], (Path("root.tar.zst"), False)),
        (["--base", "root.tar.zst", "--egress"], (Path("root.tar.zst"), True)),
    ],
)
def test_the_task_hands_the_file_and_the_way_out_on(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    meant: tuple[Path | None, bool],
) -> None:
    requested: list[Options] = []

    def rehearse(options: Options) -> Result:
        requested.append(options)
        return Result(options.version, base={"file": "f", "sha256": "s"} if meant[0] else None)

    monkeypatch.setattr(rehearsing, "rehearse", rehearse)
    Program(namespace=tasks.namespace).run(["inv", "rehearse", "--version", "v1.0.0", *given, "--json"], exit=False)
    assert [(options.base, options.egress) for options in requested] == [meant]
    assert json.loads(capsys.readouterr().out)["base"] == ({"file": "f", "sha256": "s"} if meant[0] else None)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host whose files an archive would like to write."""
    host = tmp_path / "host"
    for name in ("cloud/cloud.cfg.d", "systemd/network", "systemd/system", "pki/tls/certs", "yum.repos.d"):
        (host / name).mkdir(parents=True)
    (host / "hosts").write_text("")
    (host / "pki/tls/certs/ca-bundle.crt").write_text("the host's own\n")
    (host / "yum.repos.d/x.repo").write_text("[host]\nbaseurl = https://example.org/\n")
    return host


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.incident("--base FILE with etc as a link to an absolute path made root write outside its tree")
@pytest.mark.parametrize(
    "linked", ["etc", "etc/cloud", "etc/hosts", "etc/systemd/network", "etc/pki/tls/certs/ca-bundle.crt", "etc/pki"]
)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_tree_whose_links_lead_out_of_it_makes_nothing_be_written_there(
    tmp_path: Path, certificate: Path, host: Path, linked: str, absolute: bool
) -> None:
    before = contents(host)
    target = str(host / linked.removeprefix("etc").lstrip("/"))
    path = tmp_path / "root.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo(linked)
        link.type = tarfile.SYMTYPE
        link.linkname = target if absolute else "../" * 30 + target.lstrip("/")
        tar.addfile(link)
        with tarfile.open(archive(tmp_path / "rest.tar")) as rest:
            for member in rest:
                if not member.name.startswith("etc/"):
                    tar.addfile(member, rest.extractfile(member))
    result = base.unpack(path, tmp_path / "cache", certificate)
    assert contents(host) == before
    # Links mean what they mean to the guest: they begin at the tree.
    written = [each for each in result.root.rglob("99-localcloud.cfg") if each.is_file()]
    assert len(written) == 1
    base.check_repositories(result)


def test_a_link_that_goes_round_is_refused_and_not_followed_for_ever(tmp_path: Path, certificate: Path) -> None:
    path = archive(tmp_path / "root.tar", last="usr/last")
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("etc/cloud")
        link.type, link.linkname = tarfile.SYMTYPE, "cloud"
        tar.addfile(link)
    with pytest.raises(OSError, match="go round"):
        base.unpack(path, tmp_path / "cache", certificate)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_in_the_place_of_a_file_is_replaced_and_not_written_to(tmp_path: Path, certificate: Path) -> None:
    path = archive(tmp_path / "root.tar")
    with tarfile.open(path, "a") as tar:
        device = tarfile.TarInfo("etc/cloud/cloud.cfg.d/99-localcloud.cfg")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 7  # /dev/full: a write would fail
        tar.addfile(device)
    written = base.unpack(path, tmp_path / "cache", certificate).root / "etc/cloud/cloud.cfg.d/99-localcloud.cfg"
    assert written.is_file()
