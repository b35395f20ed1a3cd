"""docs/on-aws.md, typed from its first line to its last into an empty account of the local cloud."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from localcloud import control
from localcloud.environment import environment
from tests.support import ROOT, bucket_name
from tests.support.machines.image import ImageLab, copy_work_tree
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import owner
from zmanim_ami.toolchain.environment import user_cache

PAGE = (ROOT / "docs/on-aws.md").read_text("utf-8")
# What is typed: blocks, and what stands in backquotes and begins with a program.
TYPED = re.compile(r"^ *```sh\n(?P<block>.*?)^ *```$|`(?P<inline>(?:\./inv|aws|eval) [^`]+)`", re.DOTALL | re.MULTILINE)
# What can't be typed here, each with its reason. The rest of the page's first chapter is GitHub's and AWS's own: an
# account, a repository and its environments, the click on a mail (control.confirm_all makes it here).
NOT_HERE: Mapping[str, str] = {
    r'\./inv cloud\.up --bare && eval "\$\(\./inv cloud\.env\)"': "the test has a cloud of its own beside a person's",
    r"\./inv resolve-packages": "needs Amazon's own repositories: a job of verify.yml runs it in Amazon Linux",
}
OLDER, NEWER = "v1.2.2", "v1.2.3"


@dataclass
class Desk:
    """Where a person sits: a clone, a cloud with an empty account, and a machine that has the AWS CLI."""

    lab: ImageLab
    clone: Path
    known: dict[str, str] = field(default_factory=dict)
    aws_at: str = ""

    def type(self, command: str) -> str:
        """Run a command of the page, with what its angle brackets stand for; return what it printed."""
        for name, value in self.known.items():
            command = command.replace(f"<{name}>", value)
        assert not re.search(r"<[a-z]+>", command), command
        return self._by_aws(command) if command.startswith("aws ") else self._by_inv(command)

    def _by_inv(self, command: str) -> str:
        known = clouds.environment(self.lab.cloud, ROOT / clouds.VERSIONS_FILE, os.environ)
        # Not the wrapper: it would make the clone an environment of its own, which unit tests of it do.
        words = command.replace("./inv ", f"{sys.executable} -m invoke ")
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", words],
            cwd=self.clone, env=known, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _by_aws(self, command: str) -> str:
        # In a machine: the host may have no AWS CLI.
        if not self.aws_at:
            self.aws_at = self.lab.launch(self.known["id"])
            self.lab.wait_online(self.aws_at)
        known = environment(self.lab.cloud, {})
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        operator = " ".join(f"{name}={known[name]}" for name in names)
        return self.lab.enter(self.aws_at, ["bash", "-ec", f"export {operator}; {command}"])


def commands() -> Iterator[str]:
    """Every command of the page, in its order."""
    for match in TYPED.finditer(PAGE):
        text = match["block"] or match["inline"]
        joined = text.replace("\\\n", " ") if match["block"] else text.replace("\n", " ")
        yield from (" ".join(line.split()) for line in joined.splitlines() if line.strip())


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    name, prepared = owner.this_process().name("page"), clouds.prepare(ROOT, user_cache())
    with tempfile.TemporaryDirectory(prefix="page-", dir="/var/tmp") as directory:
        clone = Path(directory) / "clone"
        copy_work_tree(clone)
        try:
            cloud = clouds.start(name, prepared, clouds.STATE, ROOT / "infrastructure" / "iam", empty=True)
            yield Desk(ImageLab(cloud, prepared.root, Path(directory), ""), clone)
        finally:
            control.down(name, clouds.STATE)


def test_the_page_is_walked_from_its_first_line_to_its_last(desk: Desk) -> None:
    lab, left, walked = desk.lab, set(NOT_HERE), []
    assert lab.client("iam").list_roles()["Roles"] == []
    for command in commands():
        skipped = [pattern for pattern in NOT_HERE if re.fullmatch(pattern, command)]
        left.difference_update(skipped)
        if not skipped:
            _before(desk, command)
            _after(desk, command, desk.type(command))
            walked.append(command)
    lab.terminate(desk.known["new"])
    lab.ec2.delete_volume(VolumeId=desk.known["volume"])
    assert left == set(), "the page has no such command any more"
    typed = " ".join(walked)
    for word in ("account.apply", "build-ami", "verify-ami", "publish-ssm", "sweep", "run-instances", "attach-volume"):
        assert word in typed


def _before(desk: Desk, command: str) -> None:
    """What has to be there for a command: the image that it goes back to; rows that are to be there afterwards."""
    if command.startswith("./inv build-ami"):
        desk.type(command.replace(NEWER, OLDER))
    if command.startswith("./inv backup.now --instance"):
        desk.lab.query(desk.known["instance"], "CREATE TABLE kept AS SELECT 7 AS n")


def _after(desk: Desk, command: str, output: str) -> None:
    """What a command promises, and what the next ones' angle brackets stand for."""
    lab = desk.lab
    if command.startswith("./inv account.apply"):
        control.confirm_all(lab.cloud)
        # A second time changes nothing.
        for each in ("prod", "verify"):
            assert json.loads(desk.type(f"./inv account.plan --environment {each} --json")) == []
        assert lab.client("s3").head_bucket(Bucket=bucket_name("backups"))
    elif command.startswith("./inv build-ami"):
        desk.known["id"] = _published(lab)
        assert lab.ec2.describe_images(ImageIds=[desk.known["id"]])["Images"][0]["Name"] == f"zmanim-{NEWER}"
        subnets = lab.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        chosen = min(subnets, key=lambda each: str(each["AvailabilityZone"]))
        desk.known["subnet"] = chosen["SubnetId"]
        # A person's own group; nothing of this walk comes in by the network.
        made = lab.ec2.create_security_group(GroupName="api", Description="who reaches the API", VpcId=chosen["VpcId"])
        desk.known["group"] = made["GroupId"]
    elif "image.rollback" in command:
        assert _published(lab) != desk.known["id"]
        desk.type(f"./inv image.promote --version {NEWER}")
    elif command.startswith("aws ec2 run-instances"):
        (made,) = json.loads(output)["Instances"]
        again = "instance" in desk.known
        desk.known["new" if again else "instance"] = made["InstanceId"]
        if not again:
            lab.expect_ready(made["InstanceId"])
            lab.wait_online(made["InstanceId"])
            desk.known["volume"] = lab.volume_of(made["InstanceId"])
    elif command.startswith("aws ec2 attach-volume"):
        lab.expect_ready(desk.known["new"])
        lab.wait_online(desk.known["new"])
        assert lab.query(desk.known["new"], "SELECT n FROM kept").strip() == "7"


def _published(lab: ImageLab) -> str:
    return str(lab.ssm.get_parameter(Name="/zmanim/prod/ami-id")["Parameter"]["Value"])
