"""What tests of the real image share: a cloud with the image in it, built once by the production task, and its machines."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal import cloud as clouds
from support.cache import user_cache
from tests.machines.lab import Lab, wait_for

ROOT = Path(__file__).parents[2]
VERSION = "v9.0.0"
ENVIRONMENT = "verify"
ZONE = "eu-west-1a"
# The units that have to be active on a machine that serves; each is one of the image's own.
UNITS = (
    "zmanim.target", "data.mount", "zmanim-data-volume.service", "zmanim-data-layout.service", "zmanim-memory.service",
    "zmanim-environment.service", "zmanim-secrets.service", "postgresql.service", "redis.service",
    "zmanim-database.service", "zmanim-migrate.service", "zmanim-api.service", "zmanim-ready.service",
    "restic-backup.timer",
)  # fmt: skip
# What writes to /data: none of it may run on a machine without its data volume.
STORES = ("postgresql.service", "redis.service", "zmanim-api.service")
_READY = re.compile(r"zmanim-ready (\{.*\})[ \r]*\n")


@dataclass
class ImageLab(Lab):
    """A cloud that has the image, with few words for what tests do with its machines."""

    image: str

    def start(
        self,
        environment: str | None = ENVIRONMENT,
        *,
        consent: bool = True,
        data: bool = True,
        keep: bool = False,
        **options: Any,
    ) -> str:
        """Launch a machine as verify-ami does and return its id at once.

        Without `environment` or `consent` it lacks that tag, without `data` the blank data volume; `keep` lets the
        volume outlive it. `environment` has to have been given its account (`prepare`).
        """
        tags = {"zmanim:data-volume": "new"} if consent else {}
        tags |= {"zmanim:environment": environment} if environment else {}
        if data:
            disk = {"VolumeSize": 1, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": not keep}
            options["BlockDeviceMappings"] = [{"DeviceName": "/dev/sdf", "Ebs": disk}]
        if tags:
            listed = [{"Key": key, "Value": value} for key, value in tags.items()]
            options["TagSpecifications"] = [{"ResourceType": "instance", "Tags": listed}]
        metadata = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "InstanceMetadataTags": "enabled"}
        return self.launch(
            self.image,
            **{
                "IamInstanceProfile": {"Name": f"zmanim-{environment or ENVIRONMENT}-instance"},
                "MetadataOptions": metadata,
                "Placement": {"AvailabilityZone": ZONE},
                **options,
            },
        )

    def start_with(self, volume: str, **options: Any) -> str:
        """Launch a machine and attach that volume as its data volume as soon as it runs."""
        instance = self.start(data=False, **options)
        self.wait_state(instance, "running")
        self.ec2.attach_volume(InstanceId=instance, VolumeId=volume, Device="/dev/sdf")
        return instance

    def serve(self, environment: str = ENVIRONMENT, **options: Any) -> str:
        """Launch a machine and wait until it says that it serves."""
        instance = self.start(environment, **options)
        self.expect_ready(instance)
        return instance

    def console(self, instance: str) -> str:
        """Return what a machine has said on its console."""
        text: str = self.ec2.get_console_output(InstanceId=instance, Latest=True).get("Output", "")
        return text

    def said(self, instance: str) -> list[dict[str, Any]]:
        """Return every ready line of a machine, one for each boot."""
        return [json.loads(line) for line in _READY.findall(self.console(instance))]

    def wait_said(self, instance: str, *, boot: int = 1, seconds: float = 90) -> dict[str, Any]:
        """Wait for the ready line of a machine's boot (counted from 1), good or bad."""
        wait_for(lambda: len(self.said(instance)) >= boot, seconds, f"ready line {boot} of {instance}")
        # The line is there a moment before the agent is: the next thing a test does is to run something.
        wait_for(lambda: self.online(instance), what=f"{instance} online")
        return self.said(instance)[boot - 1]

    def expect_ready(self, instance: str, *, boot: int = 1) -> dict[str, Any]:
        """Wait for the ready line of a machine's boot, which must be a good one."""
        told = self.wait_said(instance, boot=boot)
        failed = {name: check["detail"] for name, check in told["checks"].items() if not check["ok"]}
        assert told["ok"], failed
        return told

    def new_volume(self, size_gib: int = 1) -> str:
        """Make a blank volume where the machines are."""
        made = self.ec2.create_volume(Size=size_gib, AvailabilityZone=ZONE, VolumeType="gp3")
        return str(made["VolumeId"])

    def volume_of(self, instance: str) -> str:
        """Return the data volume of a machine."""
        mapped = self.describe(instance)["BlockDeviceMappings"]
        return str(next(one["Ebs"]["VolumeId"] for one in mapped if one["DeviceName"] == "/dev/sdf"))

    def volume_file(self, volume: str, size_gib: int = 1) -> Path:
        """Return the file that holds a volume's bytes; a test may write to it while no machine has it."""
        path = self.cloud.directory / "volumes" / f"{volume}.img"
        if not path.exists():
            path.touch(mode=0o600)
            os.truncate(path, size_gib << 30)
        return path

    def digest(self, volume: str) -> str:
        """Return the SHA-256 of a volume's bytes."""
        with self.volume_file(volume).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def active(self, instance: str, *units: str) -> dict[str, str]:
        """Return the state of units as systemd says it."""
        # is-active exits with another code than 0 when one is not.
        said = self.run(instance, f"systemctl is-active {' '.join(units)} || true").split()
        return dict(zip(units, said, strict=True))

    def query(self, instance: str, sql: str, role: str = "zmanim", database: str = "zmanim") -> str:
        """Ask PostgreSQL through its socket as the system user and role `role`."""
        quoted = sql.replace("'", "'\\''")
        command = f"psql --no-psqlrc --tuples-only --no-align --set=ON_ERROR_STOP=1 --command='{quoted}' {database}"
        return self.run(instance, f"cd /; runuser -u {role} -- {command}")

    def redis(self, instance: str, *commands: str) -> str:
        """Ask Redis as the API's user, with the password that the API was given."""
        asked = "\n".join(commands)
        found = r"sed -n 's|^REDIS_URL=\"redis://zmanim:\([^@]*\)@.*|\1|p' /run/zmanim/secrets/api.env"
        # In the address it is percent-encoded.
        decode = "python3 -c 'import sys, urllib.parse; print(urllib.parse.unquote(sys.stdin.read().strip()))'"
        return self.run(
            instance,
            f'REDISCLI_AUTH="$({found} | {decode})" redis-cli --user zmanim --no-auth-warning <<"END"\n{asked}\nEND',
        )

    def secrets(self, environment: str = ENVIRONMENT) -> dict[str, str]:
        """Return the secrets of an environment by the names of their parameters."""
        path = f"/zmanim/{environment}/"
        found = self.ssm.get_parameters_by_path(Path=path, WithDecryption=True)["Parameters"]
        return {one["Name"]: one["Value"] for one in found if one["Type"] == "SecureString"}

    def prepare(self, environment: str) -> None:
        """Give an environment its account: secrets, buckets, role."""
        self.task("account.apply", "--environment", environment)

    def task(self, task: str, *arguments: str, directory: Path = ROOT) -> str:
        """Run a production task against this cloud; return its stdout."""
        done = subprocess.run(
            [sys.executable, "-m", "invoke", task, *arguments],
            cwd=directory,
            env=clouds.environment(self.cloud, ROOT / clouds.VERSIONS_FILE, os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def image_cloud() -> Iterator[ImageLab]:
    """Start a cloud as a rehearsal does, build the image of this work tree in it, and take it down at the end.

    IMAGE_TEST_CLOUD names a cloud that is up and is left up, with its image if it has one: for working on a test.
    """
    given = os.environ.get("IMAGE_TEST_CLOUD")
    name = given or f"image{os.getpid()}"
    prepared = clouds.prepare(ROOT, user_cache())
    with tempfile.TemporaryDirectory(prefix="image-", dir="/var/tmp") as directory:
        try:
            cloud = clouds.start(name, prepared, clouds.STATE, ROOT / "infrastructure" / "iam")
            lab = ImageLab(cloud, prepared.standin.root, Path(directory), "")
            lab.image = _existing(lab) if given else ""
            lab.image = lab.image or _build(lab, Path(directory) / "clone")
            yield lab
        finally:
            if not given:
                clouds.stop(name, clouds.STATE)


def _existing(lab: ImageLab) -> str:
    found = lab.ec2.describe_images(Filters=[{"Name": "name", "Values": [f"zmanim-{VERSION}"]}])["Images"]
    return str(found[0]["ImageId"]) if found else ""


def _build(lab: ImageLab, clone: Path) -> str:
    """Build the image from a copy of this work tree: building in it would disturb whoever works there."""
    subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(clone)], check=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    told = lab.task("build-ami", "--version", VERSION, "--json", directory=clone)
    return str(json.loads(told)["ami_id"])
