"""What tests of the real image share: a cloud that has it, built once by the production task, and its machines."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import mmap
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from localcloud import control
from localcloud.settings import NSPAWN, QEMU
from support.git import git, own_files
from tests.support import ROOT
from tests.support.machines.lab import Lab, wait_for
from zmanim_ami.pipeline.ready_report import ready_reports
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import identity, owner
from zmanim_ami.rehearsal.settings import MachineSettings
from zmanim_ami.toolchain.environment import user_cache

VERSION = "v9.0.0"
ENVIRONMENT = "verify"
ZONE = "eu-west-1a"
ACCESS_KEY = re.compile(rb"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])")
# With its first line of Base64: programs that read keys hold the bare header.
PRIVATE_KEY = re.compile(rb"PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}")
# The units that have to be active on a machine that serves: the image's own, and the packages' that it enables.
UNITS = (
    "zmanim.target", "data.mount", "zmanim-data-volume.service", "zmanim-data-layout.service", "zmanim-memory.service",
    "zmanim-environment.service", "zmanim-secrets.service", "postgresql.service", "redis.service",
    "zmanim-database.service", "zmanim-api.service", "zmanim-release-health.timer", "zmanim-ready.service",
    "restic-backup.timer", "sshd.service", "amazon-ssm-agent.service", "amazon-cloudwatch-agent.service",
    "zmanim-redis-damage.path", "zmanim-metrics.timer",
)  # fmt: skip
# Prints what of the stores' data lies on the root disk: nothing, as it should be.
NOT_ON_THE_ROOT_DISK = (
    "find / -xdev \\( -name PG_VERSION -o -name dump.rdb -o -name appendonlydir \\); find /data -xdev -mindepth 1"
)
# What writes to /data: none of it may run on a machine without its data volume.
STORES = ("postgresql.service", "redis.service", "zmanim-api.service")


@dataclass
class ImageLab(Lab):
    """A cloud that has the image, with few words for what tests do with its machines, of the kind `machines`."""

    image: str
    machines: str = field(default=NSPAWN, kw_only=True)

    def start(
        self,
        environment: str | None = ENVIRONMENT,
        *,
        consent: bool = True,
        data: bool = True,
        keep: bool = False,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> str:
        """Launch a machine as verify-ami does and return its id at once.

        Without `environment` or `consent` it lacks that tag, without `data` the blank data volume; `keep` lets the
        volume outlive it; `tags` are more of them. `environment` has to have been given its account (`prepare`).
        """
        wanted = {"zmanim:data-volume": "new"} if consent else {}
        wanted |= {"zmanim:environment": environment} if environment else {}
        wanted |= tags or {}
        if data:
            disk = {"VolumeSize": 1, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": not keep}
            options["BlockDeviceMappings"] = [{"DeviceName": "/dev/sdf", "Ebs": disk}]
        if wanted:
            listed = [{"Key": key, "Value": value} for key, value in wanted.items()]
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
        """Return all that a machine has said on its console; the API shows the last 64 KiB, a few boots."""
        return control.console(self.cloud, instance)

    def ready_reports(self, instance: str) -> list[dict[str, Any]]:
        """Return every ready report of a machine, one for each boot."""
        return [dict(report) for report in ready_reports(self.console(instance))]

    def wait_report(self, instance: str, *, boot: int = 1, seconds: float = 0) -> dict[str, Any]:
        """Wait for the ready line of a machine's boot (counted from 1), good or bad."""
        seconds = seconds or 3 * self.patience
        wait_for(lambda: len(self.ready_reports(instance)) >= boot, seconds, f"ready line {boot} of {instance}")
        # The line is there a moment before the agent is: the next thing a test does is to run something.
        wait_for(lambda: self.online(instance), self.patience, what=f"{instance} online")
        return self.ready_reports(instance)[boot - 1]

    def expect_ready(self, instance: str, *, boot: int = 1) -> dict[str, Any]:
        """Wait for the ready line of a machine's boot, which must be a good one."""
        report = self.wait_report(instance, boot=boot)
        failed = {name: check["detail"] for name, check in report["checks"].items() if not check["ok"]}
        assert report["ok"], failed
        return report

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

    def enter(self, instance: str, command: Sequence[str], input: str = "") -> str:
        """Run a command as root in a machine, not by its agent: nothing of it is written down there, nor cut off.

        A machine with a kernel of its own can't be entered: there it is Run Command's, and cut off as that does.
        """
        if self.machines == QEMU:
            content = base64.b64encode(input.encode()).decode()
            return self.run(instance, f"echo {content} | base64 --decode | {shlex.join(command)}")
        shell = [*control.shell_command(self.cloud, instance), "-c", 'exec "$@"', "sh", *command]
        try:
            return subprocess.run(shell, input=input, capture_output=True, text=True, check=True).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)  # else a failed test would not say why
            raise

    def output(self, instance: str, script: str) -> str:
        """Run a script that must succeed; return all that it wrote to stdout, also where that is too long for AWS."""
        self.run(instance, f"({script}) | gzip -c | base64 --wrap=0 >/run/output")
        size = int(self.run(instance, "stat --format=%s /run/output"))
        # Run Command gives 24,000 characters of it (GetCommandInvocation).
        parts = [f"tail --bytes=+{start + 1} /run/output | head --bytes=20000" for start in range(0, size, 20000)]
        text = "".join(self.run(instance, part) for part in parts)
        self.run(instance, "rm /run/output")
        return gzip.decompress(base64.b64decode(text)).decode()

    def put(self, instance: str, path: str, content: bytes) -> None:
        """Put a program in a machine, in the place of the one that is there."""
        shell = control.shell_command(self.cloud, instance)
        command = [*shell, "-c", 'cat >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0"', path]
        subprocess.run(command, input=content, check=True)

    def root_disk(self, instance: str) -> Path:
        """Return the directory of the host that has what a machine wrote to its root disk since it was launched."""
        return self.cloud.directory / "machines" / instance / "upper"

    def active(self, instance: str, *units: str) -> dict[str, str]:
        """Return the state of units as systemd says it."""
        # is-active exits with another code than 0 when one is not.
        output = self.run(instance, f"systemctl is-active {' '.join(units)} || true").split()
        return dict(zip(units, output, strict=True))

    def all_active(self, instance: str) -> bool:
        """Wait until a machine is done booting (agents start after the ready line); say whether UNITS are active."""
        self.run(instance, "systemctl is-system-running --wait >/dev/null || true")
        return self.active(instance, *UNITS) == dict.fromkeys(UNITS, "active")

    def query(self, instance: str, sql: str, role: str = "zmanim", database: str = "zmanim") -> str:
        """Ask PostgreSQL through its socket as the system user and role `role`."""
        quoted = sql.replace("'", "'\\''")
        command = f"psql --no-psqlrc --tuples-only --no-align --set=ON_ERROR_STOP=1 --command='{quoted}' {database}"
        return self.run(instance, f"cd /; runuser -u {role} -- {command}")

    def redis(self, instance: str, *commands: str) -> str:
        """Ask Redis as the API's user, with the password that the API was given."""
        command = "\n".join(commands)
        password = r"sed -n 's|^REDIS_URL=\"redis://zmanim:\([^@]*\)@.*|\1|p' /run/zmanim/secrets/api.env"
        # In the address it is percent-encoded.
        decode = "python3 -c 'import sys, urllib.parse; print(urllib.parse.unquote(sys.stdin.read().strip()))'"
        return self.run(
            instance,
            f'REDISCLI_AUTH="$({password} | {decode})" redis-cli --user zmanim --no-auth-warning '
            f'<<"END"\n{command}\nEND',
        )

    def secrets(self, environment: str = ENVIRONMENT) -> dict[str, str]:
        """Return the secrets of an environment by the names of their parameters."""
        path = f"/zmanim/{environment}/"
        result = self.ssm.get_parameters_by_path(Path=path, WithDecryption=True)["Parameters"]
        return {one["Name"]: one["Value"] for one in result if one["Type"] == "SecureString"}

    def prepare(self, environment: str) -> None:
        """Give an environment its account: secrets, buckets, role; and click on what it mails."""
        self.task("account.apply", "--environment", environment)
        control.confirm_all(self.cloud)

    def task(self, task: str, *arguments: str, directory: Path = ROOT, step: str = "", **settings: str) -> str:
        """Run a production task against this cloud, under the role of a `step` of the release; return its stdout."""
        done = self.try_task(task, *arguments, directory=directory, step=step, **settings)
        assert done.returncode == 0, done.stderr + self.trouble()
        return done.stdout

    def try_task(
        self, task: str, *arguments: str, directory: Path = ROOT, step: str = "", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a production task, with `settings` by their environment variables; return how it ended."""
        return subprocess.run(
            [sys.executable, "-m", "invoke", task, *arguments],
            cwd=directory,
            env=self.task_environment(step) | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def task_environment(self, step: str = "") -> dict[str, str]:
        """Return the environment of a task against this cloud, under the role of a `step` of the release."""
        environment = clouds.environment(self.cloud, ROOT / clouds.VERSIONS_FILE, os.environ)
        if step:
            environment = identity.environment_of(step, self.cloud, environment, f"refs/tags/{VERSION}-ami")
        return environment


@contextmanager
def image_cloud(*, own_base: bool = False, machines: str = NSPAWN, patience: float = 30.0) -> Iterator[ImageLab]:
    """Start a cloud as a rehearsal does, build the image of this work tree in it, and take it down at the end.

    With `own_base` its base is a copy of the cached one, which no other cloud's machines have in memory. `machines` is
    the kind of its machines, builder and all, `patience` theirs (Lab).
    IMAGE_TEST_STATE names a directory whose cloud is left up with its image, and found there by the next run: for
    working on a test.
    """
    given = os.environ.get("IMAGE_TEST_STATE")
    # A mark of this process in its name: `cloud.down` leaves it alone while we live, and takes it down afterwards.
    kind = "image" if machines == NSPAWN else f"image{machines}"
    name, state = (kind, Path(given)) if given else (owner.this_process().name(kind), clouds.STATE)
    cache = user_cache()
    prepared = clouds.with_machines(clouds.prepare(ROOT, cache), cache, MachineSettings(machines=machines))
    with tempfile.TemporaryDirectory(prefix="image-", dir="/var/tmp") as directory:
        try:
            if own_base:
                copy = Path(directory) / "base"
                subprocess.run(["cp", "--archive", "--reflink=auto", str(prepared.root), str(copy)], check=True)
                prepared = replace(prepared, root=copy)
            cloud = clouds.start(name, prepared, state, ROOT / "infrastructure" / "iam")
            lab = ImageLab(cloud, prepared.root, Path(directory), "", patience=patience, machines=machines)
            lab.image = (_existing(lab) if given else "") or _build(lab, Path(directory) / "clone")
            yield lab
        finally:
            if not given:
                control.down(name, state)


def _existing(lab: ImageLab) -> str:
    result = lab.ec2.describe_images(Filters=[{"Name": "name", "Values": [f"zmanim-{VERSION}"]}])["Images"]
    return str(result[0]["ImageId"]) if result else ""


def _build(lab: ImageLab, clone: Path) -> str:
    copy_work_tree(clone)
    report = lab.task("build-ami", "--version", VERSION, "--json", directory=clone, step="build")
    return str(json.loads(report)["ami_id"])


def copy_work_tree(clone: Path) -> None:
    """Copy this work tree: building in it would disturb whoever works there."""
    git(ROOT, "clone", "--quiet", "--local", str(ROOT), str(clone))
    for path in own_files(ROOT):
        target = clone / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            shutil.copy2(path, target)


def image_files(lab: ImageLab) -> dict[str, Path]:
    """Return every path in the image and the file of the host that is there, without booting it.

    The image is a layer on the base: what the layer has hides what the base has, and a whiteout (a device 0:0) or an
    opaque directory takes away what is below it, as man 5 overlayfs says.
    """
    return merged(lab.cloud.directory / "layers" / lab.image, lab.root)


def merged(upper: Path, lower: Path) -> dict[str, Path]:
    """Return what an overlay of two trees shows, by its path."""
    result: dict[str, Path] = {}
    hidden: set[str] = set()
    for path in walk(upper):
        name = f"/{path.relative_to(upper)}"
        status = path.lstat()
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            hidden.add(name)
            continue
        result[name] = path
        if path.is_dir() and not path.is_symlink() and _is_opaque(path):
            hidden.add(name)
    for path in walk(lower):
        name = f"/{path.relative_to(lower)}"
        if name not in result and not any(parent in hidden for parent in _and_parents(name)):
            result[name] = path
    return result


def walk(tree: Path) -> Iterator[Path]:
    """Yield everything below `tree`, links as what they are."""
    for directory, folders, files in os.walk(tree):
        for name in (*folders, *files):
            yield Path(directory, name)


def _and_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition("/")[0]


def _is_opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def files_with(
    tree: Path, values: Sequence[bytes], *, keys: bool = False, paths: Iterable[Path] | None = None
) -> Iterator[str]:
    """Name every file below `tree` that has one of `values` in it (or, with `keys`, any key of AWS or private key).

    With `paths`, of these only.
    """
    plain = re.compile(b"|".join(map(re.escape, values)))
    looks = [(value, plain) for value in values]
    if keys:
        # Looking for a few fixed words first is ten times faster than the expressions.
        looks += [(b"AKIA", ACCESS_KEY), (b"ASIA", ACCESS_KEY), (b"PRIVATE KEY-----", PRIVATE_KEY)]
    for path in sorted(tree.rglob("*") if paths is None else paths):
        if path.is_symlink() or not path.is_file() or not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            result = [
                match for word, pattern in looks if content.find(word) >= 0 and (match := pattern.search(content))
            ]
            if result:
                yield f"/{path.relative_to(tree)} at byte {result[0].start()}"
