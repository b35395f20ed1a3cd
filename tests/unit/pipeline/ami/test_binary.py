"""The release bundle: the same bytes for the same input, and nothing that the image could not run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.unit.support.test_elf import AARCH64, INTERP, LOAD, X86_64, elf_bytes
from zmanim_ami.pipeline.ami.binary import PROGRAM, Bundle, build, check
from zmanim_ami.toolchain.environment import user_cache
from zmanim_ami.toolchain.go import BuildInfo, Go, go

# Small enough to compile in a second or two: it needs nothing but Go's runtime.
MAIN = """package main

var version = "dev"

func main() { println("version", version) }
"""
SETTINGS = {"GOOS": "linux", "GOARCH": "arm64", "CGO_ENABLED": "0"}
GOOD = BuildInfo("go1.26.8", "zmanim/api/cmd/api", "(devel)", SETTINGS)


@pytest.fixture(scope="module")
def real_go() -> Go:
    return go(user_cache())


def tree(directory: Path, main: str = MAIN) -> Path:
    (directory / "cmd" / "api").mkdir(parents=True)
    (directory / "db" / "migrations").mkdir(parents=True)
    (directory / "go.mod").write_text("module example/api\n\ngo 1.24\n")
    (directory / "cmd" / "api" / "main.go").write_text(main)
    (directory / "db" / "migrations" / "20260102030405_first.sql").write_text("SELECT 1;\n")
    return directory


def contents(bundle: Bundle) -> dict[str, bytes]:
    files = (path for path in bundle.directory.rglob("*") if path.is_file())
    return {str(path.relative_to(bundle.directory)): path.read_bytes() for path in files}


def test_the_same_source_gives_the_same_bytes_wherever_it_is(tmp_path: Path, real_go: Go) -> None:
    first = build(tree(tmp_path / "a"), "v1.2.3", "abc", tmp_path / "out", real_go)
    elsewhere = tree(tmp_path / "some" / "where" / "else")
    (elsewhere / ".git").mkdir()
    (elsewhere / ".git" / "HEAD").write_text("another clone")
    second = build(elsewhere, "v1.2.3", "abc", tmp_path / "other", real_go)
    assert first.built
    assert second.built
    assert contents(first) == contents(second)
    assert set(contents(first)) == {"zmanim-api", "migrations/20260102030405_first.sql", "manifest.json"}


def test_the_manifest_says_what_is_in_the_bundle(tmp_path: Path, real_go: Go) -> None:
    bundle = build(tree(tmp_path / "api"), "v1.2.3-rc.1", "abc", tmp_path / "out", real_go)
    program = (bundle.directory / PROGRAM).read_bytes()
    assert bundle.directory == tmp_path / "out" / "v1.2.3-rc.1"
    assert json.loads(bundle.directory.joinpath("manifest.json").read_text()) == {
        "version": "v1.2.3-rc.1",
        "commit": "abc",
        "sha256": hashlib.sha256(program).hexdigest(),
        "size": len(program),
        "architecture": "aarch64",
        "go": real_go.version,
        "migrations": [{"name": "20260102030405_first.sql", "sha256": hashlib.sha256(b"SELECT 1;\n").hexdigest()}],
    }
    assert (bundle.sha256, bundle.size, bundle.go) == (
        hashlib.sha256(program).hexdigest(),
        len(program),
        real_go.version,
    )


def test_nothing_is_built_when_nothing_changed_and_that_is_said(
    tmp_path: Path, real_go: Go, capsys: pytest.CaptureFixture[str]
) -> None:
    api = tree(tmp_path / "api")
    build(api, "v1.2.3", "abc", tmp_path / "out", real_go)
    capsys.readouterr()
    (api / ".git").write_text("gitdir: where it is kept")
    again = build(api, "v1.2.3", "def", tmp_path / "out", real_go)
    assert not again.built
    assert "up to date" in capsys.readouterr().err
    assert json.loads(again.directory.joinpath("manifest.json").read_text())["commit"] == "def"


def change_source(api: Path, _: Bundle) -> None:
    (api / "cmd" / "api" / "main.go").write_text(MAIN.replace('"version"', '"this is"'))


def add_migration(api: Path, _: Bundle) -> None:
    (api / "db" / "migrations" / "20260102030406_second.sql").write_text("SELECT 2;\n")


def damage_binary(_: Path, bundle: Bundle) -> None:
    (bundle.directory / PROGRAM).write_bytes(b"x" + (bundle.directory / PROGRAM).read_bytes())


def damage_migration(_: Path, bundle: Bundle) -> None:
    (bundle.directory / "migrations" / "20260102030405_first.sql").write_text("DROP TABLE cities;\n")


def remove_binary(_: Path, bundle: Bundle) -> None:
    (bundle.directory / PROGRAM).unlink()


@pytest.mark.parametrize("change", [change_source, add_migration, damage_binary, damage_migration, remove_binary])
def test_whatever_differs_is_built_anew(tmp_path: Path, real_go: Go, change: Callable[[Path, Bundle], None]) -> None:
    api = tree(tmp_path / "api")
    change(api, build(api, "v1.2.3", "abc", tmp_path / "out", real_go))
    again = build(api, "v1.2.3", "abc", tmp_path / "out", real_go)
    assert again.built
    assert contents(again) == contents(build(api, "v1.2.3", "abc", tmp_path / "fresh", real_go))


def test_another_go_builds_anew_and_a_go_that_is_not_what_it_says_is_found_out(tmp_path: Path, real_go: Go) -> None:
    api = tree(tmp_path / "api")
    build(api, "v1.2.3", "abc", tmp_path / "out", real_go)
    with raises("binary-of-another-build"):
        build(api, "v1.2.3", "abc", tmp_path / "out", replace(real_go, version="go1.99.0"))


def test_a_program_that_does_not_tell_its_version_is_refused_and_not_kept(tmp_path: Path, real_go: Go) -> None:
    api = tree(tmp_path / "api", MAIN.replace("version", "release"))
    with raises("binary-without-version", match=r"v1\.2\.3"):
        build(api, "v1.2.3", "abc", tmp_path / "out", real_go)
    assert not (tmp_path / "out" / "v1.2.3").exists()


def test_source_that_does_not_compile_is_told_in_go_s_own_words(tmp_path: Path, real_go: Go) -> None:
    api = tree(tmp_path / "api", MAIN.replace("println(", "print_line("))
    with raises("go-build-failed") as caught:
        build(api, "v1.2.3", "abc", tmp_path / "out", real_go)
    assert "undefined: print_line" in caught.value.found
    assert not (tmp_path / "out" / "v1.2.3").exists()


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("go.mod", "no go.mod"), ("cmd", "no cmd/api"), ("db", "no db/migrations/*.sql")],
)
def test_another_directory_is_no_api_tree(tmp_path: Path, missing: str, reason: str) -> None:
    api = tree(tmp_path / "api")
    path = api / missing
    path.rename(tmp_path / "gone")
    with raises("not-an-api-tree") as caught:
        build(api, "v1.2.3", "abc", tmp_path / "out", Go(Path("/nowhere"), "go1.26.8", {}))
    assert reason in caught.value.found
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "name", ["1_first.sql", "20260102030405.sql", "20260102030405_First.sql", "20260102030405_a b.sql"]
)
def test_a_migration_without_a_place_in_the_order_is_refused(tmp_path: Path, name: str) -> None:
    api = tree(tmp_path / "api")
    (api / "db" / "migrations" / name).touch()
    with raises("not-an-api-tree") as caught:
        build(api, "v1.2.3", "abc", tmp_path / "out", Go(Path("/nowhere"), "go1.26.8", {}))
    assert name in caught.value.found


@pytest.mark.incident("a file with two directions in it ran both: the tables were made and dropped")
def test_a_migration_that_no_machine_could_apply_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    api = tree(tmp_path / "api")
    (api / "db/migrations/20260102030406_second.sql").write_text("SELECT 2;\n-- migrate:down\nSELECT 3;\n")
    with raises("migration-unfit") as caught:
        build(api, "v1.2.3", "abc", tmp_path / "out", Go(Path("/nowhere"), "go1.26.8", {}))
    assert "20260102030406_second.sql, line 2: '-- migrate:down' is another tool's mark" in caught.value.found
    assert caught.value.exit_code == 2


def test_a_version_that_could_change_the_linkers_flags_is_refused(tmp_path: Path) -> None:
    with raises("version-invalid"):
        build(tree(tmp_path / "api"), "v1.2.3 -X main.x=y", "abc", tmp_path / "out", Go(Path("/nowhere"), "go1", {}))


def checked(directory: Path, content: bytes, info: BuildInfo = GOOD) -> None:
    (directory / "zmanim-api").write_bytes(content)
    check(directory / "zmanim-api", info, "go1.26.8")


def test_a_static_arm64_program_of_the_api_passes(tmp_path: Path) -> None:
    checked(tmp_path, elf_bytes(AARCH64, [LOAD]))


@pytest.mark.parametrize(
    ("content", "code", "found"),
    [
        (b"#!/bin/sh\n", "binary-not-elf", "#!"),
        (elf_bytes(X86_64, [LOAD]), "binary-for-another-machine", "x86_64"),
        (elf_bytes(AARCH64, [LOAD, INTERP]), "binary-not-static", "dynamic linker"),
    ],
)
def test_what_the_image_could_not_run_is_refused(tmp_path: Path, content: bytes, code: str, found: str) -> None:
    with raises(code) as caught:
        checked(tmp_path, content)
    assert found in caught.value.found
    assert caught.value.expected
    assert caught.value.fix


@pytest.mark.parametrize(
    "info",
    [
        BuildInfo("go1.26.7", GOOD.package, GOOD.version, SETTINGS),
        BuildInfo(GOOD.go, "zmanim/api/cmd/other-api", GOOD.version, SETTINGS),
        BuildInfo(GOOD.go, GOOD.package, GOOD.version, {**SETTINGS, "CGO_ENABLED": "1"}),
        BuildInfo(GOOD.go, GOOD.package, GOOD.version, {**SETTINGS, "GOOS": "freebsd"}),
        BuildInfo("", "", "", {}),
    ],
)
def test_a_program_that_says_another_build_made_it_is_refused(tmp_path: Path, info: BuildInfo) -> None:
    with raises("binary-of-another-build"):
        checked(tmp_path, elf_bytes(AARCH64, [LOAD]), info)
