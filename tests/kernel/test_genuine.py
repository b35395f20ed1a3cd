"""A machine of a whole disk image, which boots as it would elsewhere: by firmware, its own boot loader and kernel.

LOCALCLOUD_TEST_DISK_IMAGE names a qcow2 file to boot, such as Amazon Linux 2023's for KVM; without it one of the same
form is made out of the stand-in. Each test leaves the machine running for the next one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import control
from localcloud.host.certificates import ensure_authority
from localcloud.machine.qemu import acceleration, base_disk, firmware
from localcloud.machine.qemu.disk_image import make
from localcloud.machine.volumes import loops_below
from localcloud.settings import QEMU, BaseImage, CloudSettings
from tests.kernel.conftest import PATIENCE
from tests.kernel.test_machine import attach, attachment_state
from tests.support.machines import disk_image
from tests.support.machines.host_state import difference, host_state
from tests.support.machines.lab import IMAGE, Lab, wait_for
from zmanim_ami.rehearsal import kernel
from zmanim_ami.rehearsal.standin import build_tree
from zmanim_ami.toolchain.environment import user_cache

GIVEN = os.environ.get("LOCALCLOUD_TEST_DISK_IMAGE")
# As Amazon Linux has it, in cloud-init's words.
USER = "system_info:\n  default_user:\n    name: ec2-user\n"


@pytest.fixture(scope="module")
def image(workspace: Path) -> Path:
    """The disk image, as its maker has it."""
    (workspace / "genuine").mkdir()
    return Path(GIVEN) if GIVEN else disk_image.make(build_tree(user_cache()) / "root", workspace / "genuine")


@pytest.fixture(scope="module")
def settings(workspace: Path, authority: Path, image: Path) -> CloudSettings:
    """Settings of a cloud whose base image is the disk image with the local cloud's files on it."""
    directory = workspace / "genuine"
    (directory / "disk").mkdir()
    certificate = ensure_authority(authority).certificate
    found = make.make(image, directory / "disk", certificate, emulator=kernel.shipped_emulator())
    firmware.check(found.architecture)
    way = "tcg" if firmware.is_emulated(found.architecture) else "auto"
    return CloudSettings(
        images=(BaseImage(name=IMAGE, root=directory / "disk", disk=directory / "disk"),),
        authority=authority,
        name=f"genuine{os.getpid()}",
        state=directory / "state",
        machines=QEMU,
        accelerator=acceleration.choose(way, directory / "disk" / base_disk.KERNEL, workspace),
    )


@pytest.fixture(scope="module")
def lab(workspace: Path, settings: CloudSettings) -> Iterator[Lab]:
    """A cloud, and the promise that nothing of it stays."""
    user = workspace / "user/etc/cloud/cloud.cfg"
    user.parent.mkdir(parents=True)
    user.write_text(USER)
    before = host_state(settings.directory)
    cloud = control.up(settings)
    try:
        yield Lab(cloud, workspace / "user", workspace, patience=PATIENCE)
    finally:
        control.down(settings.name, settings.state)
    assert difference(before, settings.directory) == {}
    assert not settings.state.exists()


@pytest.fixture(scope="module")
def key(lab: Lab) -> Path:
    return lab.key_pair("genuine")


@pytest.fixture(scope="module")
def machine(lab: Lab, key: Path) -> str:
    """One machine with a data volume."""
    volume = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}}
    launched = lab.launch(KeyName=key.stem, BlockDeviceMappings=[volume])
    try:
        lab.wait_online(launched)
    except AssertionError:
        pytest.fail(control.console(lab.cloud, launched)[-6000:] + lab.trouble())
    return launched


def test_it_boots_by_firmware_its_own_boot_loader_and_its_own_kernel(lab: Lab, machine: str) -> None:
    told = lab.run(machine, "[ -d /sys/firmware/efi ] && cat /proc/cmdline").split()
    assert told[0].startswith("BOOT_IMAGE=")  # GRUB's word
    assert base_disk.ROOT_DEVICE not in " ".join(told)
    release = lab.run(machine, "uname -r")
    assert lab.run(machine, f"ls /boot/vmlinuz-{release}") == f"/boot/vmlinuz-{release}"
    if not GIVEN:
        assert lab.run(machine, f"cat {disk_image.SIGN}").startswith("/dev/nvme")


def test_cloud_init_finds_ec2_and_the_machine_its_name(lab: Lab, machine: str) -> None:
    seen = json.loads(lab.run(machine, "cat /run/cloud-init/instance-data.json"))["v1"]
    assert (seen["cloud_name"], seen["instance_id"]) == ("aws", machine)
    address = lab.describe(machine)["PrivateIpAddress"]
    assert f" {address}/24 " in lab.run(machine, "ip -brief address show ens5")
    assert lab.run(machine, "hostname --short") == "ip-" + address.replace(".", "-")


