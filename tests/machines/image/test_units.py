"""What starts by itself on every kind of boot, who gets in over SSH, and what the CloudWatch agent is given."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.machines.image import ENVIRONMENT, ImageLab
from tests.support.machines.lab import wait_for

FILES = ROOT / "infrastructure/packer/files"
PRESET = "/usr/lib/systemd/system-preset/00-zmanim.preset"
# Its condition is not met in a machine that shares this kernel.
SKIPPED_HERE = {"chronyd.service", "zmanim-huge-pages.service"}
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


# It does its work before each start of the API, so it does not remain active.
ENDED = {"zmanim-migrate.service"}


def preset() -> list[str]:
    """Return what the image enables."""
    return re.findall(r"^enable (\S+)$", (FILES / "zmanim.preset").read_text(), re.MULTILINE)


def expect_all_well(images: ImageLab, machine: str) -> None:
    """Everything of ours is enabled and active, nothing has failed, and systemd found no cycle in this boot."""
    assert images.all_active(machine)
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    assert images.run(machine, f"systemctl is-enabled {' '.join(preset())} | sort --unique") == "enabled"
    expected = sorted(set(preset()) - SKIPPED_HERE - ENDED)
    assert images.active(machine, *expected) == dict.fromkeys(expected, "active")
    for unit in ENDED:
        assert images.run(machine, f"systemctl show --value --property=Result {unit}").strip() == "success"
    # PID 1 tells of a cycle, and then leaves one of its units out: which one is chance.
    cycles = "journalctl --boot --no-pager --output=cat _PID=1 | grep --ignore-case cycle || true"
    assert images.run(machine, cycles) == ""


@pytest.mark.incident("every unit shipped disabled")
def test_everything_starts_by_itself_at_the_first_boot(images: ImageLab, opened: Opened) -> None:
    expect_all_well(images, opened.machine)


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
