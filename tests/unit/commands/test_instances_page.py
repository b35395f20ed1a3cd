"""docs/instances.md, typed from its first line to its last, in an account with two verified versions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from invoke.program import Program

import tasks
from tests.support import ROOT
from tests.support import pipeline_cloud as cloud
from tests.support.stages.instances import World, world
from zmanim_ami.pipeline import aws

PAGE = (ROOT / "docs/instances.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.strip()
]
SAYS = {"instance.launch": "v1.2.3", "instance.list": "v1.2.3", "instance.swap": "v1.2.4"}


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world() as made:
        monkeypatch.setattr(aws, "connect", lambda region, *_: cloud.clients(region))
        monkeypatch.setattr(aws, "poller", lambda environ: made.poller)
        monkeypatch.setenv("ZMANIM_REGION", made.clients.region)
        # The page begins with an environment that has no instance, and an address that leads nowhere yet.
        (address,) = made.clients.ec2.describe_addresses()["Addresses"]
        made.clients.ec2.disassociate_address(AssociationId=address["AssociationId"])
        made.clients.ec2.terminate_instances(InstanceIds=[made.old])
        yield made


def test_every_command_of_the_page_does_what_it_says(stage: World, capsys: pytest.CaptureFixture[str]) -> None:
    ec2: Any = stage.clients.ec2
    zone = [{"Name": "availability-zone", "Values": ["eu-west-1a"]}]
    known = {
        "subnet": ec2.describe_subnets(Filters=zone)["Subnets"][0]["SubnetId"],
        "group": ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"],
    }
    typed = set[str]()
    for command in COMMANDS:
        words = shlex.split(re.sub(r"<(\w+)>", lambda match: known[match[1]], command))
        if words[0] == "aws":
            _by_boto3(ec2, words[1:])
            continue
        capsys.readouterr()
        Program(namespace=tasks.namespace).run(["inv", *words[1:]])
        said = capsys.readouterr()
        assert SAYS[words[1]] in said.out, command
        typed.add(words[1])
        if words[1] == "instance.launch" and "--dry" not in words:
            (known["old"],) = cloud.alive(stage.clients)
            address = ec2.describe_addresses()["Addresses"][0]["AllocationId"]
            ec2.associate_address(AllocationId=address, InstanceId=known["old"])
        if words[1] == "instance.swap" and "--dry" not in words:
            known["snapshot"] = ec2.describe_snapshots(Filters=[{"Name": "tag-key", "Values": ["zmanim:swap"]}])[
                "Snapshots"
            ][0]["SnapshotId"]
    assert typed == set(SAYS)
    assert [stage.version(each) for each in cloud.alive(stage.clients)] == ["v1.2.4"]


def _by_boto3(ec2: Any, words: list[str]) -> None:
    """Do what a command of the AWS CLI does: there is no endpoint here that it could reach."""
    operation = words[1].replace("-", "_")
    options = dict(zip(words[2::2], words[3::2], strict=False))
    if operation == "modify_instance_attribute":
        assert words[-1] == "--no-disable-api-termination"
        ec2.modify_instance_attribute(InstanceId=options["--instance-id"], DisableApiTermination={"Value": False})
    elif operation == "terminate_instances":
        ec2.terminate_instances(InstanceIds=[options["--instance-ids"]])
    else:
        assert operation == "delete_snapshot"
        ec2.delete_snapshot(SnapshotId=options["--snapshot-id"])
