"""build-binary: from the API's source tree to the release bundle that goes into the image.

A bundle is the directory `OUTPUT/VERSION/` with `zmanim-api` (static, for Linux on the processors of the image:
programs.py), `migrations/*.sql` and `manifest.json`. The same tree, version and Go give the same bytes, wherever the
tree is.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.cache import locked
from support.digest import file_sha256, text_sha256, tree_sha256
from support.elf import NotElf, read_elf
from support.errors import BadInput, Error
from support.files import write_atomically
from support.progress import say
from zmanim_ami.pipeline import programs
from zmanim_ami.pipeline.shipped import migrations as migration_files
from zmanim_ami.pipeline.version import parse
from zmanim_ami.toolchain.go import ARCHITECTURES, BuildInfo, Go, build_info
from zmanim_ami.toolchain.gobuild import SHIPPED, Source, compile_and_link, download

PROGRAM = "zmanim-api"
PACKAGE = "cmd/api"
MIGRATIONS = Path("db/migrations")
_MIGRATION = re.compile(r"\d{14}_[a-z0-9_]+\.sql", re.ASCII)
_FIX = "delete build/bundle and try again; if it stays, the cause is the Go that was used"


@dataclass(frozen=True)
class Bundle:
    """A release bundle; `built` is False when it was there already."""

    directory: Path
    version: str
    sha256: str  # of the binary
    size: int  # of the binary, in bytes
    go: str  # "go1.26.8"
    built: bool


def build(
    api_dir: Path, version: str, commit: str, output_dir: Path, go: Go, *, architecture: str = programs.SHIPPED
) -> Bundle:
    """Return the bundle `output_dir/version` of the source tree `api_dir`, building it unless nothing has changed.

    `architecture` is that of its program, a key of ARCHITECTURES.

    Raises `version-invalid`, `not-an-api-tree`, `migration-unfit`, the errors of gobuild, one of this module's when the
    result is wrong.
    """
    parse(version)
    migrations = _migrations(api_dir)
    target = ARCHITECTURES[architecture]
    digest = text_sha256(_tree(api_dir), version, go.version, target, go.environment["GOFLAGS"], *_flags(version))
    directory = output_dir / version
    stamp = output_dir / f"{version}.digest"  # beside the bundle: the bundle goes into the image as it is
    with locked(output_dir / f".{version}.lock", f"the bundle of {version}"):
        built = not _is_current(directory, stamp, digest)
        if built:
            stamp.unlink(missing_ok=True)  # written last: an interrupted build has none
            _make(api_dir, version, directory, migrations, go=go, architecture=architecture)
        else:
            say(f"the API's bundle of {version} is up to date: {directory}")
        manifest = {**_manifest(directory, version, commit, go), "architecture": architecture}
        write_atomically(directory / "manifest.json", json.dumps(manifest, indent=2) + "\n")
        write_atomically(stamp, f"{digest} {_content(directory)}\n")
    return Bundle(directory, version, manifest["sha256"], manifest["size"], go.version, built)


def check(binary: Path, info: BuildInfo, go: str, architecture: str = programs.SHIPPED) -> None:
    """See that `binary` is what is shipped: a static Linux program of the API, made by Go `go` ("go1.26.8").

    `info` is what the program says of its build. Raises an error of this module on the first thing that is wrong.
    """
    try:
        elf = read_elf(binary)
    except NotElf as error:
        raise Error(
            "the API's binary is no program",
            code="binary-not-elf",
            expected="a 64-bit ELF program",
            found=str(error),
            fix=_FIX,
        ) from error
    wanted = {"Go": go, "GOOS": "linux", "GOARCH": ARCHITECTURES[architecture], "CGO_ENABLED": "0", "package": PACKAGE}
    built = {"Go": info.go, **{name: info.settings.get(name, "") for name in wanted if name.isupper()}}
    built["package"] = PACKAGE if f"/{info.package}".endswith(f"/{PACKAGE}") else info.package
    linked = "no interpreter (CGO_ENABLED=0)" if elf.static else "a dynamic linker as its interpreter"
    rules = (
        ("binary-for-another-machine", "is for another machine", architecture, elf.machine),
        ("binary-not-static", "is dynamically linked", "no interpreter (CGO_ENABLED=0)", linked),
        ("binary-of-another-build", "was not built by this", _listed(wanted), _listed(built)),
    )
    for code, summary, expected, found in rules:
        if found != expected:
            raise Error(f"the API's binary {summary}", code=code, expected=expected, found=found, fix=_FIX)


def _listed(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value or 'not said'}" for name, value in facts.items())


def _migrations(api_dir: Path) -> list[Path]:
    files = sorted((api_dir / MIGRATIONS).glob("*.sql"))
    missing = [name for name in ("go.mod", PACKAGE) if not (api_dir / name).exists()]
    if not files:
        missing.append(f"{MIGRATIONS}/*.sql")
    if missing:
        raise _not_an_api_tree(api_dir, f"no {', no '.join(missing)}")
    if wrong := [path.name for path in files if not _MIGRATION.fullmatch(path.name)]:
        raise _not_an_api_tree(api_dir, f"migrations that would not be run in a clear order: {', '.join(wrong)}")
    migration_files.check(files)
    return files


def _not_an_api_tree(api_dir: Path, found: str) -> BadInput:
    return BadInput(
        f"{api_dir} is not a source tree of the API",
        code="not-an-api-tree",
        expected=f"go.mod, {PACKAGE}/ and {MIGRATIONS}/NNNNNNNNNNNNNN_name.sql",
        found=found,
        fix="point api_dir at the API's directory (--api-dir)",
    )


def _tree(api_dir: Path) -> str:
    # All but what version control keeps there: which files Go embeds is not known from outside.
    paths = [path for path in api_dir.rglob("*") if ".git" not in path.relative_to(api_dir).parts]
    return tree_sha256(api_dir, [path for path in paths if path.is_symlink() or path.is_file()])


def _is_current(directory: Path, stamp: Path, digest: str) -> bool:
    """Tell whether the bundle was made from just this, and is still as it was made."""
    try:
        return stamp.read_text().split() == [digest, _content(directory)]
    except OSError:
        return False


def _content(directory: Path) -> str:
    return tree_sha256(directory, [directory / PROGRAM, *(directory / "migrations").iterdir()])


def _make(api_dir: Path, version: str, directory: Path, migrations: list[Path], *, go: Go, architecture: str) -> None:
    unfinished = directory.with_name(f".{version}.unfinished")
    for leftover in (unfinished, directory):
        if leftover.exists():
            shutil.rmtree(leftover)
    (unfinished / "migrations").mkdir(parents=True)
    environment = go.building_for("linux", ARCHITECTURES[architecture])
    source = Source(f"the API {version}", api_dir, f"./{PACKAGE}", go.program, environment)
    binary = unfinished / PROGRAM
    compile_and_link(source, binary, download(source), _flags(version))
    check(binary, build_info(go, binary), go.version, architecture)
    _check_version(source, binary, version)
    for path in migrations:
        # Contents only: what mode or date a file has in a clone must not show in the image.
        shutil.copyfile(path, unfinished / "migrations" / path.name)
    unfinished.rename(directory)


def _flags(version: str) -> list[str]:
    # No build ID: it would differ between programs that are otherwise the same, which is what _check_version looks for.
    return [*SHIPPED, f"-ldflags=-s -w -buildid= -X main.version={version}"]


def _check_version(source: Source, binary: Path, version: str) -> None:
    """See that the program tells its version, by linking it (half a second) with another one.

    Go says nothing when there is no variable main.version to set, and its build info holds no -ldflags. Looking for the
    text in the program was tried and rejected: every dependency's version is in there too.
    """
    other = binary.with_name("other")
    what = f"{source.what} with another version, which must make another program"
    compile_and_link(replace(source, what=what), other, 0, _flags(f"{version}-other"))
    same = file_sha256(other) == file_sha256(binary)
    other.unlink()
    if same:
        raise Error(
            f"the API's binary does not know that it is {version}",
            code="binary-without-version",
            expected="a program that tells the value of main.version",
            found="the same program for every version",
            fix=f'declare `var version = "dev"` in package main of {PACKAGE}, and use it',
        )


def _manifest(directory: Path, version: str, commit: str, go: Go) -> dict[str, Any]:
    binary = directory / PROGRAM
    return {
        "version": version,
        "commit": commit,
        "sha256": file_sha256(binary),
        "size": binary.stat().st_size,
        "go": go.version,
        "migrations": [
            {"name": path.name, "sha256": file_sha256(path)} for path in sorted((directory / "migrations").iterdir())
        ],
    }
