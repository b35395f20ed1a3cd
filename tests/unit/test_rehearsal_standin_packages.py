from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from rehearsal.standin.packages import INSTALLED, PAYLOAD, Catalogue, load, required_by

PACKER = Path(__file__).parents[2] / "infrastructure/packer"
SERVERS_OWN = (
    "plpgsql.so",
    "dict_snowball.so",
    "libpqwalreceiver.so",
    "pgoutput.so",
    "euc_jp_and_sjis.so",
    "utf8_and_win.so",
)
CONTRIBS = (
    "pg_trgm.so",
    "unaccent.so",
    "hstore.so",
    "postgres_fdw.so",
    "pgcrypto.so",
    "_int.so",
    "dict_int.so",
    "citext.so",
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load("x86_64-linux-gnu")


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def carried(catalogue: Catalogue, package: str, path: str) -> bool:
    source = next(s for p in catalogue.packages if p.name == package for s in p.sources if s.package == "postgresql-17")
    wanted = not source.only or any(fnmatchcase(path, pattern) for pattern in source.only)
    return wanted and not any(fnmatchcase(path, pattern) for pattern in source.without)


def test_every_requirement_is_a_package_of_the_catalogue(catalogue: Catalogue) -> None:
    for package in catalogue.packages:
        required_by(package, catalogue.packages)


def test_requirements_of_requirements_count(catalogue: Catalogue) -> None:
    contrib = next(package for package in catalogue.packages if package.name == "postgresql17-contrib")
    assert required_by(contrib, catalogue.packages) == {
        "postgresql17-server",
        "postgresql17",
        "postgresql17-private-libs",
    }


def test_all_that_the_image_installs_is_to_be_had_where_it_says(catalogue: Catalogue) -> None:
    offered = {package.name: package.repository for package in catalogue.packages}
    for name, pinned in json.loads((PACKER / "versions.json").read_text())["packages"].items():
        there = offered.get(name, INSTALLED if name in catalogue.carried else "nowhere")
        assert there in (pinned["repository"], INSTALLED), name


def test_versions_that_are_made_up_are_new_enough_for_the_image(catalogue: Catalogue) -> None:
    versions = {package.name: package.version for package in catalogue.packages if package.version}
    for name, pinned in json.loads((PACKER / "versions.json").read_text())["packages"].items():
        if name in versions:
            assert numbers(versions[name]) >= numbers(pinned["minimum"]), name


def test_all_that_the_image_is_compiled_with_is_offered(catalogue: Catalogue) -> None:
    script = (PACKER / "scripts/build-rpm.sh").read_text()
    match = re.search(r"BUILD_PACKAGES=\(([^)]*)\)", script)
    assert match
    assert set(match[1].split()) <= {package.name for package in catalogue.packages if package.repository != INSTALLED}


@pytest.mark.parametrize("module", SERVERS_OWN + CONTRIBS)
def test_a_module_of_postgresql_belongs_to_the_server_or_to_contrib(catalogue: Catalogue, module: str) -> None:
    path = f"./usr/lib/postgresql/17/lib/{module}"
    owners = {name for name in ("postgresql17-server", "postgresql17-contrib") if carried(catalogue, name, path)}
    assert owners == {"postgresql17-contrib" if module in CONTRIBS else "postgresql17-server"}


def test_an_extension_of_contrib_is_not_there_without_contrib(catalogue: Catalogue) -> None:
    control = "./usr/share/postgresql/17/extension/pg_trgm.control"
    assert not carried(catalogue, "postgresql17-server", control)
    assert carried(catalogue, "postgresql17-contrib", control)


def test_every_directory_of_own_files_belongs_to_a_package(catalogue: Catalogue) -> None:
    names = {package.name for package in catalogue.packages}
    assert {path.name for path in PAYLOAD.iterdir()} <= names


def test_units_that_a_package_handles_are_among_its_files(catalogue: Catalogue) -> None:
    for package in catalogue.packages:
        for unit in package.units:
            assert (PAYLOAD / package.name / "usr/lib/systemd/system" / unit).is_file(), unit


def test_a_packages_debian_cluster_tools_are_never_followed(catalogue: Catalogue) -> None:
    assert catalogue.left_out("postgresql-common")
    assert catalogue.left_out("libllvm19")
    assert not catalogue.left_out("libpq5")
