"""The stand-in from nothing to a tree and a mirror, in two cached stages."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcloud.machine import base
from localcloud.machine import debian as plain
from support.cache import cached_directory, holding
from support.digest import file_sha256, files_below, text_sha256, tree_sha256
from support.process import run
from support.progress import say, step
from zmanim_ami.pipeline.pins import versions
from zmanim_ami.rehearsal.standin import debian, mirror, rpms
from zmanim_ami.rehearsal.standin.inside import inside_script
from zmanim_ami.rehearsal.standin.packages import INSTALLED, MIRRORED, PAYLOAD, Catalogue, load, required_by
from zmanim_ami.rehearsal.standin.templates import copy_rendered

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]
# Inside the tree: its repositories, each below the release that it belongs to.
REPOSITORIES = "/usr/share/al2023-repositories"
_SIGNER = "/etc/pki/rpm-gpg/RPM-GPG-KEY-amazon-linux-2023"


def build_tree(cache: Path) -> Path:
    """Build what takes long, the tree and the mirror's sources, in `cache`, or find it there; return its directory.

    Raises `base-not-made`, `not-downloaded`, `not-packaged`, `source-missing`, `too-little-disk`, HostLacks.
    """
    pins = versions.read(_ROOT)
    release, major = pins["base"]["release"], pins["servers"]["postgresql"]["major"]
    digest = text_sha256(
        tree_sha256(_HERE, files_below(_HERE)),
        file_sha256(Path(plain.__file__)),
        release,
        major,
        platform.machine(),
        os.environ.get(plain.MIRROR_VARIABLE, ""),
    )
    downloads = cache / "debian"
    cache.mkdir(parents=True, exist_ok=True)

    def build(entry: Path) -> None:
        with holding(downloads):
            _build_tree(entry, downloads, release, major)

    return cached_directory(cache, "standin-tree", digest, build)


def build(cache: Path, certificate: Path, restic: Path) -> Path:
    """Build the stand-in in `cache`, or find it there: `build_tree`'s, made a guest of the cloud; return its directory.

    It holds root/, to be used read-only, and mirror/.
    It trusts the authority of `certificate`, a PEM file; its mirror has `restic`, a
    program for Linux, too. Raises what `build_tree` raises, and `not-restic`.
    """
    tree = build_tree(cache)
    digest = text_sha256(tree.name, *(file_sha256(file) for file in (Path(base.__file__), certificate, restic)))
    return cached_directory(cache, "standin", digest, lambda entry: _finish(entry, tree, certificate, restic))


def _finish(entry: Path, tree: Path, certificate: Path, restic: Path) -> None:
    # Of its own: the tree takes minutes to make and does not depend on whom it trusts. But by other names of the same
    # files, a gigabyte: nobody writes to either, and what is fitted gets files of its own.
    run(["cp", "--archive", "--link", *(str(tree / name) for name in ("root", "mirror")), str(entry)])
    base.fit(entry / "root", certificate.read_bytes())
    mirror.add_restic(entry / "mirror", restic)


def _build_tree(entry: Path, downloads: Path, release: str, major: str) -> None:
    root, work = entry / "root", entry / "work"
    debian.check_disk(entry)
    work.mkdir()
    with step("the stand-in's first tree, from Debian"):
        plain.make_tree(root, downloads / "tree", _show_progress, debian.INCLUDED)
    catalogue = load(next((root / "usr/lib").glob("*-linux-gnu")).name, major)
    with step("packages for its repositories"):
        specs = _specs(root, downloads / "packages", catalogue, release)
    with step("sources for its mirror"):
        debian.fetch_sources(root, work / "sources", mirror.SOURCES)
        # Not every mirror of Debian has every source. Of pg_cron, compiled files do as well: Debian's package of it.
        (pg_cron,) = debian.download_packages(root, downloads / "packages", [f"postgresql-{major}-cron"]).values()
        mirror.collect(work / "sources", {"pg-cron": pg_cron}, entry / "mirror")
    with step("dressing it as Amazon Linux"):
        values = {
            "release": release,
            "major": major,
            "debian": plain.RELEASE,
            "repositories": REPOSITORIES,
            "signer": _SIGNER,
        }
        copy_rendered(_HERE / "rootfs", root, **values)
        copy_rendered(PAYLOAD, work / rpms.OWN_FILES, **values)
        inside_script(root, "dress.sh")
    with step(f"{len(specs)} RPMs and their repositories"):
        rpms.build(root, work, downloads / "packages", specs)
        shutil.copyfile(_HERE / "updateinfo.xml", work / "updateinfo.xml")
        signer = rpms.make_repositories(root, work, downloads / "packages", catalogue.repositories())
        key = root / _SIGNER.lstrip("/")
        key.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(signer, key)
        mirror.add_packages(entry / "mirror", work / MIRRORED)
    with step("installing what a machine image has"):
        repositories = root / REPOSITORIES.lstrip("/") / release
        repositories.mkdir(parents=True)
        for repository in catalogue.repositories():
            shutil.move(work / repository, repositories)
        shutil.move(work / "latest", repositories.parent)
        inside_script(root, "install.sh", binds={work: "/run/work"})
        inside_script(root, "undress.sh", *(path for package in catalogue.packages for path in package.moved))
    shutil.rmtree(work)


def _specs(root: Path, downloads: Path, catalogue: Catalogue, release: str) -> dict[str, str]:
    present = debian.installed_packages(root)
    wanted = {p.key: [source.package for source in p.sources] for p in catalogue.packages}
    graph = debian.dependencies(root, sorted({name for names in wanted.values() for name in names}))
    whole = {
        key: debian.closure(graph, packages, present.keys(), catalogue.left_out) for key, packages in wanted.items()
    }
    carried = {
        package.key: _without_what_others_bring(whole, package.key, wanted, required_by(package, catalogue.packages))
        for package in catalogue.packages
    }
    names = sorted({name for closure_names in carried.values() for name in closure_names})
    files = debian.download_packages(root, downloads, names)
    carried_versions = {name: rpms.upstream_version(present[source]) for name, source in catalogue.carried.items()}
    libraries = inside_script(root, "libraries.sh").stdout.split()
    return {
        **rpms.plan(catalogue, carried, files),
        f"{INSTALLED}/system-release": rpms.render_carried(release, plain.RELEASE, carried_versions, libraries),
    }


def _without_what_others_bring(
    whole: Mapping[str, Sequence[str]], key: str, wanted: Mapping[str, Sequence[str]], required: set[str]
) -> list[str]:
    # What a package names itself it always carries: two may share one Debian package by their patterns.
    brought = {each for other in required for each in whole[other]}
    return [each for each in whole[key] if each in wanted[key] or each not in brought]


def _show_progress(line: str) -> None:
    # Of mmdebstrap's own lines; those of apt and dpkg would be hundreds.
    if line.startswith(("I: installing", "I: downloading", "I: extracting")):
        say(f"  {line[3:]}")
