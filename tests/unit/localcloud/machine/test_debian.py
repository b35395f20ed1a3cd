"""The plain base, and how mmdebstrap is called and heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcloud.machine import debian
from tests.support.errors import raises
from tests.support.programs import arguments, on_path


def test_a_failing_mmdebstrap_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # setpriv is what starts everything.
    on_path(tmp_path, monkeypatch, {"setpriv": "echo 'E: no valid OpenPGP signature'; exit 1"})
    with raises("base-not-made") as caught:
        debian.make_tree(tmp_path / "root", tmp_path / "downloads", print)
    assert "E: no valid OpenPGP signature" in caught.value.found


def test_the_mirror_of_the_setting_is_the_one_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch, {"setpriv": "exit 0"})
    debian.make_tree(tmp_path / "root", tmp_path / "downloads", print)
    monkeypatch.setenv(debian.MIRROR_VARIABLE, "http://mirror.example/debian")
    debian.make_tree(tmp_path / "root", tmp_path / "downloads", print)
    first, second = arguments(tmp_path, "setpriv")
    assert first[-2:] == ["trixie", str(tmp_path / "root")]
    assert second[-1] == "http://mirror.example/debian"


def test_without_mmdebstrap_the_package_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with raises("programs-missing") as caught:
        debian.plain_base(tmp_path / "cache", tmp_path / "ca.pem", search=str(tmp_path))
    assert caught.value.exit_code == 3
    assert "apt-get install --yes mmdebstrap" in caught.value.fix
    assert not (tmp_path / "cache").exists()


def test_a_plain_base_is_of_the_host_s_processor_and_debian_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path, monkeypatch, {"setpriv": 'for root; do :; done; mkdir -p "$root/etc"', "mmdebstrap": "exit 1"})
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    image = debian.plain_base(tmp_path / "cache", tmp_path / "ca.pem")
    assert (image.name, image.architecture, image.owner_alias) == ("debian-13-arm64", "arm64", "")
    assert (image.root / "etc/cloud/cloud.cfg.d/99-localcloud.cfg").is_file()
    assert debian.plain_base(tmp_path / "cache", tmp_path / "ca.pem").root == image.root
    assert len(arguments(tmp_path, "setpriv")) == 1


def test_a_processor_that_ec2_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with raises("architecture-missing"):
        debian.architecture_of_host()
