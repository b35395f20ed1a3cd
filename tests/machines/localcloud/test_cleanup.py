"""The host is after `down` what it was before `up`, whatever was killed in between."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import control
from localcloud.host import cgroups
from localcloud.settings import Cloud, CloudSettings, link_name
from tests.support import ROOT
from tests.support.errors import raises
from tests.support.machines.arm64 import exit_42
from tests.support.machines.host_state import difference, host_state
from tests.support.machines.lab import Lab, wait_for

DISK = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}}


@pytest.fixture
def settings(cloud_settings: CloudSettings) -> Iterator[CloudSettings]:
    """A cloud of its own, in a state directory of its own, and the promise that nothing of it stays."""
    settings = dataclasses.replace(cloud_settings, name="victim", state=cloud_settings.state.parent / "victims")
    before = host_state(settings.directory)
    yield settings
    control.down(settings.name, settings.state)
    assert difference(before, settings.directory) == {}
    assert not settings.state.exists()


def busy_cloud(settings: CloudSettings) -> Cloud:
    """A cloud with a machine that has a volume mounted."""
    cloud = control.up(settings)
    lab = Lab(cloud, settings.images[0].root, settings.state)
    instance = lab.launch_and_wait(BlockDeviceMappings=[DISK])
    lab.run(instance, "mkfs.xfs -q /dev/sdf && mkdir /data && mount /dev/sdf /data && touch /data/file")
    return cloud


def kill(cloud: Cloud, program: str) -> None:
    """Kill the first process of the cloud that runs that program, or that Python script."""
    for pid in cgroups.members(cgroups.cloud_groups(cloud.directory)[0]):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        names = [Path(word).name for word in words]
        if names[0].startswith(program) or (names[0].startswith("python") and program in names):
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError(f"no {program} runs")


def test_down_leaves_nothing(settings: CloudSettings) -> None:
    busy_cloud(settings)
    control.down(settings.name, settings.state)
    assert control.find(settings.name, settings.state) is None


@pytest.mark.parametrize("victim", ["unshare", "sh", "python", "dnsmasq"])
def test_killing_a_process_of_the_cloud_and_then_down_leaves_nothing(settings: CloudSettings, victim: str) -> None:
    cloud = busy_cloud(settings)
    kill(cloud, victim)
    wait_for(lambda: control.find(settings.name, settings.state) is None, what="its end")


def test_down_of_a_cloud_that_never_was_is_quiet(settings: CloudSettings) -> None:
    control.down(settings.name, settings.state)


def _starter(settings: CloudSettings, tmp_path: Path) -> subprocess.Popen[bytes]:
    """Another process that calls up(): one that can be killed."""
    image = settings.images[0]
    script = f"""
    from pathlib import Path
    from localcloud import control
    from localcloud.settings import BaseImage, CloudSettings
    image = BaseImage(name={image.name!r}, root=Path({str(image.root)!r}))
    control.up(CloudSettings(images=(image,), authority=Path({str(settings.authority)!r}), name={settings.name!r},
                             state=Path({str(settings.state)!r})))
    """
    (tmp_path / "starter.py").write_text(textwrap.dedent(script))
    root = ROOT
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen([sys.executable, str(tmp_path / "starter.py")], env=environment, stderr=subprocess.DEVNULL)


def _moments(settings: CloudSettings) -> dict[str, Path]:
    """What there is on the host once up() has come so far."""
    return {
        "the state directory": settings.directory,
        "the certificate": settings.directory / "server.pem",
        "the control group": cgroups.cloud_groups(settings.directory)[0],
        "the link": Path("/sys/class/net") / link_name(settings.directory),
        "the server's log": settings.directory / "server.log",
        "the machines' list": settings.directory / "layers",
        "the end": settings.directory / "ready",
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopping_up_at_any_moment_and_then_down_leaves_nothing(
    settings: CloudSettings, tmp_path: Path, number: signal.Signals
) -> None:
    before = host_state(settings.directory)
    for name, path in _moments(settings).items():
        with _starter(settings, tmp_path) as starter:
            deadline = time.monotonic() + 30
            while not path.exists():  # no pause: the next moment is milliseconds away
                assert time.monotonic() < deadline, name
            starter.send_signal(number)
            starter.wait(30)
        control.down(settings.name, settings.state)
        assert difference(before, settings.directory) == {}, name


def test_an_interrupted_up_cleans_up_by_itself(settings: CloudSettings, tmp_path: Path) -> None:
    before = host_state(settings.directory)
    with _starter(settings, tmp_path) as starter:
        wait_for((settings.directory / "server.log").exists, what="the server's log")
        starter.send_signal(signal.SIGINT)
        assert starter.wait(30) != 0
    assert difference(before, settings.directory) == {}
    assert not settings.directory.exists()


def test_up_twice_is_the_same_cloud_and_a_half_dead_one_is_started_again(settings: CloudSettings) -> None:
    first = control.up(settings)
    assert control.up(settings) == first
    kill(first, "python")
    wait_for(lambda: control.find(settings.name, settings.state) is None, what="its end")
    second = control.up(settings)
    assert Lab(second, settings.images[0].root, settings.state).base_image().startswith("ami-")


def test_two_clouds_side_by_side_do_not_know_of_each_other(lab: Lab, settings: CloudSettings) -> None:
    other = control.up(settings)
    assert other.index != lab.cloud.index
    existing = Lab(other, settings.images[0].root, settings.state)
    mine, theirs = lab.launch_and_wait(), existing.launch_and_wait()
    assert existing.ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"] == theirs
    address = existing.describe(theirs)["PrivateIpAddress"]
    assert lab.try_run(mine, f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/22'")["Status"] == "Failed"
    control.down(settings.name, settings.state)
    assert lab.run(mine, "echo alive") == "alive"
    lab.terminate(mine)


@pytest.mark.skipif(platform.machine() == "aarch64", reason="this host runs arm64 programs by itself")
def test_programs_for_arm64_run_in_machines_of_an_arm64_image(lab: Lab) -> None:
    instance = lab.launch_and_wait()
    write = f"open('/root/exit42', 'wb').write(bytes.fromhex('{exit_42().hex()}'))"
    lab.run(instance, f'python3 -c "{write}" && chmod +x /root/exit42')
    assert lab.try_run(instance, "/root/exit42")["ResponseCode"] == 42
    lab.terminate(instance)


def test_the_host_sees_what_failed_when_a_cloud_can_t_start(
    settings: CloudSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "dnsmasq"
    broken.write_text("#!/bin/sh\necho 'dnsmasq: no such luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with raises("cloud-failed") as failure:
        control.up(settings)
    assert "no such luck" in str(failure.value)
    assert not settings.directory.exists()


def test_state_is_readable_for_root_alone(settings: CloudSettings) -> None:
    cloud = control.up(settings)
    assert cloud.directory.stat().st_mode & 0o777 == 0o700
    assert json.loads((cloud.directory / "cloud.json").read_text())["index"] == cloud.index


def test_a_child_that_has_not_entered_its_groups_yet_is_ended_all_the_same(settings: CloudSettings) -> None:
    """The incident: an interrupted up() found its groups empty, and then waited for ever for the child in them."""
    group = cgroups.cloud_groups(settings.directory)[0]
    group.mkdir()
    late = subprocess.Popen(["/bin/sh", "-c", 'sleep 0.5; echo 0 >"$1/cgroup.procs"; exec sleep 60', "sh", str(group)])
    control._children[settings.directory] = [late]
    start = time.monotonic()
    control.down(settings.name, settings.state)
    assert time.monotonic() - start < 10
    assert late.poll() is not None
