"""The stand-in is the tree by other names, and what makes it a guest of one cloud is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.base_archive import elf_program
from zmanim_ami.rehearsal.standin import assembly

BUNDLE = "etc/ssl/certs/ca-certificates.crt"
DIGEST = "0123456789abcdef"


@pytest.mark.incident("the tree and the stand-in, which differ in six files, were 2.1 of the cache's 7 GB")
def test_the_stand_in_shares_its_files_with_the_tree_and_changes_none_of_them_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / f"standin-tree-{DIGEST}"
    files = {f"root/{BUNDLE}": "a certificate\n", "root/usr/bin/true": "a program", "mirror/redis.tar.gz": "sources"}
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "root" / BUNDLE).chmod(0o640)
    (tree / "root/etc/resolv.conf").symlink_to("/run/resolv.conf")
    certificate, restic = tmp_path / "authority.pem", tmp_path / "restic"
    certificate.write_text("the cloud's\n")
    restic.write_bytes(elf_program("aarch64") + b"\tgithub.com/restic/restic\tv0.19.1\n")
    monkeypatch.setattr(assembly, "build_tree", lambda _cache: tree)

    standin = assembly.build(tmp_path, certificate, restic)

    assert (standin / "root/usr/bin/true").samefile(tree / "root/usr/bin/true")
    assert (standin / "mirror/redis.tar.gz").samefile(tree / "mirror/redis.tar.gz")
    assert "the cloud's" in (standin / "root" / BUNDLE).read_text()
    assert (standin / "root" / BUNDLE).stat().st_mode & 0o777 == 0o640
    assert {name: (tree / name).read_text() for name in files} == files
    assert (tree / "root/etc/resolv.conf").readlink() == Path("/run/resolv.conf")
    assert [path.name for path in (tree / "mirror").iterdir()] == ["redis.tar.gz"]
    assert len(list((standin / "mirror").iterdir())) == 2
