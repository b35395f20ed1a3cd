from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud import control
from tests.support.machines.lab import Lab, wait_for

USER_DATA = "#!/bin/sh\necho ran >>/root/user-data-ran\n"


def test_an_instance_boots_and_its_key_pair_opens_it_over_ssh(lab: Lab) -> None:
    key = lab.key_pair("opens")
    instance = lab.launch(KeyName="opens")
    assert lab.state(instance) in {"pending", "running"}
    lab.wait_state(instance, "running")
    answer = wait_for(lambda: (ran := lab.ssh(instance, key, "whoami; uname -n")).returncode == 0 and ran, what="ssh")
    user, name = answer.stdout.split()
    assert user == lab.user
    assert name.startswith("ip-10-213-")
    shown = lab.describe(instance)
    assert shown["PublicIpAddress"] == shown["PrivateIpAddress"]
    assert shown["NetworkInterfaces"][0]["PrivateIpAddress"] == shown["PrivateIpAddress"]
    assert shown["RootDeviceName"] == "/dev/xvda"
    lab.terminate(instance)


def test_user_data_runs_once_and_not_again_after_a_reboot_or_a_stop(lab: Lab) -> None:
    instance = lab.launch_and_wait(UserData=USER_DATA)
    assert lab.run(instance, "cat /root/user-data-ran") == "ran"
    boot = lab.run(instance, "cat /proc/sys/kernel/random/boot_id")
    lab.ec2.reboot_instances(InstanceIds=[instance])
    wait_for(
        lambda: lab.online(instance) and lab.run(instance, "cat /proc/sys/kernel/random/boot_id") != boot, what="reboot"
    )
    lab.wait_online(instance)
    assert lab.run(instance, "cat /root/user-data-ran") == "ran"
    lab.ec2.stop_instances(InstanceIds=[instance])
    lab.wait_state(instance, "stopped")
    lab.ec2.start_instances(InstanceIds=[instance])
    lab.wait_online(instance)
    assert lab.run(instance, "cat /root/user-data-ran") == "ran"
    lab.terminate(instance)


def test_an_instance_that_powers_itself_off_is_stopped_or_terminated_as_it_was_told_to(lab: Lab) -> None:
    stays = lab.launch_and_wait()
    goes = lab.launch_and_wait(InstanceInitiatedShutdownBehavior="terminate")
    for instance in (stays, goes):
        lab.try_run(instance, "systemctl poweroff --no-block")
    lab.wait_state(stays, "stopped")
    lab.wait_state(goes, "terminated")
    assert lab.describe(stays)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    lab.terminate(stays)


def test_the_console_holds_what_the_machine_wrote_there_also_after_its_end(lab: Lab) -> None:
    instance = lab.launch_and_wait()
    lab.run(instance, "echo a-line-on-the-console >/dev/console")

    def console() -> str:
        answer = lab.ec2.get_console_output(InstanceId=instance, Latest=True)
        return str(answer["Output"])

    wait_for(lambda: "a-line-on-the-console" in console(), what="the console")
    assert "a-line-on-the-console" in control.console(lab.cloud, instance)
    lab.terminate(instance)
    assert "a-line-on-the-console" in console()


def test_memory_is_what_the_instance_type_has(lab: Lab) -> None:
    instance = lab.launch_and_wait(InstanceType="t4g.small")
    assert lab.run(instance, "awk '/MemTotal/ {print $2}' /proc/meminfo") == str(2 << 20)
    lab.terminate(instance)


def test_what_can_t_be_launched_is_refused_in_ec2_s_words(lab: Lab) -> None:
    refusals: dict[str, dict[str, Any]] = {
        "InvalidAMIID.NotFound": {"image": "ami-0123456789abcdef0"},
        "InvalidKeyPair.NotFound": {"KeyName": "no-such-key"},
        "InvalidInstanceType": {"InstanceType": "t4g.enormous"},
        "InvalidParameterValue": {"InstanceType": "t3.small"},  # an x86_64 type and an arm64 image
        "InvalidBlockDeviceMapping": {
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 1}}],
        },
    }
    for code, options in refusals.items():
        with pytest.raises(ClientError) as refused:
            lab.launch(**options)
        assert refused.value.response["Error"]["Code"] == code


