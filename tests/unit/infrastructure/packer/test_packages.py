"""Which packages a build installs by each of PostgreSQL's two routes, as the scripts themselves say it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.servers import POSTGRESQL
from zmanim_ami.pipeline.pins import versions

PACKER = ROOT / "infrastructure/packer"
SCRIPTS = PACKER / "scripts"
NOT_PINNED = "0" * 64


def say(tmp_path: Path, words: str, route: str = "") -> list[str]:
    """Run `words` where the build's functions are, and return the lines."""
    (tmp_path / "versions.json").write_text((PACKER / "versions.json").read_text())
    script = f"set -o errexit -o nounset -o pipefail; . {SCRIPTS}/build-rpm.sh; {words}"
    environment = {
        "STAGING": str(tmp_path),
        "PATH": os.environ["PATH"],
        **({"POSTGRESQL_REPO": route} if route else {}),
    }
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def listed(tmp_path: Path, route: str = "") -> dict[str, str]:
    """The names and repositories of a route's packages."""
    rows = [line.split() for line in say(tmp_path, "package_list", route)]
    return {name: repository for name, _, repository in rows}


def test_without_a_word_postgresql_is_amazon_s(tmp_path: Path) -> None:
    assert listed(tmp_path) == listed(tmp_path, "amazonlinux")
    assert listed(tmp_path)[f"postgresql{POSTGRESQL}-server"] == "amazonlinux"


def test_the_two_routes_never_mix(tmp_path: Path) -> None:
    amazon, pgdg = listed(tmp_path, "amazonlinux"), listed(tmp_path, "pgdg")
    assert f"pgdg{POSTGRESQL}" not in amazon.values()
    ours = ("postgresql", "postgis", "pgvector", "pg_cron")
    assert {repository for name, repository in pgdg.items() if name.startswith(ours)} == {f"pgdg{POSTGRESQL}"}
    assert "amazonlinux-spal" not in pgdg.values()


def test_what_is_not_postgresql_s_is_the_same_by_both_routes(tmp_path: Path) -> None:
    amazon, pgdg = listed(tmp_path, "amazonlinux"), listed(tmp_path, "pgdg")
    common = {name for name, each in versions.read(ROOT)["packages"].items() if "route" not in each}
    assert common == {name for name in amazon if name in pgdg and pgdg[name] != f"pgdg{POSTGRESQL}"}
    assert {"jq", "chrony", "awscli-2"} <= common


@pytest.mark.parametrize("route", ["amazonlinux", "pgdg"])
def test_both_routes_have_a_server_and_every_extension(tmp_path: Path, route: str) -> None:
    names = [*listed(tmp_path, route), *say(tmp_path, 'printf "%s\\n" "${COMPILED[@]}"', route)]
    parts = (f"postgresql{POSTGRESQL}-{part}" for part in ("server", "contrib"))
    for wanted in (*parts, "postgis", "pgvector", "pg_cron"):
        assert any(wanted in name for name in names), wanted


def test_with_pgdg_nothing_of_postgresql_is_compiled(tmp_path: Path) -> None:
    assert say(tmp_path, 'printf "%s\\n" "${COMPILED[@]}"', "pgdg") == ["redis"]
    compilers, all_of_them = (
        [line.split()[0] for line in say(tmp_path, "package_list build_packages", route)]
        for route in ("pgdg", "amazonlinux")
    )
    assert [name for name in all_of_them if name not in compilers] == [
        f"postgresql{POSTGRESQL}-server-devel",
        f"postgresql{POSTGRESQL}-private-devel",
    ]


def test_a_third_route_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="POSTGRESQL_REPO is amazonlinux or pgdg, not debian"):
        say(tmp_path, "package_list", "debian")


def test_only_the_route_that_is_called_unproven_downloads_what_is_not_pinned_yet() -> None:
    unpinned = {name for name, each in versions.read(ROOT)["artifacts"].items() if each["sha256"] == NOT_PINNED}
    assert unpinned <= {"pgdg_repo"}
    readme = (PACKER / "README.md").read_text()
    assert not unpinned or "unproven" in readme


@pytest.mark.incident(
    "ld: cannot open linker script file /builddir/build/BUILD/…/.package_note…: a flag of Amazon's own build"
)
@pytest.mark.parametrize("name", ["pgvector", "pg_cron"])
@pytest.mark.parametrize("program", ["pg_config", "pg_server_config"])
def test_a_flag_that_names_a_file_of_the_package_s_own_build_is_left_out(
    tmp_path: Path, name: str, program: str
) -> None:
    hardened = "-Wl,-z,relro -Wl,-z,now -specs=/usr/lib/rpm/redhat/redhat-hardened-ld"
    note = "-Wl,-dT,/builddir/build/BUILD/postgresql-17.6/.package_note-postgresql17-17.6-1.amzn2023.aarch64.ld"
    (tmp_path / program).write_text(f"#!/bin/sh\n[ $1 = --ldflags ] && echo '{hardened} {note} -Wl,--as-needed'\n")
    (tmp_path / program).chmod(0o755)
    spec = (SCRIPTS / f"specs/{name}.spec").read_text()
    options = "%{make_options}"
    while used := re.search(r"%\{(\w+)\}", options):
        (body,) = re.findall(rf"^%global {used[1]} (.*)$", spec, re.MULTILINE)
        options = options.replace(used[0], body)
    script = f"printf '%s\\n' {options}"
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = subprocess.run(["bash", "-euc", script], env={"PATH": path}, capture_output=True, text=True, check=True)
    values = dict(line.split("=", 1) for line in said.stdout.splitlines())
    assert values["PG_CONFIG"] == str(tmp_path / program)
    assert values["LDFLAGS"].split() == f"{hardened} -Wl,--as-needed".split()
