"""What tests of booted machines share: a cloud to launch in, and few words for what they do with it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from localcloud.environment import environment
from localcloud.settings import Cloud

IMAGE = "al2023-ami-2023.12.20260930.0-kernel-6.12-arm64"


def wait_for(condition: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """Poll until `condition` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.05)


@dataclass
class Lab:
    """A cloud with its clients. `patience` is how long its machines may take to change their state, in seconds."""

    cloud: Cloud
    root: Path
    directory: Path
    patience: float = field(default=30.0, kw_only=True)
    session: boto3.Session = field(init=False)

    def __post_init__(self) -> None:
        self.environment = environment(self.cloud, os.environ)
        self.session = boto3.Session(self.cloud.key, "localcloud", region_name=self.cloud.region)
        self.ec2 = self.client("ec2")
        self.ssm = self.client("ssm")

    def client(self, service: str) -> Any:
        """Return a client of this cloud."""
        return self.session.client(service, endpoint_url=self.cloud.endpoint)  # type: ignore[call-overload]  # its overloads want a literal

    @property
    def user(self) -> str:
        """The user that cloud-init makes in the base image."""
        text = (self.root / "etc/cloud/cloud.cfg").read_text()
        result = re.search(r"default_user:\s*\n\s*name: *(\S+)", text)
        assert result
        return result[1]

    def base_image(self) -> str:
        """Return the base image's id, found as a template finds it."""
        result = self.ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "name", "Values": [IMAGE]}])["Images"]
        return str(result[0]["ImageId"])

    def launch(self, image: str = "", **options: Any) -> str:
        """Launch one instance; return its id at once."""
        options = {"InstanceType": "t4g.small", **options}
        launched = self.ec2.run_instances(ImageId=image or self.base_image(), MinCount=1, MaxCount=1, **options)
        return str(launched["Instances"][0]["InstanceId"])

    def launch_and_wait(self, image: str = "", **options: Any) -> str:
        """Launch one instance and wait until commands run in it."""
        instance = self.launch(image, **options)
        self.wait_online(instance)
        return instance

    def describe(self, instance: str) -> dict[str, Any]:
        """Return what DescribeInstances says of one."""
        result: dict[str, Any] = self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        return result

    def state(self, instance: str) -> str:
        """Return an instance's state."""
        return str(self.describe(instance)["State"]["Name"])

    def wait_state(self, instance: str, state: str) -> None:
        """Wait until an instance is in that state."""
        wait_for(lambda: self.state(instance) == state, self.patience, what=f"{instance} {state}")

    def online(self, instance: str) -> bool:
        """Say whether the agent of an instance answers."""
        filters = [{"Key": "InstanceIds", "Values": [instance]}]
        return bool(self.ssm.describe_instance_information(Filters=filters)["InstanceInformationList"])

    def wait_online(self, instance: str) -> None:
        """Wait until commands run in an instance, and until it is done booting."""
        wait_for(lambda: self.online(instance), self.patience, what=f"{instance} online")
        self.run(instance, "systemctl is-system-running --wait >/dev/null; cloud-init status --wait >/dev/null; true")

    def run(self, instance: str, script: str) -> str:
        """Run a script that must succeed; return what it wrote to stdout."""
        answer = self.try_run(instance, script)
        assert answer["Status"] == "Success", answer["StandardOutputContent"] + answer["StandardErrorContent"]
        return str(answer["StandardOutputContent"]).strip()

    def try_run(self, instance: str, script: str, **options: Any) -> dict[str, Any]:
        """Run a script; return its invocation."""
        parameters = {"commands": [script], **options}
        sent = self.ssm.send_command(InstanceIds=[instance], DocumentName="AWS-RunShellScript", Parameters=parameters)
        which = {"CommandId": sent["Command"]["CommandId"], "InstanceId": instance}

        def ended() -> dict[str, Any] | None:
            answer: dict[str, Any] = self.ssm.get_command_invocation(**which)
            return None if answer["Status"] in {"Pending", "InProgress"} else answer

        # A restore takes minutes beside other work; only what hangs is to end here.
        result: dict[str, Any] = wait_for(ended, max(300, self.patience), what=script)
        return result

    def trouble(self) -> str:
        """Return what the cloud has logged of late and which calls had to be repeated, for a failure's report."""
        log = (self.cloud.directory / "server.log").read_text(errors="replace").splitlines()[-20:]
        calls = (self.cloud.directory / "api.jsonl").read_text().splitlines()
        repeated = [line for line in calls if '"attempt": 1}' not in line][-10:]
        return "\n".join(["", "the cloud's log:", *log, "calls made again:", *repeated])

    def terminate(self, *instances: str) -> None:
        """Terminate instances and wait until they are gone."""
        self.ec2.terminate_instances(InstanceIds=list(instances))
        for instance in instances:
            self.wait_state(instance, "terminated")

    def key_pair(self, name: str) -> Path:
        """Make a key pair; return the private key's file."""
        made = self.ec2.create_key_pair(KeyName=name, KeyType="ed25519")
        path = self.directory / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(made["KeyMaterial"])
        return path

    def ssh(self, instance: str, key: Path, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command over SSH, as the image's user."""
        return subprocess.run(
            ["ssh", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
             "-o", "ConnectTimeout=3", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
             f"{self.user}@{self.describe(instance)['PublicIpAddress']}", command],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def inside(self, *kinds: str) -> list[str]:
        """Return the command that enters namespaces of the cloud: `net` has its bridge, `mount` its bases' disks."""
        server = [b"localcloud.server", str(self.cloud.directory).encode()]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command, name = path.read_bytes().split(b"\0"), path.with_name("comm").read_text()
            except OSError:
                continue  # it ended in between
            if command[-3:-1] == server and name.startswith("python"):
                return ["nsenter", "--target", path.parent.name, *(f"--{kind}" for kind in kinds)]
        raise AssertionError(f"no server of {self.cloud.directory}")
