from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.support import ROOT
from zmanim_ami.rehearsal.standin.packages import INSTALLED, MIRRORED, PAYLOAD, Catalogue, Package, load, required_by

PACKER = ROOT / "infrastructure/packer"
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


def of_key(catalogue: Catalogue, key: str) -> Package:
    return next(package for package in catalogue.packages if package.key == key)


def pinned() -> list[tuple[str, dict[str, Any]]]:
    """Every package that the image installs by either route."""
    versions = json.loads((PACKER / "versions.json").read_text())
    return [*versions["packages"].items(), *versions["pgdg_packages"].items()]


def carried(catalogue: Catalogue, key: str, path: str) -> bool:
    source = next(source for source in of_key(catalogue, key).sources if source.package == "postgresql-17")
    wanted = not source.only or any(fnmatchcase(path, pattern) for pattern in source.only)
    return wanted and not any(fnmatchcase(path, pattern) for pattern in source.without)


def test_every_requirement_is_a_package_of_the_catalogue(catalogue: Catalogue) -> None:
    for package in catalogue.packages:
        required_by(package, catalogue.packages)


def test_requirements_of_requirements_count(catalogue: Catalogue) -> None:
    contrib = of_key(catalogue, "amazonlinux/postgresql17-contrib")
    assert required_by(contrib, catalogue.packages) == {
        "amazonlinux/postgresql17-server",
        "amazonlinux/postgresql17",
        "amazonlinux/postgresql17-private-libs",
    }


def test_of_two_packages_of_one_name_the_one_of_the_same_repository_is_required(catalogue: Catalogue) -> None:
    contrib = of_key(catalogue, "pgdg17/postgresql17-contrib")
    assert required_by(contrib, catalogue.packages) == {
        "pgdg17/postgresql17-server",
        "pgdg17/postgresql17",
        "pgdg17/postgresql17-libs",
    }


def test_what_nothing_provides_is_told() -> None:
    with pytest.raises(KeyError, match="libnothing"):
        required_by(Package("a", "amazonlinux", requires=("libnothing",)), ())


def test_all_that_the_image_installs_is_to_be_had_where_it_says(catalogue: Catalogue) -> None:
    offered = {package.key for package in catalogue.packages}
    for name, package in pinned():
        in_the_image = name in catalogue.carried or f"{INSTALLED}/{name}" in offered
        assert in_the_image or f"{package['repository']}/{name}" in offered, name


def test_pgdg_s_repositories_come_with_a_package_of_the_mirror(catalogue: Catalogue) -> None:
    (package,) = (package for package in catalogue.packages if package.repository == MIRRORED)
    assert MIRRORED not in catalogue.repositories()
    (definition,) = (path for path in package.payload.rglob("*") if path.is_file())
    assert definition.parent == package.payload / "etc/yum.repos.d"
    assert "[pgdg17]" in definition.read_text()


def test_versions_that_are_made_up_are_new_enough_for_the_image(catalogue: Catalogue) -> None:
    versions = {package.name: package.version for package in catalogue.packages if package.version}
    for name, package in pinned():
        if name in versions:
            assert numbers(versions[name]) >= numbers(package["minimum"]), name


def test_all_that_the_image_is_compiled_with_is_offered(catalogue: Catalogue) -> None:
    script = (PACKER / "scripts/build-rpm.sh").read_text()
    match = re.search(r"BUILD_PACKAGES=\(([^)]*)\)", script)
    assert match
    assert set(match[1].split()) <= {package.name for package in catalogue.packages if package.repository != INSTALLED}


@pytest.mark.parametrize("repository", ["amazonlinux", "pgdg17"])
@pytest.mark.parametrize("module", SERVERS_OWN + CONTRIBS)
def test_a_module_of_postgresql_belongs_to_the_server_or_to_contrib(
    catalogue: Catalogue, module: str, repository: str
) -> None:
    path = f"./usr/lib/postgresql/17/lib/{module}"
    both = ("postgresql17-server", "postgresql17-contrib")
    owners = {name for name in both if carried(catalogue, f"{repository}/{name}", path)}
    assert owners == {"postgresql17-contrib" if module in CONTRIBS else "postgresql17-server"}


def test_an_extension_of_contrib_is_not_there_without_contrib(catalogue: Catalogue) -> None:
    control = "./usr/share/postgresql/17/extension/pg_trgm.control"
    assert not carried(catalogue, "amazonlinux/postgresql17-server", control)
    assert carried(catalogue, "amazonlinux/postgresql17-contrib", control)


def test_every_directory_of_own_files_belongs_to_a_package(catalogue: Catalogue) -> None:
    assert set(PAYLOAD.iterdir()) <= {package.payload for package in catalogue.packages}


def test_units_that_a_package_handles_are_among_its_files(catalogue: Catalogue) -> None:
    for package in catalogue.packages:
        for unit in package.units:
            assert (package.payload / "usr/lib/systemd/system" / unit).is_file(), unit


def test_a_packages_debian_cluster_tools_are_never_followed(catalogue: Catalogue) -> None:
    assert catalogue.left_out("postgresql-common")
    assert catalogue.left_out("libllvm19")
    assert not catalogue.left_out("libpq5")
