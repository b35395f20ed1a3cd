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
