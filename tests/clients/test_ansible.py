"""Ansible's amazon.aws, as it comes: the life of an instance and a volume, and twice the same changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.machines.lab import Lab

PLAY = Path(__file__).parent / "life.yml"


@dataclass(frozen=True)
class Played:
    """What a run of the play came to: how many tasks changed something, and those that did."""

    changed: int
    tasks: tuple[str, ...]


def play(programs: Path, lab: Lab, home: Path, **variables: str) -> Played:
    settings = {
        **lab.environment,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_PYTHON_INTERPRETER": str(programs / "python"),
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
    }
    given = [word for name, value in variables.items() for word in ("--extra-vars", f"{name}={value}")]
    command = [str(programs / "ansible-playbook"), str(PLAY), *given]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=600)
    report: Mapping[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    results = [(task["task"]["name"], task["hosts"]["localhost"]) for part in report["plays"] for task in part["tasks"]]
    failed = [(name, result.get("msg"), result.get("results")) for name, result in results if result.get("failed")]
    assert done.returncode == 0, f"{failed}\n{done.stderr[-2000:]}"
    changing = tuple(name for name, result in results if result.get("changed"))
    return Played(int(report["stats"]["localhost"]["changed"]), changing)


def test_the_life_of_an_instance_and_a_volume_twice_over(programs: Path, lab: Lab, tmp_path: Path) -> None:
    made = play(programs, lab, tmp_path, phase="made")
    assert {"A key pair", "A security group", "An instance", "A volume on it", "An image of the instance"} <= {
        *made.tasks
    }
    assert play(programs, lab, tmp_path, phase="made").tasks == ()

    (found,) = [
        each
        for item in lab.ec2.describe_instances(Filters=[{"Name": "tag:kind", "Values": ["clients"]}])["Reservations"]
        for each in item["Instances"]
    ]
    instance = str(found["InstanceId"])
    lab.wait_online(instance)
    # What the API says is so in the machine.
    assert lab.run(instance, "blockdev --getsize64 /dev/sdf") == str(1 << 30)
    assert play(programs, lab, tmp_path, phase="made", restart="true").tasks == ("Stop it", "Start it")

    gone = play(programs, lab, tmp_path, phase="gone")
    assert {"No instance", "No volume", "No image", "No security group", "No key pair"} <= {*gone.tasks}
    assert play(programs, lab, tmp_path, phase="gone").tasks == ()
    assert lab.state(instance) == "terminated"
    assert lab.ec2.describe_images(Owners=["self"])["Images"] == []
    assert lab.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    with pytest.raises(ClientError, match=r"InvalidKeyPair\.NotFound"):
        lab.ec2.describe_key_pairs(KeyNames=["clients"])
