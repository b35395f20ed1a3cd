"""A bundle is unpacked only when it is exactly a release for this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.release_files import files, packed, program
from tests.unit.pipeline.ami.test_binary import tree
from zmanim_ami.pipeline.ami import binary
from zmanim_ami.pipeline.channel import bucket
from zmanim_ami.toolchain.environment import user_cache
from zmanim_ami.toolchain.go import go
from zmanim_host.host import HostError
from zmanim_host.release.bundle import build_info, check_build, check_elf, check_whole, unpack


def unpacked(directory: Path, content: bytes, version: str = "v1.2.3") -> Path:
    directory.mkdir(exist_ok=True)
    unpack(content, directory, version)
    return directory


def test_a_bundle_is_unpacked_as_it_was_packed(tmp_path: Path) -> None:
    made = unpacked(tmp_path / "out", packed(files()))
    result = {str(path.relative_to(made)): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert result == files()
    modes = {path.name: path.stat().st_mode & 0o777 for path in made.rglob("*") if path.is_file()}
    assert modes == {"zmanim-api": 0o755, "manifest.json": 0o644, "20260101000000_one.sql": 0o644}


def test_what_the_pipeline_builds_and_packs_is_what_an_instance_takes(tmp_path: Path) -> None:
    bundle = binary.build(tree(tmp_path / "api"), "v1.2.3", "abc", tmp_path / "bundles", go(user_cache()))
    content = bucket.archive(bundle.directory)
    assert content == bucket.archive(bundle.directory)
    program = (bundle.directory / binary.PROGRAM).read_bytes()
    made = unpacked(tmp_path / "out", content)
    assert (made / "zmanim-api").read_bytes() == program
    assert build_info(program).package == "example/api/cmd/api"
    assert build_info(program).go == go(user_cache()).version


def test_build_information_names_the_modules_that_are_linked_and_of_a_replaced_one_what_replaces_it() -> None:
    lines = [
        "example/api/cmd/api",
        "mod\texample/api\t(devel)\t",
        "dep\tgithub.com/jackc/pgx/v5\tv5.8.0\th1:abc=",
        "dep\texample/old\tv1.0.0",
        "=>\texample/new\tv1.0.1\th1:def=",
        "dep\tgolang.org/x/text\tv0.29.0\th1:ghi=",
    ]
    info = build_info(program(package="\n".join(lines)))
    assert (info.go, info.package) == ("go1.26.8", "example/api/cmd/api")
    assert info.modules == {
        "github.com/jackc/pgx/v5": "v5.8.0",
        "example/new": "v1.0.1",
        "golang.org/x/text": "v0.29.0",
    }
    assert info.settings["GOARCH"] == "arm64"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"../zmanim-host": b""}, "'../zmanim-host', which does not belong there"),
        ({"/etc/passwd": b""}, "'/etc/passwd', which does not belong there"),
        ({"migrations/../../x.sql": b""}, "does not belong there"),
        ({"migrations/20260101000000_one.sql.sh": b""}, "does not belong there"),
        ({"migrations/20260102000000_more.sql": b""}, "migrations are not those of its manifest"),
        ({"manifest.json": b"{"}, "is not whole"),
        ({"manifest.json": b"[]"}, "is not whole"),
        (files(sql=b"SELECT 1;\n-- +goose Down\n"), "20260101000000_one.sql, line 2: '-- +goose Down'"),
        ({"zmanim-api": program() + b"x"}, "another one than its manifest and the channel say"),
        (files("v1.2.2"), "another one than its manifest and the channel say"),
        (files(content=program(machine=62)), "for another machine (ELF machine 62"),
        (files(content=program(GOARCH="amd64")), "not the API built for linux/arm64"),
        (files(content=program(CGO_ENABLED="1")), "not the API built for linux/arm64"),
        (files(content=program(package="example/other")), "not the API built for linux/arm64"),
        (files(content=program(package="example/notcmd/api")), "not the API built for linux/arm64"),
        (files(content=program()[:128]), "was not built by Go"),
        (files(content=b"#!/bin/sh\n"), "not a 64-bit ELF program"),
        (files(content=program()[:-40]), "cut short"),
    ],
)
def test_what_is_no_release_for_this_machine_is_refused(tmp_path: Path, change: dict[str, bytes], reason: str) -> None:
    with pytest.raises(HostError) as raised:
        unpacked(tmp_path / "out", packed({**files(), **change}))
    assert reason in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("lack", ["zmanim-api", "manifest.json", "migrations/20260101000000_one.sql"])
def test_a_bundle_that_lacks_a_part_is_refused(tmp_path: Path, lack: str) -> None:
    with pytest.raises(HostError, match=r"not whole|not those of its manifest"):
        unpacked(tmp_path / "out", packed({name: part for name, part in files().items() if name != lack}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S"])
def test_nothing_but_plain_files_is_unpacked(tmp_path: Path, kind: bytes) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo("zmanim-api")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(HostError):
        unpacked(tmp_path / "out", gzip.compress(content.getvalue()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["migrations"]


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("manifest.json"))
    with pytest.raises(HostError, match="twice"):
        unpacked(tmp_path / "out", gzip.compress(content.getvalue()))


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="larger than"):
        unpack(packed({"zmanim-api": bytes(4 << 20)}), tmp_path, "v1.2.3", largest=1 << 20)


def test_a_truncated_bundle_or_another_one_is_refused_before_it_is_unpacked() -> None:
    content = packed(files())
    sha256 = hashlib.sha256(content).hexdigest()
    check_whole(content, sha256=sha256, size=len(content))
    with pytest.raises(HostError, match=f"has {len(content) - 1} bytes, and should have {len(content)}"):
        check_whole(content[:-1], sha256=sha256, size=len(content))
    with pytest.raises(HostError, match="SHA-256"):
        check_whole(content[:-1] + b"x", sha256=sha256, size=len(content))


@given(st.binary(max_size=400), st.integers(0, 200))
def test_any_bytes_end_in_an_error_and_never_in_anything_else(content: bytes, cut: int) -> None:
    for some in (content, program()[: 128 + cut] + content, packed(files())[:cut] + content):
        for check in (check_elf, lambda part: check_build(build_info(part))):
            with suppress(HostError):
                check(some)


@given(st.binary(max_size=400), st.integers(0, 300))
def test_any_archive_that_is_damaged_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cut: int
) -> None:
    good = packed(files())
    directory = tmp_path_factory.mktemp("damaged")
    with pytest.raises(HostError):
        unpacked(directory, good[:cut] + content)
