from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.servers import POSTGRESQL
from zmanim_ami.pipeline.pins import versions
from zmanim_ami.rehearsal.standin.packages import INSTALLED, MIRRORED, PAYLOAD, Catalogue, Package, load, required_by
from zmanim_ami.rehearsal.standin.templates import copy_rendered

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
    return load("x86_64-linux-gnu", POSTGRESQL)


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def of_key(catalogue: Catalogue, key: str) -> Package:
    return next(package for package in catalogue.packages if package.key == key)


def pinned() -> list[tuple[str, dict[str, Any]]]:
    """Every package that the image installs by either route."""
    pins = versions.read(ROOT)
    return [*pins["packages"].items(), *pins["pgdg_packages"].items()]


def carried(catalogue: Catalogue, key: str, path: str) -> bool:
    source = next(source for source in of_key(catalogue, key).sources if source.package == f"postgresql-{POSTGRESQL}")
    wanted = not source.only or any(fnmatchcase(path, pattern) for pattern in source.only)
    return wanted and not any(fnmatchcase(path, pattern) for pattern in source.without)


def test_every_requirement_is_a_package_of_the_catalogue(catalogue: Catalogue) -> None:
    for package in catalogue.packages:
        required_by(package, catalogue.packages)


def test_requirements_of_requirements_count(catalogue: Catalogue) -> None:
    contrib = of_key(catalogue, f"amazonlinux/postgresql{POSTGRESQL}-contrib")
    assert required_by(contrib, catalogue.packages) == {
        f"amazonlinux/postgresql{POSTGRESQL}-server",
        f"amazonlinux/postgresql{POSTGRESQL}",
        f"amazonlinux/postgresql{POSTGRESQL}-private-libs",
    }


def test_of_two_packages_of_one_name_the_one_of_the_same_repository_is_required(catalogue: Catalogue) -> None:
    contrib = of_key(catalogue, f"pgdg{POSTGRESQL}/postgresql{POSTGRESQL}-contrib")
    assert required_by(contrib, catalogue.packages) == {
        f"pgdg{POSTGRESQL}/postgresql{POSTGRESQL}-server",
        f"pgdg{POSTGRESQL}/postgresql{POSTGRESQL}",
        f"pgdg{POSTGRESQL}/postgresql{POSTGRESQL}-libs",
    }


def test_what_nothing_provides_is_told() -> None:
    with pytest.raises(KeyError, match="libnothing"):
        required_by(Package("a", "amazonlinux", requires=("libnothing",)), ())


def test_all_that_the_image_installs_is_to_be_had_where_it_says(catalogue: Catalogue) -> None:
    offered = {package.key for package in catalogue.packages}
    for name, package in pinned():
        in_the_image = name in catalogue.carried or f"{INSTALLED}/{name}" in offered
        assert in_the_image or f"{package['repository']}/{name}" in offered, name


def test_pgdg_s_repositories_come_with_a_package_of_the_mirror(catalogue: Catalogue, tmp_path: Path) -> None:
    (package,) = (package for package in catalogue.packages if package.repository == MIRRORED)
    assert MIRRORED not in catalogue.repositories()
    copy_rendered(package.payload, tmp_path, major=POSTGRESQL, release="1", repositories="/r", signer="/s")
    (definition,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert definition.parent == tmp_path / "etc/yum.repos.d"
    assert f"[pgdg{POSTGRESQL}]" in definition.read_text()


def test_versions_that_are_made_up_are_new_enough_for_the_image(catalogue: Catalogue) -> None:
    made_up = {package.name: package.version for package in catalogue.packages if package.version}
    for name, package in pinned():
        if name in made_up:
            assert numbers(made_up[name]) >= numbers(package["minimum"]), name


def test_all_that_the_image_is_compiled_with_is_offered(catalogue: Catalogue) -> None:
    needed = versions.read(ROOT)["build_packages"]
    assert needed.keys() <= {package.name for package in catalogue.packages if package.repository != INSTALLED}


@pytest.mark.parametrize("repository", ["amazonlinux", f"pgdg{POSTGRESQL}"])
@pytest.mark.parametrize("module", SERVERS_OWN + CONTRIBS)
def test_a_module_of_postgresql_belongs_to_the_server_or_to_contrib(
    catalogue: Catalogue, module: str, repository: str
) -> None:
    path = f"./usr/lib/postgresql/{POSTGRESQL}/lib/{module}"
    both = (f"postgresql{POSTGRESQL}-server", f"postgresql{POSTGRESQL}-contrib")
    owners = {name for name in both if carried(catalogue, f"{repository}/{name}", path)}
    assert owners == {f"postgresql{POSTGRESQL}-contrib" if module in CONTRIBS else f"postgresql{POSTGRESQL}-server"}


def test_an_extension_of_contrib_is_not_there_without_contrib(catalogue: Catalogue) -> None:
    control = f"./usr/share/postgresql/{POSTGRESQL}/extension/pg_trgm.control"
    assert not carried(catalogue, f"amazonlinux/postgresql{POSTGRESQL}-server", control)
    assert carried(catalogue, f"amazonlinux/postgresql{POSTGRESQL}-contrib", control)


def test_every_directory_of_own_files_belongs_to_a_package(catalogue: Catalogue) -> None:
    assert set(PAYLOAD.iterdir()) <= {package.payload for package in catalogue.packages}


def test_units_that_a_package_handles_are_among_its_files(catalogue: Catalogue, tmp_path: Path) -> None:
    copy_rendered(PAYLOAD, tmp_path, major=POSTGRESQL, release="1", repositories="/r", signer="/s")
    for package in catalogue.packages:
        for unit in package.units:
            assert (tmp_path / package.payload.name / "usr/lib/systemd/system" / unit).is_file(), unit


def test_a_packages_debian_cluster_tools_are_never_followed(catalogue: Catalogue) -> None:
    assert catalogue.left_out("postgresql-common")
    assert catalogue.left_out("libllvm19")
    assert not catalogue.left_out("libpq5")
