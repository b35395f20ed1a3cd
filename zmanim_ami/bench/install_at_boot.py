"""install-at-boot: the built image beside a stock base that installs the same at boot, from user data.

The baseline (`compiled`) runs the build's own scripts, fetched from the mirror. Nothing makes it slower than it has to
be: it skips what only a build needs (removing compilers, cleaning, validating), and the local repositories take no time
to download from. In `prebuilt` it even gets Redis, pgvector and pg_cron as finished packages, which no repository has:
the least that building an image can save.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from support.progress import step
from zmanim_ami.bench.figures import Ratio, Series, ratio, repeat
from zmanim_ami.bench.lab import VERSION, Lab, built_image, launched, moments
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import package_cache
from zmanim_ami.pipeline.ami.provenance import PACKER_DIRECTORY
from zmanim_ami.rehearsal.versions import MIRROR_BUCKET

NOTES = (
    "The three take turns on the same machine; each is alone while it boots.",
    "Seconds from RunInstances until both servers answer, and until the machine is ready, every check passed.",
    "compiled: a stock base runs the build's scripts from user data, without cleaning and validating.",
    "prebuilt: the same with the compiled packages given to it, which no repository has. Both use local repositories.",
)
_ANSWER, _READY = "PostgreSQL and Redis answer", "ready"
_STAGING = "/run/zmanim-build"
_STEPS = "install-packages configure-postgres configure-redis install-restic configure-systemd"


def user_data(url: str, units: str) -> str:
    """Return the script that makes a stock base what the image is, at boot, from the archive at `url`."""
    return f"""#!/bin/bash
set -o errexit -o nounset -o pipefail
export STAGING={_STAGING} IMAGE_VERSION={VERSION} RELEASE_KEYS=none
mkdir --parents "$STAGING/package-cache" "$STAGING/keys"
curl --fail --silent --show-error --retry 5 --retry-all-errors '{url}' | tar --extract --gzip --directory="$STAGING"
bash "$STAGING/scripts/run-steps.sh" {_STEPS}
systemd-tmpfiles --create /usr/lib/tmpfiles.d/zmanim.conf
systemctl start --no-block {units}
"""


def enabled_units(preset: str) -> str:
    """Return the units that a preset file's text enables, as arguments."""
    return " ".join(re.findall(r"^enable +(\S+)", preset, re.MULTILINE))


def archive(directory: Path, bundle: Path, versions_file: Path, compiled: Path | None) -> bytes:
    """Return what Packer uploads to a builder as one archive; `compiled` is a directory of finished packages."""
    parts = [(directory / "scripts", "scripts"), (directory / "files", "files"), (bundle, "bundle")]
    parts += [(versions_file, "versions.json"), *([(compiled, "package-cache")] if compiled else [])]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as packed:
        for path, name in parts:
            packed.add(path, arcname=name)
    return content.getvalue()


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Boot the image and both baselines `runs` times in turns. Raises what launching raises, `step-failed`."""
    image_id, base = built_image(lab)
    directory = lab.root / PACKER_DIRECTORY
    units = enabled_units((directory / "files" / "zmanim.preset").read_text())
    rpm_cache = package_cache.directory(lab.cache, aws.account(lab.clients), json.loads(lab.versions_file.read_text()))
    scripts = {}
    for name, compiled in (("prebuilt", rpm_cache), ("compiled", None)):
        content = archive(directory, lab.root / "build" / "bundle" / VERSION, lab.versions_file, compiled)
        key = f"bench-{name}.tar.gz"
        lab.clients.s3.put_object(Bucket=MIRROR_BUCKET, Key=key, Body=content)
        scripts[name] = user_data(f"https://{MIRROR_BUCKET}.s3.{lab.cloud.region}.amazonaws.com/{key}", units)
    kinds = {"built": (image_id, ""), **{name: (base, script) for name, script in scripts.items()}}
    return repeat("boot of each", runs, lambda _number: _in_turns(lab, kinds))


def _in_turns(lab: Lab, kinds: Mapping[str, tuple[str, str]]) -> dict[str, float]:
    sample: dict[str, float] = {}
    for name, (image, script) in kinds.items():
        with step(name), launched(lab, image, script) as machine:
            answered = moments(lab, machine)
        sample[f"{name}: {_READY}"] = answered.pop("ready")
        sample[f"{name}: {_ANSWER}"] = max(answered.values())
    return sample


def ratios(measured: tuple[Series, ...]) -> tuple[Ratio, ...]:
    """Return how many times slower installing at boot is; the goal is for the scripts as they are, which compile."""
    return tuple(
        ratio(measured, f"{name}: {what}", f"built: {what}", goal)
        for name, goal in (("compiled", "at least 6"), ("prebuilt", ""))
        for what in (_ANSWER, _READY)
    )
