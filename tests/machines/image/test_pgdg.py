"""The other route of PostgreSQL's packages: an image of PGDG's is built, verified, booted, and serves old data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support.machines.image import ImageLab
from tests.support.servers import POSTGRESQL

VERSION = "test-pgdg"
EXTENSIONS = ["pg_cron", "pg_trgm", "postgis", "unaccent", "vector"]


@pytest.fixture(scope="module")
def pgdg(images: ImageLab) -> ImageLab:
    """The same cloud, with an image of the other route that has passed its verification."""
    report = images.task("build-ami", "--version", VERSION, "--postgresql-repo", "pgdg", "--json")
    images.task("verify-ami", "--version", VERSION)
    return replace(images, image=json.loads(report)["ami_id"])


@pytest.fixture(scope="module")
def machine(pgdg: ImageLab) -> str:
    return pgdg.serve()


def test_it_serves_with_every_unit_and_extension(pgdg: ImageLab, machine: str) -> None:
    assert pgdg.all_active(machine)
    result = pgdg.query(machine, "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")
    assert result.split() == EXTENSIONS


def test_all_of_postgresql_is_pgdg_s_and_none_of_it_was_compiled(pgdg: ImageLab, machine: str) -> None:
    command = r"rpm -qa --queryformat '%{NAME} %{RELEASE}\n' 'postg*' 'pgvector*' 'pg_cron*' | sort"
    packages = dict(line.split() for line in pgdg.run(machine, command).splitlines())
    extensions = {f"{name}_{POSTGRESQL}" for name in ("postgis35", "pgvector", "pg_cron")}
    assert extensions | {f"postgresql{POSTGRESQL}-server"} <= packages.keys()
    assert not {f"postgresql{POSTGRESQL}-private-libs", "pgvector", "pg_cron"} & packages.keys()
    assert [name for name, release in packages.items() if "PGDG" not in release] == []


def test_the_programs_in_usr_bin_are_those_of_its_directory(pgdg: ImageLab, machine: str) -> None:
    links = pgdg.run(machine, "readlink /usr/bin/postgres /usr/bin/initdb; readlink --canonicalize /usr/bin/psql")
    programs = pgdg.run(machine, f"readlink --canonicalize /usr/pgsql-{POSTGRESQL}/bin/psql")
    assert links.split() == [f"/usr/pgsql-{POSTGRESQL}/bin/postgres", f"/usr/pgsql-{POSTGRESQL}/bin/initdb", programs]
    inventory = json.loads(
        pgdg.run(
            machine,
            'cat /usr/share/zmanim/inventory.json | python3 -c "'
            "import json, sys; inventory = json.load(sys.stdin);"
            "print(json.dumps([inventory['postgresql_repo'], inventory['files']['/usr/bin/postgres']]))\"",
        )
    )
    assert inventory == ["pgdg", {"link": f"/usr/pgsql-{POSTGRESQL}/bin/postgres"}]


def test_a_later_upgrade_is_offered_pgdg_s_packages_alone(pgdg: ImageLab, machine: str) -> None:
    query = f"repoquery --queryformat '%{{reponame}}' 'postgresql{POSTGRESQL}*'"
    offered = pgdg.run(machine, f"dnf --assumeyes --quiet {query} 2>/dev/null")
    assert set(offered.split()) == {f"pgdg{POSTGRESQL}"}


def test_the_package_s_own_unit_stays_off(pgdg: ImageLab, machine: str) -> None:
    assert pgdg.run(machine, f"systemctl is-enabled postgresql-{POSTGRESQL}.service || true") == "disabled"


def test_a_volume_moves_from_one_route_to_the_other_and_back(images: ImageLab, pgdg: ImageLab) -> None:
    first = images.serve(keep=True)
    volume = images.volume_of(first)
    images.query(first, "CREATE TABLE moved AS SELECT ST_AsText(ST_MakePoint(35.2, 31.8)) AS at, '[1,2]'::vector AS v")
    images.terminate(first)
    for lab in (pgdg, images):
        machine = lab.start_with(volume, consent=False)
        lab.expect_ready(machine)
        assert lab.query(machine, "SELECT * FROM moved") == "POINT(35.2 31.8)|[1,2]"
        lab.terminate(machine)
