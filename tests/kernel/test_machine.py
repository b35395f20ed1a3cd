"""A machine with a kernel of its own, through its life: each test leaves it running for the next one."""

from __future__ import annotations

import os
import platform
import signal
from pathlib import Path

from localcloud import control
from localcloud.machine.volumes import loops_below
from tests.support.errors import raises
from tests.support.machines.arm64 import exit_42
from tests.support.machines.lab import Lab, wait_for

BOOT = "cat /proc/sys/kernel/random/boot_id"


def attachment_state(lab: Lab, volume: str) -> str:
    attachments = lab.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"]
    return str(attachments[0]["State"]) if attachments else ""


def attach(lab: Lab, machine: str, volume: str, name: str) -> None:
    lab.ec2.attach_volume(InstanceId=machine, VolumeId=volume, Device=name)
    wait_for(lambda: attachment_state(lab, volume) == "attached", lab.patience, f"{volume} attached")


def leader(lab: Lab, machine: str) -> int:
    found = next(each.leader for each in control.machines(lab.cloud) if each.instance_id == machine)
    assert found is not None
    return found


def image_state(lab: Lab, image: str) -> str:
    return str(lab.ec2.describe_images(ImageIds=[image])["Images"][0]["State"])


def test_it_runs_a_kernel_of_its_own_and_every_unit_of_the_image_starts_on_it(lab: Lab, machine: str) -> None:
    assert lab.run(machine, "uname -r") != platform.release()
    assert lab.run(machine, "systemctl is-system-running; systemd-detect-virt --container || true") == "running\nnone"


def test_its_address_and_its_name_come_from_the_cloud(lab: Lab, machine: str) -> None:
    address = lab.describe(machine)["PrivateIpAddress"]
    assert f" {address}/24 " in lab.run(machine, "ip -brief address show ens5")
    assert lab.run(machine, "hostname --short") == "ip-" + address.replace(".", "-")
    # EC2's word for a guest that asks its firmware where it runs.
    assert lab.run(machine, "cat /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/board_asset_tag").split("\n") == [
        "Amazon EC2",
        machine,
    ]


def test_the_names_of_its_volume_are_udev_s(lab: Lab, machine: str) -> None:
    mapped = lab.describe(machine)["BlockDeviceMappings"]
    volume = next(one["Ebs"]["VolumeId"] for one in mapped if one["DeviceName"] == "/dev/sdf")
    by_id = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    first, second = lab.run(machine, f"readlink -f /dev/sdf {by_id}").split()
    assert first == second
    assert first.startswith("/dev/nvme")
    assert lab.run(machine, "findmnt --noheadings --output SOURCE /").rpartition("n1p1")[0] not in {"", first}
    assert lab.run(machine, f"blockdev --getsize64 {first}") == str(1 << 30)


def test_a_volume_comes_and_goes_while_it_runs_and_not_while_it_is_mounted(lab: Lab, machine: str) -> None:
    zone = lab.describe(machine)["Placement"]["AvailabilityZone"]
    volume = lab.ec2.create_volume(Size=1, AvailabilityZone=zone)["VolumeId"]
    attach(lab, machine, volume, "/dev/sdg")
    lab.run(machine, "set -e; mkfs.xfs -q /dev/sdg; mkdir -p /mnt/g; mount /dev/sdg /mnt/g; echo kept >/mnt/g/file")
    lab.ec2.detach_volume(VolumeId=volume)
    wait_for(lambda: attachment_state(lab, volume) == "busy", lab.patience, "busy")
    lab.run(machine, "umount /mnt/g")
    lab.ec2.detach_volume(VolumeId=volume)
    wait_for(lambda: not attachment_state(lab, volume), lab.patience, "detached")
    assert lab.run(machine, "[ -e /dev/sdg ] || echo gone") == "gone"
    attach(lab, machine, volume, "/dev/sdh")
    assert lab.run(machine, "set -e; mount /dev/sdh /mnt/g; cat /mnt/g/file; umount /mnt/g") == "kept"
    lab.ec2.detach_volume(VolumeId=volume)
    wait_for(lambda: not attachment_state(lab, volume), lab.patience, "detached")
    lab.ec2.delete_volume(VolumeId=volume)


def test_programs_for_arm64_run_on_its_kernel(lab: Lab, machine: str) -> None:
    """What ships is for arm64: the host's kernel, which runs it elsewhere, is not this machine's."""
    write = f"open('/root/exit42', 'wb').write(bytes.fromhex('{exit_42().hex()}'))"
    lab.run(machine, f'python3 -c "{write}" && chmod +x /root/exit42')
    assert lab.try_run(machine, "/root/exit42")["ResponseCode"] == 42


def test_nobody_enters_it_from_outside(lab: Lab, machine: str) -> None:
    """Its QEMU's namespaces are the cloud's own: a shell in them would be one on this host."""
    with raises("no-way-in"):
        control.shell_command(lab.cloud, machine)


def test_a_reboot_keeps_what_it_has_written_and_its_volume_s_name(lab: Lab, machine: str) -> None:
    before = lab.run(machine, f"echo kept >/root/file; {BOOT}")
    lab.ec2.reboot_instances(InstanceIds=[machine])
    wait_for(lambda: not lab.online(machine), lab.patience, "going down")
    lab.wait_online(machine)
    assert lab.state(machine) == "running"
    assert lab.run(machine, BOOT) != before
    assert lab.run(machine, "cat /root/file; [ -b /dev/sdf ] && echo there") == "kept\nthere"


def test_an_image_of_it_is_made_while_it_is_off_and_it_comes_on_again(lab: Lab, machine: str) -> None:
    refused = lab.ec2.create_image(InstanceId=machine, Name="running", NoReboot=True)["ImageId"]
    wait_for(lambda: image_state(lab, refused) == "failed", 60, "an image of a running machine")
    lab.ec2.stop_instances(InstanceIds=[machine])
    lab.wait_state(machine, "stopped")
    image = lab.ec2.create_image(InstanceId=machine, Name="off")["ImageId"]
    wait_for(lambda: image_state(lab, image) == "available", 60, "the image")
    lab.ec2.start_instances(InstanceIds=[machine])
    lab.wait_online(machine)
    assert lab.run(machine, "cat /root/file") == "kept"


def test_a_machine_whose_qemu_is_killed_is_seen_to_have_ended_and_starts_again(lab: Lab, machine: str) -> None:
    lab.run(machine, "echo synced >/root/synced; sync")
    os.kill(leader(lab, machine), signal.SIGKILL)
    lab.wait_state(machine, "stopped")
    lab.ec2.start_instances(InstanceIds=[machine])
    lab.wait_online(machine)
    assert lab.run(machine, "cat /root/synced") == "synced"


def test_an_instance_of_its_image_has_what_it_had_written(lab: Lab, machine: str) -> None:
    lab.ec2.stop_instances(InstanceIds=[machine])
    lab.wait_state(machine, "stopped")
    image = lab.ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["off"]}])["Images"][0]
    other = lab.launch_and_wait(image["ImageId"])
    assert lab.run(other, "cat /root/file; [ -e /root/synced ] || echo later") == "kept\nlater"
    qemu = leader(lab, other)
    lab.terminate(other)
    assert not Path(f"/proc/{qemu}").exists()


def test_nothing_of_it_stays_when_it_is_terminated(lab: Lab, machine: str) -> None:
    lab.terminate(machine)
    assert loops_below(lab.cloud.directory) == []
    remains = [path.name for path in (lab.cloud.directory / "machines" / machine).iterdir()]
    assert remains == ["console.log"]
