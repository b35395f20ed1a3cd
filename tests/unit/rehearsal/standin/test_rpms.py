from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from zmanim_ami.rehearsal.standin.packages import Catalogue, Package, Source
from zmanim_ami.rehearsal.standin.rpms import plan, render_carried, render_package, upstream_version
from zmanim_ami.rehearsal.standin.templates import copy_rendered, render

SERVER = Package(
    name="postgresql17-server",
    repository="amazonlinux",
    sources=(Source("postgresql-17", without=("*/contrib",)),),
    requires=("postgresql17",),
    units=("postgresql.service",),
    directories={"/var/lib/pgsql": "0700 postgres"},
    links={"/usr/bin/postmaster": "postgres"},
    before="getent passwd postgres",
)


@pytest.mark.parametrize(
    ("debian", "rpm"),
    [
        ("17.12-0+deb13u1", "17.12"),
        ("3.5.2+dfsg-1", "3.5.2"),
        ("1:10.0p1-7+deb13u4", "10.0p1"),
        ("1%3a2.13-2", "2.13"),
        ("1.3.dfsg+really1.3.1-1", "1.3.dfsg"),
        ("2026f-1", "2026f"),
    ],
)
def test_a_version_of_debian_becomes_one_that_rpm_takes(debian: str, rpm: str) -> None:
    assert upstream_version(debian) == rpm


def test_a_spec_unpacks_each_debian_package_by_its_patterns() -> None:
    debs = [
        (Source("postgresql-17", without=("*/contrib",)), "/d/server.deb"),
        (Source("libpq5", only=("*.so*",)), "/d/libpq5.deb"),
    ]
    lines = render_package(SERVER, "17.12", debs, without=("./usr/share/doc",)).splitlines()
    assert any(line.startswith("dpkg-deb --fsys-tarfile /d/server.deb | tar") for line in lines)
    assert "  --exclude='./usr/share/doc' --exclude='*/contrib' " in lines
    assert "  --exclude='./usr/share/doc' '*.so*' " in lines


def test_a_spec_makes_the_user_before_the_files_that_it_owns() -> None:
    spec = render_package(SERVER, "17.12", [(Source("postgresql-17"), "/d/x.deb")])
    assert "%pre\ngetent passwd postgres\n" in spec
    assert "%dir %attr(0700,postgres,postgres) /var/lib/pgsql\n" in spec


def test_a_service_is_not_enabled_against_its_preset_and_stops_with_its_package() -> None:
    spec = render_package(SERVER, "17.12", [(Source("postgresql-17"), "/d/x.deb")])
    assert "systemctl --no-reload preset postgresql.service" in spec
    assert "systemctl stop postgresql.service" in spec.partition("%preun")[2].partition("%postun")[0]


def test_a_spec_links_programs_from_where_the_package_has_them() -> None:
    programs = replace(SERVER, programs="/usr/lib/postgresql/17/bin")
    assert "%{buildroot}/usr/bin/\n" in render_package(programs, "17.12", [])
    elsewhere = render_package(replace(programs, programs_in="/usr/pgsql-17/bin"), "17.12", [])
    assert "%{buildroot}/usr/pgsql-17/bin/\n" in elsewhere
    assert "%{buildroot}/usr/bin/\n" not in elsewhere


def test_a_package_of_text_alone_fits_every_machine() -> None:
    assert "BuildArch: noarch" in render_package(replace(SERVER, sources=()), "1", [])
    assert "BuildArch" not in render_package(SERVER, "1", [(Source("x"), "/d/x.deb")])
    assert "BuildArch" not in render_package(replace(SERVER, sources=(), moved=("/usr/bin/rpmbuild",)), "1", [])


def test_releasever_comes_from_system_release() -> None:
    spec = render_carried("2023.1.20260101", "13", {"awscli-2": "2.23.6"}, ["libssl.so.3()(64bit)"])
    assert "Provides: system-release(releasever) = 2023.1.20260101\n" in spec
    assert "Provides: libssl.so.3()(64bit)\n" in spec
    assert "%package -n awscli-2\nVersion: 2.23.6\n" in spec


def test_the_largest_package_is_built_first(tmp_path: Path) -> None:
    small, large = tmp_path / "small_1.0_all.deb", tmp_path / "large_2.0_all.deb"
    small.write_bytes(b"x")
    large.write_bytes(b"x" * 9)
    packages = tuple(Package(name, "amazonlinux", (Source(name),)) for name in ("small", "large"))
    specs = plan(
        Catalogue(packages, (), (), {}),
        {"amazonlinux/small": ["small"], "amazonlinux/large": ["large"]},
        {"small": small, "large": large},
    )
    assert list(specs) == ["amazonlinux/large", "amazonlinux/small"]
    assert "Version: 2.0\n" in specs["amazonlinux/large"]


def test_a_name_without_a_value_stops_the_build_instead_of_vanishing() -> None:
    with pytest.raises(UndefinedError):
        render("release {{ relaese }}", release="2023")


def test_templates_lose_their_suffix_and_programs_keep_their_bit(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "etc").mkdir(parents=True)
    (source / "etc/os-release.j2").write_text("VERSION={{ release }}\n")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)

    copy_rendered(source, target, release="2023")

    assert (target / "etc/os-release").read_text() == "VERSION=2023\n"
    assert not (target / "etc/os-release.j2").exists()
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755


def test_a_link_that_is_replaced_leaves_its_target_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "os-release").write_text("new")
    (tmp_path / "host-file").write_text("the host's")
    (target / "os-release").symlink_to(tmp_path / "host-file")

    copy_rendered(source, target)

    assert (tmp_path / "host-file").read_text() == "the host's"
    assert (target / "os-release").read_text() == "new"
