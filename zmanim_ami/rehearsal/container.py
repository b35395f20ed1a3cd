"""A base for rehearsals out of Amazon's public container image: the file that `rehearse --base` takes.

The container image lacks most of what makes a machine of it. That is installed in a container, from the repositories of
the pinned release, and the container's file system is exported.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.digest import file_sha256
from support.errors import BadInput, Error, HostLacks
from support.process import run
from support.progress import say, step
from zmanim_ami.rehearsal.base import NEEDED

REPOSITORY = "public.ecr.aws/amazonlinux/amazonlinux"
# A release's images are numbered like its machine images, and the number is not always 0.
_NUMBERS = range(10)
_NO_SUCH_PACKAGE = re.compile(r"(?:Unable to find a match|No match for argument): *(.+)")
_NO_SUCH_IMAGE = re.compile(r"not found|manifest unknown|no such image", re.IGNORECASE)
# Packages of another release than the image's contradict what is in it: the image has to be the release's own.
_SCRIPT = r"""
release=$1 packages=$2 paths=$3
actual=$(rpm --query --queryformat '%{VERSION}' system-release)
if [ "${actual}" != "${release}" ]; then
  echo "the image is of release ${actual}, not of ${release}" >&2
  exit 1
fi
dnf --assumeyes --quiet --releasever="${release}" --setopt=install_weak_deps=False --allowerasing install ${packages}
for path in ${paths}; do
  if [ ! -e "/${path}" ]; then
    echo "after all were installed there is no /${path}" >&2
    exit 1
  fi
done
dnf --quiet clean all
rm -rf /var/cache/dnf /var/log/dnf* /etc/ssh/ssh_host_*
: >/etc/machine-id
"""


@dataclass(frozen=True)
class BaseFile:
    """What was made: the file, its SHA-256, the container image and its digest, the release of its packages."""

    file: str
    sha256: str
    image: str
    digest: str
    release: str


def make(root: Path, file: Path, image: str = "") -> BaseFile:
    """Write a base to `file` (ending in .tar or .tar.gz) for the release that the clone at `root` pins.

    `image` is a container image of that release; empty: Amazon's own, by its tag. The base has this host's
    architecture. Nothing of the container stays, nor half a file. Raises `no-file`, `docker-missing`, `docker-failed`,
    `no-such-release`.
    """
    if not file.name.endswith((".tar", ".tar.gz")):
        raise BadInput(
            "that file's name does not say what it is",
            code="no-file",
            expected="…/NAME.tar or …/NAME.tar.gz",
            found=str(file),
        )
    if shutil.which("docker") is None:
        raise HostLacks(
            "there is no docker on this host",
            code="docker-missing",
            expected="docker on PATH, with its daemon running",
            found="none",
            fix="apt-get install docker.io; or run this on a host that has it, of the same architecture, and bring the "
            "file here",
        )
    release = str(json.loads((root / "infrastructure/packer/versions.json").read_text())["base"]["release"])
    with step(f"the container image of {release}"):
        if image:
            _docker(["pull", "--quiet", image], "is that the image's whole name?")
        else:
            image = _find(release)
    name = f"zmanim-base-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    file.parent.mkdir(parents=True, exist_ok=True)
    exported, packed = (file.with_name(f".{file.name}.{part}") for part in ("exported", "unfinished"))
    try:
        packages = " ".join(dict.fromkeys(NEEDED.values()))
        with step(f"installing what a machine has: {packages}"):
            script = ["bash", "-euc", _SCRIPT, "bash", release, packages, " ".join(NEEDED)]
            _docker(["run", "--name", name, image, *script], "is the release still in Amazon's repositories?")
        with step(f"exporting it to {file}"):
            _docker(["export", "--output", str(exported), name], "is there room on the disk?")
            if file.name.endswith(".gz"):
                with exported.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            else:
                exported.rename(packed)
        packed.rename(file)
    finally:
        for path in (exported, packed):
            path.unlink(missing_ok=True)
        removed = run(["docker", "rm", "--force", "--volumes", name], check=False)
        if removed.returncode != 0 and "no such container" not in removed.stderr.lower():
            say(f"the container {name} may still be there: {removed.stderr.strip()}")
    return BaseFile(str(file), file_sha256(file), image, _digest(image), release)


def _find(release: str) -> str:
    """Return the image of a release, which is pulled then."""
    for number in _NUMBERS:
        image = f"{REPOSITORY}:{release}.{number}"
        try:
            _docker(["pull", "--quiet", image], "does the daemon run, and does it reach public.ecr.aws?")
        except Error as error:
            if not _NO_SUCH_IMAGE.search(error.found):
                raise
        else:
            return image
    raise Error(
        f"there is no container image of release {release}",
        code="no-such-release",
        expected=f"{REPOSITORY}:{release}.N with a number N below {len(_NUMBERS)}",
        found="none of them",
        fix="--image names another one of that release",
    )


def _digest(image: str) -> str:
    digests = json.loads(_docker(["image", "inspect", "--format", "{{json .RepoDigests}}", image], "") or "null")
    return str((digests or [""])[0]).rpartition("@")[2]


def _docker(arguments: Sequence[str], fix: str) -> str:
    ended = run(["docker", *arguments], check=False)
    if ended.returncode != 0:
        lines = (ended.stdout + ended.stderr).strip().splitlines()[-15:]
        if missing := _NO_SUCH_PACKAGE.search(ended.stdout + ended.stderr):
            fix = f"that release has no {missing[1].strip()}: correct its name in zmanim_ami/rehearsal/base.py (NEEDED)"
        raise Error(
            f"docker {arguments[0]} failed",
            code="docker-failed",
            expected="exit code 0",
            found="\n".join([f"exit code {ended.returncode}", *lines]),
            fix=fix,
        )
    return ended.stdout
