"""The mirror: the source archives and programs that the image is built from, as files to upload."""

from __future__ import annotations

import bz2
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from support.elf import read_elf
from support.errors import Error
from support.process import run
from support.progress import say
from zmanim_ami.rehearsal.standin.debian import OLDER_SUITE
from zmanim_ami.rehearsal.versions import COMPILED
from zmanim_ami.toolchain.go import ARCHITECTURES

# Debian's source packages whose upstream archives are mirrored, with their suites if not this one.
SOURCES = (f"redis/{OLDER_SUITE}", "pgvector", "pg-cron")
# Go writes the versions of a program's modules into it as text.
_RESTIC_VERSION = re.compile(rb"\tgithub\.com/restic/restic\tv([0-9][0-9A-Za-z.-]*)")


def collect(sources: Path, compiled: Mapping[str, Path], mirror: Path) -> None:
    """Move the upstream archives among `sources` to `mirror`, named NAME-VERSION.tar.gz.

    Where one is missing, an archive that installs alike is made of the `compiled` Debian package of that name, if any.
    Raises `source-missing`.
    """
    mirror.mkdir(parents=True, exist_ok=True)
    for package in (source.partition("/")[0] for source in SOURCES):
        artifact = package.replace("-", "_")  # as the versions file calls it
        archive = next(sources.glob(f"{package}_*.orig.tar.gz"), None)
        if archive:
            version = archive.name.removeprefix(f"{package}_").removesuffix(".orig.tar.gz")
            shutil.move(archive, mirror / f"{artifact}-{version}.tar.gz")
        elif package in compiled:
            say(f"  Debian's mirror has no source of {package}: the rehearsal takes it compiled")
            _pack_compiled(compiled[package], artifact, mirror)
        else:
            raise Error(
                f"Debian's source of {package} could not be had",
                code="source-missing",
                expected=f"a file {package}_VERSION.orig.tar.gz",
                found=", ".join(sorted(path.name for path in sources.iterdir())) or "nothing",
                fix="try again, or name another mirror of Debian",
            )


def _pack_compiled(deb: Path, artifact: str, mirror: Path) -> None:
    version = deb.name.split("_")[1].split("-")[0]
    with TemporaryDirectory() as scratch:
        tree = Path(scratch) / f"{artifact}-{version}"
        tree.mkdir()
        run(["dpkg-deb", "--extract", str(deb), str(tree / "compiled")])
        shutil.copyfile(Path(__file__).with_name("compiled.mk"), tree / "Makefile")
        (tree / "compiled/usr/share/doc" / deb.name.split("_")[0] / "copyright").rename(tree / "LICENSE")
        packed = mirror / f"{tree.name}{COMPILED}.tar.gz"
        run(["tar", "--create", "--gzip", "--file", str(packed), "--directory", scratch, tree.name])


def add_packages(mirror: Path, rpms: Path) -> None:
    """Move the one RPM that is downloaded as a file into `mirror`, named as the versions file looks for it."""
    (rpm,) = rpms.glob("pgdg-redhat-repo-[0-9]*.rpm")
    version = rpm.name.removeprefix("pgdg-redhat-repo-").split("-")[0]
    shutil.move(rpm, mirror / f"pgdg_repo-{version}.noarch.rpm")


def add_restic(mirror: Path, program: Path) -> Path:
    """Put restic's `program` for Linux into `mirror`, packed and named as its releases are. Raises `not-restic`."""
    content = program.read_bytes()
    version = _RESTIC_VERSION.search(content)
    if not version:
        raise Error(
            f"{program} is not restic",
            code="not-restic",
            expected="a Go program that says github.com/restic/restic and its version",
            found=f"{len(content)} bytes that don't",
        )
    packed = mirror / f"restic_{version[1].decode()}_linux_{ARCHITECTURES[read_elf(program).machine]}.bz2"
    packed.write_bytes(bz2.compress(content, compresslevel=1))
    return packed
