"""What starts by itself on every kind of boot, what a service can reach, who gets in over SSH, and what the CloudWatch
agent is given.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.machines.image import ENVIRONMENT, ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.promises import filters
from tests.support.machines.promises.units import expect_all_well

PRESET = "/usr/lib/systemd/system-preset/00-zmanim.preset"
SSHD = "/etc/ssh/sshd_config.d"
OPEN = "PasswordAuthentication yes\nKbdInteractiveAuthentication yes\nPermitRootLogin yes\n"


@dataclass(frozen=True)
class Opened:
    """A machine and the key of its key pair."""

    machine: str
    key: Path


@pytest.fixture(scope="module")
def opened(images: ImageLab) -> Iterator[Opened]:
    key = images.key_pair("units")
    machine = images.serve(KeyName="units")
    yield Opened(machine, key)
    images.terminate(machine)


@pytest.mark.incident("every unit shipped disabled")
def test_everything_starts_by_itself_at_the_first_boot(images: ImageLab, opened: Opened) -> None:
    expect_all_well(images, opened.machine)


@pytest.mark.fault(
    48,
    injected="a stop and a start, with every preset applied anew",
    must="no unit has failed, everything of ours runs",
)
@pytest.mark.incident("a machine-id that says 'uninitialized' makes systemd disable what was enabled by hand")
def test_presets_that_are_applied_again_enable_everything_and_a_stopped_machine_comes_back(
    images: ImageLab, opened: Opened
) -> None:
    machine = opened.machine
    # Without ours the distribution's last line, disable *, would be the last word: this is what the test is about.
    images.run(machine, f"mv {PRESET} /root/; systemctl preset-all 2>&1; mv /root/{Path(PRESET).name} {PRESET}")
    assert images.run(machine, "systemctl is-enabled redis.service || true") == "disabled"
    images.run(machine, "systemctl preset-all 2>&1")
    before = images.run(machine, "cat /proc/sys/kernel/random/boot_id")

    images.ec2.stop_instances(InstanceIds=[machine])
    images.wait_state(machine, "stopped")
    images.ec2.start_instances(InstanceIds=[machine])
    images.expect_ready(machine, boot=2)
    assert images.run(machine, "cat /proc/sys/kernel/random/boot_id") != before
    expect_all_well(images, machine)


@pytest.mark.incident("the API could ask the metadata service for the role that reads every backup")
def test_no_service_reaches_the_metadata_service_but_those_that_have_to(images: ImageLab, opened: Opened) -> None:
    filters.expect_metadata_out_of_reach(images, opened.machine)


@pytest.mark.incident("the API could ask the metadata service for the role that reads every backup")
def test_the_api_s_process_gets_no_role_and_opens_no_disk(images: ImageLab, opened: Opened) -> None:
    filters.expect_no_role_and_no_disk(images, opened.machine)


@pytest.mark.fault(48, injected="two machines of one image", must="machine-id and host keys differ")
@pytest.mark.incident("two machines of one image had one identity")
def test_two_machines_have_their_own_identity_and_host_keys(images: ImageLab, served: str, opened: Opened) -> None:
    command = "cat /etc/machine-id; sha256sum </etc/ssh/ssh_host_ed25519_key; sha256sum </etc/ssh/ssh_host_ecdsa_key"
    first, second = (images.run(machine, command).split() for machine in (served, opened.machine))
    assert len(first) == len(second) == 5
    assert [one for one in first if one in second] == ["-", "-"]


def test_sshd_lets_a_key_in_and_no_password_and_never_root(images: ImageLab, opened: Opened) -> None:
    machine, word = opened.machine, secrets.token_hex(8)
    # Passwords that are right, and the right key for root: only sshd's rules stand in the way then.
    images.run(machine, f"printf '%s:{word}\\n' root {images.user} | chpasswd")
    keys = f"/home/{images.user}/.ssh/authorized_keys"
    images.run(machine, f"install -D --mode=0600 {keys} /root/.ssh/authorized_keys")

    def attempts() -> dict[str, bool]:
        return {
            "key": _logs_in(images, opened, images.user),
            "password": _logs_in(images, opened, images.user, word),
            "root's key": _logs_in(images, opened, "root"),
            "root's password": _logs_in(images, opened, "root", word),
        }

    # Each attempt succeeds where it is allowed: so it is our file that refuses it below.
    images.run(machine, f"mkdir /root/sshd; mv {SSHD}/*.conf /root/sshd/; printf '{OPEN}' >{SSHD}/00-open.conf")
    images.run(machine, "systemctl reload sshd")
    wait_for(lambda: all(attempts().values()), 20, "every attempt, with everything allowed")
    images.run(machine, f"rm {SSHD}/00-open.conf; mv /root/sshd/00-zmanim.conf {SSHD}/; systemctl reload sshd")
    refused = {"key": True, "password": False, "root's key": False, "root's password": False}
    wait_for(lambda: attempts() == refused, 20, "a key, and nothing else")
    images.run(machine, f"mv /root/sshd/*.conf {SSHD}/; systemctl reload sshd; passwd --lock root; rm -r /root/.ssh")
    assert attempts() == refused


def test_the_cloudwatch_agent_is_configured_for_this_environment_and_not_without_one(
    images: ImageLab, opened: Opened
) -> None:
    machine = opened.machine
    path = "/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.json"
    report = json.loads(images.run(machine, f"cat {path}"))
    assert report["metrics"]["namespace"] == f"zmanim/{ENVIRONMENT}"
    assert "systemd-journal" in images.run(machine, "id --name --groups cwagent").split()
    assert images.run(machine, "runuser -u cwagent -- journalctl --unit=redis --lines=1 --output=cat 2>&1")
    ready, agent = (
        int(images.run(machine, f"systemctl show --value --property=ActiveEnterTimestampMonotonic {unit}"))
        for unit in ("zmanim-ready.service", "amazon-cloudwatch-agent.service")
    )
    assert ready < agent

    unit = "amazon-cloudwatch-agent.service"
    images.run(machine, f"mv /run/zmanim/environment /root/; rm {path}")
    assert images.try_run(machine, f"systemctl restart {unit}")["Status"] == "Failed"
    # Not given up: it is tried again every minute.
    assert images.active(machine, unit) == {unit: "activating"}
    images.run(machine, f"test ! -e {path}; mv /root/environment /run/zmanim/; systemctl restart {unit}")
    assert images.active(machine, unit) == {unit: "active"}


def test_a_service_whose_filter_is_not_in_force_makes_the_machine_not_ready(images: ImageLab, opened: Opened) -> None:
    # Last on this machine: it asks anew whether that is ready.
    filters.expect_a_missing_filter_to_be_told(images, opened.machine)
    expect_all_well(images, opened.machine)


def _logs_in(images: ImageLab, opened: Opened, user: str, password: str = "") -> bool:
    """Try to log in from the host with the machine's key, or with a password by either way that sshd has for one."""
    address = images.describe(opened.machine)["PublicIpAddress"]
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=5", "LogLevel=ERROR"]
    if password:
        options += ["PubkeyAuthentication=no", "PreferredAuthentications=password,keyboard-interactive"]
        options += ["NumberOfPasswordPrompts=1"]
    else:
        options += ["PreferredAuthentications=publickey", "IdentitiesOnly=yes", "BatchMode=yes"]
    asker = images.directory / "askpass"
    asker.write_text('#!/bin/sh\necho "$PASSWORD"\n')
    asker.chmod(0o700)
    command = ["ssh", "-F", "/dev/null", "-i", str(opened.key), *(f"-o{option}" for option in options)]
    done = subprocess.run(
        [*command, f"{user}@{address}", "echo in"],
        env={**os.environ, "SSH_ASKPASS": str(asker), "SSH_ASKPASS_REQUIRE": "force", "PASSWORD": password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "in\n" or done.returncode == 255, done.stderr
    return done.stdout == "in\n"
