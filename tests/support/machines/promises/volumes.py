"""Volumes that are not what a machine expects."""

from __future__ import annotations

import subprocess

from tests.support.machines.image import STORES, ImageLab


def expect_none_of_two_candidates(images: ImageLab) -> None:
    """A machine that has two volumes with our label takes none of them, says so, and leaves both as they are."""
    volumes = [images.new_volume(), images.new_volume()]
    for each in volumes:
        command = ["mkfs.xfs", "-q", "-L", "zmanim-data", str(images.volume_file(each))]
        subprocess.run(command, check=True, capture_output=True)
    before = [images.digest(each) for each in volumes]
    machine = images.start(data=False)
    # Both have to be there before it looks: a machine that runs would take the first while the second is attached.
    images.wait_state(machine, "running")
    images.ec2.stop_instances(InstanceIds=[machine], Force=True)
    images.wait_state(machine, "stopped")
    for each, device in zip(volumes, ("/dev/sdf", "/dev/sdg"), strict=True):
        images.ec2.attach_volume(InstanceId=machine, VolumeId=each, Device=device)
    images.ec2.start_instances(InstanceIds=[machine])
    report = images.wait_report(machine)
    assert not report["ok"]
    assert "more than one volume is labelled zmanim-data" in report["checks"]["units"]["detail"]
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    images.terminate(machine)
    assert [images.digest(each) for each in volumes] == before
    for each in volumes:
        images.ec2.delete_volume(VolumeId=each)
