"""The production tasks against the local cloud: what a release does, and what one that is cut short leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localcloud import control
from localcloud.settings import Cloud
from tests.support import ROOT
from tests.support.machines.image import copy_work_tree
from tests.support.machines.lab import Lab, wait_for
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import owner
from zmanim_ami.toolchain.environment import user_cache

PARAMETERS = ["/zmanim/prod/ami-id", "/zmanim/prod/ami-version"]


@dataclass(frozen=True)
class Release:
    """A clone, and the cloud that its tasks are pointed at."""

    clone: Path
    lab: Lab
    environment: dict[str, str]

    def start(self, task: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a task as a person would; its stderr goes to a file of the clone."""
        with (self.clone / "stderr").open("w") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", "invoke", task, *arguments],
                cwd=self.clone,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def run(self, task: str, *arguments: str, ends: int = 0) -> dict[str, Any]:
        """Run a task to its end, which must be the exit code `ends`; return its JSON."""
        with self.start(task, *arguments, "--json") as process:
            out, _ = process.communicate(timeout=400)
        assert process.returncode == ends, self.stderr()
        assert "Traceback" not in self.stderr()
        return json.loads(out) if out else {}

    def stderr(self) -> str:
        """Return what the last task wrote to stderr."""
        return (self.clone / "stderr").read_text()

    def published(self) -> dict[str, str]:
        """Return the parameters of a release that are there."""
        result = self.lab.ssm.get_parameters(Names=PARAMETERS)["Parameters"]
        return {parameter["Name"]: parameter["Value"] for parameter in result}

    def leftovers(self) -> dict[str, list[str]]:
        """Return what a build or a verification would have to clean up: nothing, when it did."""
        ec2 = self.lab.ec2
        alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        return {
            "instances": [
                instance["InstanceId"]
                for reservation in ec2.describe_instances(Filters=alive)["Reservations"]
                for instance in reservation["Instances"]
            ],
            "key pairs": [pair["KeyName"] for pair in ec2.describe_key_pairs()["KeyPairs"]],
            "security groups": [
                group["GroupName"]
                for group in ec2.describe_security_groups()["SecurityGroups"]
                if group["GroupName"].startswith("packer")
            ],
            "volumes": [volume["VolumeId"] for volume in ec2.describe_volumes()["Volumes"]],
        }


NOTHING: dict[str, list[str]] = {"instances": [], "key pairs": [], "security groups": [], "volumes": []}


@pytest.fixture(scope="module")
def release_cloud() -> Iterator[tuple[Cloud, Path]]:
    """A cloud as a rehearsal starts it: base image, mirror and account."""
    prepared = clouds.prepare(ROOT, user_cache())
    name = owner.this_process().name("release")  # so that `cloud.down` beside us leaves it alone
    try:
        yield clouds.start(name, prepared, clouds.STATE, ROOT / "infrastructure" / "iam"), prepared.versions_file
    finally:
        control.down(name, clouds.STATE)


@pytest.fixture
def release(release_cloud: tuple[Cloud, Path], tmp_path: Path) -> Release:
    """A clone of this work tree, uncommitted changes included, that a test may change."""
    cloud, versions_file = release_cloud
    clone = tmp_path / "clone"
    copy_work_tree(clone)
    lab = Lab(cloud, Path(), tmp_path)
    return Release(clone, lab, clouds.environment(cloud, versions_file, os.environ))


def test_a_release_is_built_verified_and_published_and_a_repetition_changes_nothing(release: Release) -> None:
    version = ("--version", "v1.0.0")
    built = release.run("build-ami", *version)
    assert not built["reused"]

    release.run("publish-ssm", *version, ends=2)
    assert "has not been verified" in release.stderr()
    assert release.published() == {}

    verified = release.run("verify-ami", *version)
    assert verified["health"]["data"]["status"] == "ok"
    wait_for(lambda: release.leftovers() == NOTHING, 30, "the verified instance and its volumes to go")

    published = release.run("publish-ssm", *version)
    assert published["changed"]
    assert release.published() == dict(zip(PARAMETERS, [built["ami_id"], "v1.0.0"], strict=True))

    assert release.run("build-ami", *version)["reused"]
    again = release.run("publish-ssm", *version)
    assert not again["changed"]
    assert again["parameter_versions"] == published["parameter_versions"]

    calls = [json.loads(line) for line in (release.lab.cloud.directory / "api.jsonl").read_text().splitlines()]
    assert {"RunInstances", "CreateImage", "SendCommand", "PutParameter"} <= {call["operation"] for call in calls}
    assert [call for call in calls if not call["emulated"]] == []


@pytest.mark.incident("a published image was replaced by another one under its name")
def test_a_published_image_is_never_replaced_by_another_tree(release: Release) -> None:
    if "/zmanim/prod/ami-id" not in release.published():
        pytest.fail("the test before this one publishes v1.0.0")
    before = release.published()
    with (release.clone / "infrastructure/packer/files/config.env.template").open("a") as file:
        file.write("# changed\n")
    release.run("build-ami", "--version", "v1.0.0", "--replace", ends=2)
    assert "v1.0.0" in release.stderr()
    assert release.published() == before


def test_a_script_that_fails_ends_the_build_with_its_words_and_leaves_nothing(release: Release) -> None:
    before = release.published()
    script = release.clone / "infrastructure/packer/scripts/install-restic.sh"
    script.write_text("echo 'no restic today' >&2\nexit 9\n")
    release.run("build-ami", "--version", "v1.1.0", ends=1)
    assert "no restic today" in release.stderr()
    assert release.leftovers() == NOTHING
    assert release.published() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(release: Release, number: signal.Signals) -> None:
    with release.start("build-ami", "--version", "v1.2.0") as process:
        wait_for(lambda: release.leftovers()["instances"], 60, "a builder")
        process.send_signal(number)
        assert process.wait(60) == 130
    assert "Traceback" not in release.stderr()
    assert release.leftovers() == NOTHING


def test_a_build_that_is_killed_outright_is_cleaned_up_by_packer(release: Release) -> None:
    with release.start("build-ami", "--version", "v1.3.0") as process:
        wait_for(lambda: release.leftovers()["instances"], 60, "a builder")
        process.kill()
    wait_for(lambda: release.leftovers() == NOTHING, 60, "Packer's own cleaning")


def test_a_source_image_that_is_not_there_is_said_before_anything_is_launched(release: Release) -> None:
    release.run("build-ami", "--version", "v1.4.0", "--source-ami-id", "ami-0123456789abcdef0", ends=1)
    assert "ami-0123456789abcdef0" in release.stderr()
    assert release.leftovers() == NOTHING


def test_a_builder_that_never_answers_ssh_is_given_up_and_cleaned_up(release: Release) -> None:
    template = release.clone / "infrastructure/packer/zmanim-ami.pkr.hcl"
    text = template.read_text()
    deaf = re.sub(r'ssh_timeout( +)= "5m"', r'ssh_timeout\1= "15s"\n  ssh_port\1   = 2222', text)
    assert deaf != text
    template.write_text(deaf)
    release.run("build-ami", "--version", "v1.5.0", ends=1)
    assert "does not answer SSH" in release.stderr()
    assert release.leftovers() == NOTHING


def test_a_region_that_does_not_exist_is_refused(release: Release) -> None:
    release.run("build-ami", "--version", "v1.4.0", "--region", "xx-nowhere-1", ends=2)
    assert "xx-nowhere-1" in release.stderr()
