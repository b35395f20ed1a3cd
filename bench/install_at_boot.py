"""install-at-boot: the baked image beside a stock base that installs the same at boot, from user data.

The baseline runs the bake's own scripts, fetched from the mirror. Nothing makes it slower than it has to be: it skips
what only a bake needs (removing compilers, cleaning, validating), and the local repositories take no time to download
from. In `prebuilt` it gets Redis, pgvector and pg_cron as finished packages, in `compiled` it compiles them.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from bench import launch
from bench.figures import Ratio, Series, ratio
from bench.lab import VERSION, Lab, baked_image
from pipeline import aws, packages
from pipeline.provenance import PACKER_DIRECTORY
from rehearsal.versions import MIRROR_BUCKET
from support.digest import file_sha256
from support.progress import say, step

GOAL = "at least 6"
NOTES = (
    "The three take turns on the same machine; each is alone while it boots.",
    "Seconds from RunInstances until the machine says that it is ready, every check passed.",
    "Baseline: the same base and scripts, run by user data, without cleaning and validating, from local repositories.",
)
_STAGING = "/run/zmanim-build"
_STEPS = "install-packages install-postgresql install-redis install-restic configure-services"


def user_data(url: str, units: str) -> str:
    """Return the script that makes a stock base what the image is, at boot, from the archive at `url`."""
    return f"""#!/bin/bash
set -o errexit -o nounset -o pipefail
export STAGING={_STAGING} IMAGE_VERSION={VERSION}
mkdir --parents "$STAGING/package-cache"
curl --fail --silent --show-error --retry 5 --retry-all-errors '{url}' | tar --extract --gzip --directory="$STAGING"
bash "$STAGING/scripts/run-steps.sh" {_STEPS}
systemd-tmpfiles --create /usr/lib/tmpfiles.d/zmanim.conf
systemctl start --no-block {units}
"""


def enabled_units(preset: str) -> str:
    """Return the units that a preset file's text enables, as arguments."""
    words = [line.split() for line in preset.splitlines()]
    return " ".join(fields[1] for fields in words if fields[:1] == ["enable"])


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
    """Boot the image and both baselines `runs` times in turns. Raises launch's faults, lab.TaskFailed."""
    image_id = baked_image(lab)
    base = lab.clients.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    directory = lab.root / PACKER_DIRECTORY
    units = enabled_units((directory / "files" / "zmanim.preset").read_text())
    kept = packages.directory(lab.cache, aws.account(lab.clients), file_sha256(lab.versions_file))
    scripts = {}
    for name, compiled in (("prebuilt", kept), ("compiled", None)):
        content = archive(directory, lab.root / "build" / "bundle" / VERSION, lab.versions_file, compiled)
        key = f"bench-{name}.tar.gz"
        lab.clients.s3.put_object(Bucket=MIRROR_BUCKET, Key=key, Body=content, ACL="public-read")
        scripts[name] = user_data(f"https://{MIRROR_BUCKET}.s3.{lab.cloud.region}.amazonaws.com/{key}", units)
    samples = []
    for number in range(1, runs + 1):
        sample = {}
        for name, image, script in (
            ("baked", image_id, ""),
            ("prebuilt", base, scripts["prebuilt"]),
            ("compiled", base, scripts["compiled"]),
        ):
            with step(f"{name}, {number} of {runs}"), launch.launched(lab, image, script) as started:
                sample[name] = launch.moments(lab, started)["ready"]
            say(f"  {name}: ready after {sample[name]:.1f} s")
        samples.append(sample)
    return samples


def ratios(found: tuple[Series, ...]) -> tuple[Ratio, ...]:
    """Return how many times slower installing at boot is."""
    return ratio(found, "prebuilt", "baked", GOAL), ratio(found, "compiled", "baked", GOAL)