def test_an_image_that_can_t_boot_ends_as_a_state_with_a_reason_and_not_as_a_hanging_launch(lab: Lab) -> None:
    instance = lab.launch_and_wait()
    lab.run(instance, "rm /sbin/init /usr/lib/systemd/systemd")
    lab.ec2.stop_instances(InstanceIds=[instance], Force=True)
    lab.wait_state(instance, "stopped")
    broken = lab.ec2.create_image(InstanceId=instance, Name="without-init")["ImageId"]
    lab.terminate(instance)
    start = time.monotonic()
    dead = lab.launch(broken)
    wait_for(lambda: lab.state(dead) in {"terminated", "stopped"}, what="its end")
    assert time.monotonic() - start < 20
    assert lab.describe(dead)["StateReason"]["Code"].startswith(("Server.", "Client."))
    assert "no init in this image" in control.console(lab.cloud, dead)
    lab.ec2.deregister_image(ImageId=broken)


def test_machines_are_listed_with_the_host_s_pid_of_their_init(lab: Lab) -> None:
    instance = lab.launch_and_wait()
    shown = next(info for info in control.machines(lab.cloud) if info.instance_id == instance)
    assert shown.state == "running"
    assert shown.address == lab.describe(instance)["PrivateIpAddress"]
    assert shown.leader is not None
    assert str(shown.leader) in control.shell_command(lab.cloud, instance)
    lab.terminate(instance)
    shown = next(info for info in control.machines(lab.cloud) if info.instance_id == instance)
    assert (shown.state, shown.leader) == ("terminated", None)


def test_run_command_reports_output_exit_code_and_time_limit(lab: Lab) -> None:
    instance = lab.launch_and_wait()
    answer = lab.try_run(instance, "echo out; echo err >&2; exit 3")
    assert (answer["Status"], answer["ResponseCode"]) == ("Failed", 3)
    assert (answer["StandardOutputContent"], answer["StandardErrorContent"]) == ("out\n", "err\n")
    start = time.monotonic()
    assert lab.try_run(instance, "sleep 60", executionTimeout=["1"])["Status"] == "TimedOut"
    assert time.monotonic() - start < 10
    listed = lab.ssm.list_command_invocations(InstanceId=instance, Details=True)["CommandInvocations"]
    assert {one["Status"] for one in listed} >= {"Failed", "TimedOut"}
    lab.terminate(instance)
    with pytest.raises(ClientError, match="InvalidInstanceId"):
        lab.try_run(instance, "true")


def test_only_the_machines_that_a_command_names_run_it(lab: Lab) -> None:
    named, other = lab.launch_and_wait(), lab.launch_and_wait()
    lab.run(named, "touch /root/was-here")
    assert lab.run(other, "ls /root") == ""
    lab.terminate(named, other)


def test_stopping_by_force_is_a_power_cut_that_loses_what_was_not_synced(lab: Lab) -> None:
    disk = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}}
    instance = lab.launch_and_wait(BlockDeviceMappings=[disk])
    lab.run(
        instance,
        "mkfs.xfs -q /dev/sdf && mkdir /data && mount /dev/sdf /data && echo kept >/data/kept && sync /data/kept",
    )
    lab.run(instance, "head -c 819200 /dev/zero >/data/lost")
    lab.ec2.stop_instances(InstanceIds=[instance], Force=True)
    lab.wait_state(instance, "stopped")
    lab.ec2.start_instances(InstanceIds=[instance])
    lab.wait_online(instance)
    assert lab.run(instance, "mount /dev/sdf /data && cat /data/kept") == "kept"
    assert lab.run(instance, "cat /data/lost 2>/dev/null | wc -c") == "0"
    lab.terminate(instance)


def test_user_data_is_kept_as_it_was_sent(lab: Lab) -> None:
    instance = lab.launch(UserData=USER_DATA)
    shown = lab.ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]["Value"]
    assert base64.b64decode(shown).decode() == USER_DATA
    lab.terminate(instance)


def test_a_launch_that_is_repeated_with_its_client_token_is_made_once(lab: Lab) -> None:
    first = lab.launch(ClientToken="only-once")
    assert lab.launch(ClientToken="only-once") == first
    other = lab.launch(ClientToken="another")
    assert other != first
    lab.terminate(first, other)
