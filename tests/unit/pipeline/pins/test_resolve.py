"""resolve-packages against a real dnf's output (dnf_outputs/, from a machine of the stand-in)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.process import Completed
from support.version_order import version_key
from tests.support import ROOT
from tests.support.errors import raises
from tests.support.servers import POSTGRESQL
from zmanim_ami.pipeline.pins import resolve, versions
from zmanim_ami.pipeline.pins.resolve import Row, check

OUTPUTS = Path(__file__).parent / "dnf_outputs"
BUILDING = ("gcc", "make", "rpm-build", "systemd-devel", "openssl-devel")
PGDG_PACKAGE = b"PGDG's repository package"
ALL = "(all in one transaction)"


def output(name: str) -> str:
    return (OUTPUTS / f"{name}.txt").read_text()


AMAZON = output("os-release")


class Dnf:
    """A runner that answers from dnf's own output; a test changes `offered` or `transaction` for a defect."""

    def __init__(self) -> None:
        self.offered = output("offered")
        self.installed = output("installed")
        self.transaction = Completed(1, output("would-install"), "")
        self.spal = Completed(0, "", "")
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> Completed:
        self.commands.append(list(command))
        if command[0] == "curl":
            Path(command[command.index("--output") + 1]).write_bytes(PGDG_PACKAGE)
            return Completed(0, "", "")
        if "--installed" in command:
            return Completed(0, self.installed, "")
        if "repoquery" in command:
            return Completed(0, self.offered, "")
        return self.transaction if "--assumeno" in command else self.spal


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A tree with pins as they were when that output was kept: the real file may move on."""
    packages = {
        "spal-release": ("1", "amazonlinux"),
        "postgresql17-server": ("17.6", "amazonlinux"),
        "postgresql17-postgis": ("3.4", "amazonlinux-spal"),
        "chrony": ("4.0", "amazonlinux"),
        "jq": ("1.5", "amazonlinux"),
    }
    directory = tmp_path / "infrastructure/packer"
    directory.mkdir(parents=True)
    pins = {
        "base": {"release": "2023.12.20260930"},
        "servers": {"postgresql": {"major": "17"}},
        "build_packages": {name: {"repository": "amazonlinux"} for name in BUILDING},
        "packages": {name: {"minimum": low, "repository": place} for name, (low, place) in packages.items()},
    }
    (directory / "versions.json").write_text(json.dumps(pins))
    return tmp_path


def rows(clone: Path, dnf: Callable[[Sequence[str]], Completed]) -> dict[str, Row]:
    return {row.name: row for row in resolve.resolve(clone, AMAZON, runner=dnf)}


def test_packages_that_dnf_knows_at_their_minimum_are_fine(clone: Path) -> None:
    resolved = rows(clone, Dnf())
    check(list(resolved.values()))
    assert resolved["postgresql17-server"].found == "17.12-1.amzn2023.standin.x86_64"
    assert resolved["postgresql17-postgis"].repository == "amazonlinux-spal"
    assert resolved["chrony"].repository == "installed already"
    assert resolved["gcc"].minimum == ""


def test_dnf_is_asked_at_the_pinned_release_and_changes_nothing_but_the_supplementary_repository(clone: Path) -> None:
    dnf = Dnf()
    rows(clone, dnf)
    assert all("--releasever=2023.12.20260930" in command for command in dnf.commands)
    changing = [command for command in dnf.commands if "install" in command and "--assumeno" not in command]
    assert [command[-1] for command in changing] == ["spal-release"]
    assert changing == dnf.commands[:1]


@pytest.mark.parametrize(
    ("line", "instead", "name", "problem"),
    [
        ("jq 1.7.1 1.amzn2023.standin x86_64 amazonlinux\n", "", "jq", "no such package"),
        ("postgresql17-server 17.12 ", "postgresql17-server 17.5 ", "postgresql17-server", "older than 17.6"),
        ("x86_64 amazonlinux-spal", "x86_64 amazonlinux", "postgresql17-postgis", "not in amazonlinux-spal"),
        ("make 4.4.1 1.amzn2023.standin x86_64 amazonlinux\n", "", "make", "no such package"),
    ],
)
def test_what_is_missing_too_old_or_elsewhere_is_named(
    clone: Path, line: str, instead: str, name: str, problem: str
) -> None:
    dnf = Dnf()
    assert line in dnf.offered
    dnf.offered = dnf.offered.replace(line, instead)
    resolved = rows(clone, dnf)
    assert [row.name for row in resolved.values() if not row.ok] == [name]
    assert problem in resolved[name].problem
    with raises("not-resolved") as caught:
        check(list(resolved.values()))
    assert caught.value.exit_code == 1
    assert name in caught.value.found
    assert f"{name}: correct infrastructure/packer/versions.json" in caught.value.fix


def test_a_package_that_spal_or_pgdg_lacks_is_told_with_the_way_out(clone: Path, pgdg: Path) -> None:
    dnf = Dnf()
    dnf.offered = "".join(line for line in dnf.offered.splitlines(True) if "postgis" not in line)
    ways = {}
    for route in ("amazonlinux", "pgdg"):
        with raises("not-resolved") as caught:
            check(resolve.resolve(pgdg, AMAZON, route=route, runner=dnf))
        ways[route] = caught.value.fix
    assert "postgresql17-postgis: is base.release 2023.9 or newer" in ways["amazonlinux"]
    assert "postgis35_17: PGDG does not publish all" in ways["pgdg"]
    assert "postgresql_repo=amazonlinux" in ways["pgdg"]


@pytest.fixture
def pgdg(clone: Path) -> Path:
    """The same tree, whose PostgreSQL may come from PGDG as well."""
    path = clone / "infrastructure/packer/versions.json"
    versions = json.loads(path.read_text())
    for name in ("spal-release", "postgresql17-server", "postgresql17-postgis"):
        versions["packages"][name]["route"] = "amazonlinux"
    versions["pgdg_packages"] = {"postgis35_17": {"minimum": "3.5", "repository": "pgdg17"}}
    pin = {"url": "https://example.com/repo.rpm", "sha256": hashlib.sha256(PGDG_PACKAGE).hexdigest()}
    versions["artifacts"] = {"pgdg_repo": pin}
    path.write_text(json.dumps(versions))
    return clone


def test_the_other_route_asks_for_its_own_packages_with_the_core_s_shut_out(pgdg: Path) -> None:
    dnf = Dnf()
    dnf.offered += "postgis35_17 3.5.7 1PGDG.amzn2023 aarch64 pgdg17\n"
    resolved = {row.name: row for row in resolve.resolve(pgdg, AMAZON, route="pgdg", runner=dnf)}
    assert resolved["postgis35_17"].ok
    assert not {"spal-release", "postgresql17-server", "postgresql17-postgis"} & resolved.keys()
    asking = [command for command in dnf.commands if "repoquery" in command or "--assumeno" in command]
    assert asking
    assert all("--setopt=amazonlinux.excludepkgs=postgresql*" in command for command in asking)


def test_a_repository_package_that_is_not_the_pinned_one_is_told_and_not_installed(pgdg: Path) -> None:
    path = pgdg / "infrastructure/packer/versions.json"
    path.write_text(path.read_text().replace(hashlib.sha256(PGDG_PACKAGE).hexdigest(), "0" * 64))
    dnf = Dnf()
    with raises("repository-not-pinned") as caught:
        resolve.resolve(pgdg, AMAZON, route="pgdg", runner=dnf)
    assert hashlib.sha256(PGDG_PACKAGE).hexdigest() in caught.value.found
    assert [command[0] for command in dnf.commands] == ["curl"]


def test_an_installed_package_that_is_too_old_is_not_taken(clone: Path) -> None:
    dnf = Dnf()
    dnf.installed = dnf.installed.replace("chrony 4.6.1", "chrony 3.5")
    assert rows(clone, dnf)["chrony"].problem == "older than 4.0"


@pytest.mark.parametrize("name", ["no-match", "conflict"])
def test_packages_that_do_not_go_together_are_found_out_though_each_is_there(clone: Path, name: str) -> None:
    dnf = Dnf()
    dnf.transaction = Completed(1, output(name), "")
    resolved = rows(clone, dnf)
    assert [row.name for row in resolved.values() if not row.ok] == [ALL]
    assert "Error:" in resolved[ALL].problem


def test_nothing_to_install_is_no_failure(clone: Path) -> None:
    dnf = Dnf()
    dnf.transaction = Completed(0, output("nothing-to-do"), "")
    assert rows(clone, dnf)[ALL].ok


def test_without_the_supplementary_repository_its_packages_are_reported_missing(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dnf = Dnf()
    dnf.spal = Completed(1, output("no-match"), "")
    dnf.offered = "\n".join(line for line in dnf.offered.splitlines() if "spal" not in line)
    resolved = rows(clone, dnf)
    assert {row.name for row in resolved.values() if not row.ok} == {"spal-release", "postgresql17-postgis"}
    assert "spal-release can't be installed" in capsys.readouterr().err


def test_a_dnf_that_can_not_be_asked_is_no_missing_package(clone: Path) -> None:
    def dnf(command: Sequence[str]) -> Completed:
        return Completed(1, "", "Error: Failed to download metadata for repo 'amazonlinux'")

    with raises("dnf-failed") as caught:
        rows(clone, dnf)
    assert "Failed to download metadata" in caught.value.found


@pytest.mark.parametrize(
    "system", ["", "ID=debian\nVERSION_ID=12\n", 'ID="amzn"\nVERSION_ID="2"\n', 'ID="fedora"\nVERSION_ID="2023"\n']
)
def test_elsewhere_it_refuses_and_says_where_to_run_it(clone: Path, system: str) -> None:
    dnf = Dnf()
    with raises("not-amazon-linux") as caught:
        resolve.resolve(clone, system, runner=dnf)
    assert dnf.commands == []
    assert caught.value.exit_code == 3
    assert "amazonlinux:2023" in caught.value.fix


@pytest.mark.parametrize(
    ("older", "newer"),
    [("17.6", "17.12"), ("1.300000", "1.300060"), ("3.4", "3.4.1"), ("", "1"), ("4.0", "4.6.1"), ("1.0rc1", "1.0.1")],
)
def test_versions_are_compared_by_their_numbers(older: str, newer: str) -> None:
    assert version_key(older) < version_key(newer)


@pytest.mark.parametrize("route", ["amazonlinux", "pgdg"])
def test_what_the_real_tree_wants_can_be_read(route: str) -> None:
    names = resolve.wanted(versions.read(ROOT), route)
    assert ("spal-release" in names, f"postgis35_{POSTGRESQL}" in names) == (route == "amazonlinux", route == "pgdg")
    assert {f"postgresql{POSTGRESQL}-server", "gcc"} <= names.keys()
    assert (f"postgresql{POSTGRESQL}-server-devel" in names) == (route == "amazonlinux")
