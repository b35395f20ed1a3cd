from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from tests.support.errors import raises
from zmanim_ami.rehearsal.standin import debian, mirror

SOURCES = """\
deb http://mirror.example/debian trixie main
deb http://mirror.example/debian trixie-updates main
deb [signed-by="/k.gpg"] http://security.example/debian-security trixie-security main
"""


def test_sources_come_from_where_the_tree_came_from() -> None:
    lines = debian.derived_sources(SOURCES).splitlines()
    assert "deb-src http://mirror.example/debian trixie main" in lines
    assert "deb-src http://mirror.example/debian bookworm-updates main" in lines
    assert 'deb-src [signed-by="/k.gpg"] http://security.example/debian-security bookworm-security main' in lines


def test_sources_that_name_no_known_suite_are_refused() -> None:
    with raises("suite-unknown"):
        debian.derived_sources("deb http://mirror.example/debian sid main\n")


def test_too_little_disk_is_said_before_anything_is_downloaded(tmp_path: Path) -> None:
    with raises("too-little-disk") as caught:
        debian.check_disk(tmp_path, needed=1 << 60)
    assert "GB free" in caught.value.found


def test_upstream_archives_get_the_names_that_the_versions_file_looks_for(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in (
        "redis_7.0.15.orig.tar.gz",
        "redis_7.0.15-1.dsc",
        "pgvector_0.8.0.orig.tar.gz",
        "pg-cron_1.6.5.orig.tar.gz",
    ):
        (sources / name).write_bytes(name.encode())

    mirror.collect(sources, {"pg-cron": tmp_path / "never-read.deb"}, tmp_path / "mirror")

    names = sorted(path.name for path in (tmp_path / "mirror").iterdir())
    assert names == ["pg_cron-1.6.5.tar.gz", "pgvector-0.8.0.tar.gz", "redis-7.0.15.tar.gz"]
    assert (tmp_path / "mirror/redis-7.0.15.tar.gz").read_bytes() == b"redis_7.0.15.orig.tar.gz"


def test_a_source_that_nothing_replaces_is_missed(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    with raises("source-missing", match="redis"):
        mirror.collect(tmp_path / "sources", {"pg-cron": tmp_path / "x.deb"}, tmp_path / "mirror")


@pytest.mark.parametrize(("machine", "architecture"), [(183, "arm64"), (62, "amd64")])
def test_restic_is_packed_under_the_version_and_the_processor_that_it_says_itself(
    tmp_path: Path, machine: int, architecture: str
) -> None:
    program = tmp_path / "restic"
    # Its machine, and the size of the entries of a table that is empty.
    header = b"\x7fELF\x02\x01".ljust(18, b"\0") + machine.to_bytes(2, "little").ljust(36, b"\0") + b"\x38"
    program.write_bytes(header.ljust(64, b"\0") + b"dep\tgithub.com/restic/restic\tv0.19.1\th1:x=\n...")
    packed = mirror.add_restic(tmp_path, program)
    assert packed.name == f"restic_0.19.1_linux_{architecture}.bz2"
    assert bz2.decompress(packed.read_bytes()) == program.read_bytes()


def test_a_package_to_download_gets_the_name_that_the_versions_file_looks_for(tmp_path: Path) -> None:
    built = tmp_path / "pgdg-redhat-repo-42.0-67.standin.noarch.rpm"
    built.write_text("package")
    (tmp_path / "mirror").mkdir()
    mirror.add_packages(tmp_path / "mirror", tmp_path)
    assert (tmp_path / "mirror/pgdg_repo-42.0.noarch.rpm").read_text() == "package"


def test_another_program_is_not_taken_for_restic(tmp_path: Path) -> None:
    (tmp_path / "restic").write_bytes(b"\x7fELF of something else")
    with raises("not-restic"):
        mirror.add_restic(tmp_path, tmp_path / "restic")