def test_its_user_is_let_in_with_the_launch_s_key(lab: Lab, machine: str, key: Path) -> None:
    ended = lab.ssh(machine, key, "id -un")
    assert (ended.stdout.strip(), ended.stderr) == ("ec2-user", "")


def test_it_trusts_the_cloud(lab: Lab, machine: str) -> None:
    address = f"https://ec2.{lab.cloud.region}.amazonaws.com/"
    assert lab.run(machine, f"curl --silent --output /dev/null --write-out '%{{http_code}}' {address}").isdigit()


def test_its_volumes_have_their_names_from_the_start_and_when_they_come_later(lab: Lab, machine: str) -> None:
    mapped = lab.describe(machine)["BlockDeviceMappings"]
    volume = next(one["Ebs"]["VolumeId"] for one in mapped if one["DeviceName"] == "/dev/sdf")
    by_id = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    first, second = lab.run(machine, f"readlink -f /dev/sdf {by_id}").split()
    assert first == second
    assert lab.run(machine, f"blockdev --getsize64 {first}") == str(1 << 30)
    zone = lab.describe(machine)["Placement"]["AvailabilityZone"]
    later = lab.ec2.create_volume(Size=2, AvailabilityZone=zone)["VolumeId"]
    attach(lab, machine, later, "/dev/sdg")
    assert lab.run(machine, "blockdev --getsize64 /dev/sdg") == str(2 << 30)
    lab.ec2.detach_volume(VolumeId=later)
    wait_for(lambda: not attachment_state(lab, later), lab.patience, "detached")
    lab.ec2.delete_volume(VolumeId=later)


def test_an_image_of_it_boots_the_same_way_with_what_it_had_written(lab: Lab, machine: str) -> None:
    lab.run(machine, "echo kept >/root/file")
    lab.ec2.stop_instances(InstanceIds=[machine])
    lab.wait_state(machine, "stopped")
    image = lab.ec2.create_image(InstanceId=machine, Name="off")["ImageId"]
    state = "lab.ec2.describe_images"
    wait_for(lambda: lab.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available", 60, state)
    other = lab.launch_and_wait(image)
    assert lab.run(other, "cat /root/file; [ -d /sys/firmware/efi ] && echo by firmware") == "kept\nby firmware"
    lab.terminate(other, machine)
    assert loops_below(lab.cloud.directory) == []


def test_a_kill_while_files_are_put_on_a_disk_leaves_nothing_but_files(workspace: Path, image: Path) -> None:
    """Then its file system is mounted, by a loop device, over a mount of the storage daemon's."""
    directory = workspace / "killed"
    directory.mkdir()
    # Who opens a pipe that nobody writes to waits.
    os.mkfifo(directory / "ca.pem")
    program = "from pathlib import Path; from localcloud.machine.qemu.disk_image.make import make; import sys; "
    program += "make(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[2], 'ca.pem'))"
    before = host_state(directory)
    with subprocess.Popen([sys.executable, "-c", program, str(image), str(directory)]) as making:
        try:
            wait_for(lambda: loops_below(directory), 120, "a mounted root file system")
        finally:
            making.kill()
    wait_for(lambda: loops_below(directory) == [], 30, "no loop device")
    wait_for(lambda: difference(before, directory) == {}, 30, "no process and no mount")


def test_a_disk_of_this_host_s_that_is_full_by_then_is_told(
    workspace: Path, image: Path, settings: CloudSettings
) -> None:
    """The file system in the image takes what this host has no room for, and says so only when it is asked."""
    directory = workspace / "full"
    directory.mkdir()
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(image), str(directory / "copy")], check=True)
    # What stands for the emulator is put on it last, from a copy beside the disk: it has half the room that it needs.
    large = workspace / "large"
    large.write_bytes(os.urandom(16 << 20))
    beside = (settings.images[0].root / base_disk.KERNEL).stat().st_size + (16 << 20) + (8 << 20)
    room = (directory / "copy").stat().st_blocks * 512 + beside
    (directory / "copy").unlink()
    program = "from pathlib import Path; from localcloud.machine.qemu.disk_image.make import make; import sys; "
    program += "*given, large = map(Path, sys.argv[1:]); make(*given, emulator=large)"
    script = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'
    contained = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(room), str(directory)]
    making = [sys.executable, "-c", program, str(image), str(directory), str(settings.authority / "ca.pem"), str(large)]
    ended = subprocess.run([*contained, *making], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "No space left on device" in ended.stderr
    assert loops_below(directory) == []
