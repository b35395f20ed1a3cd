"""What a machine can reach, and what it can't."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.environment import environment
from localcloud.net.addresses import owners, rules
from tests.support.machines.lab import Lab


@pytest.fixture(scope="module")
def instance(lab: Lab) -> Iterator[str]:
    name = lab.launch_and_wait()
    yield name
    lab.terminate(name)


@pytest.fixture
def host_port() -> Iterator[int]:
    """A listener on every address of the host: a machine that reaches it would be answered."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        threading.Thread(target=_greet, args=(listener,), daemon=True).start()
        yield int(listener.getsockname()[1])


def _greet(listener: socket.socket) -> None:
    try:
        while True:
            listener.accept()[0].close()
    except OSError:
        pass  # the fixture is over


def host_addresses() -> list[str]:
    shown = json.loads(subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, check=True).stdout)
    return [info["local"] for link in shown for info in link["addr_info"] if info["local"] != "127.0.0.1"]


def connects(lab: Lab, instance: str, address: str, port: int) -> bool:
    answer = lab.try_run(instance, f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}'")
    return bool(answer["Status"] == "Success")


def test_a_machine_reaches_the_api_and_no_address_of_the_host_or_beyond(
    lab: Lab, instance: str, host_port: int
) -> None:
    assert connects(lab, instance, "ec2.eu-west-1.amazonaws.com", 443)
    addresses = host_addresses()
    assert lab.cloud.host_address in addresses
    reachable = [address for address in addresses if connects(lab, instance, address, host_port)]
    assert reachable == []
    assert not connects(lab, instance, "192.0.2.1", 443)  # RFC 5737: nobody has it, should a packet get out


def test_a_machine_does_not_reach_the_host_s_own_api_port(lab: Lab, instance: str) -> None:
    assert not connects(lab, instance, lab.cloud.link_address, 5000)
    assert not connects(lab, instance, lab.cloud.gateway, 5000)


NOBODY = 65534


def host_connects(address: str, port: int, user: int = 0) -> bool:
    """Say whether a process of this user of the host gets a connection."""
    command = ["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"]
    return subprocess.run(command, user=user, group=user, capture_output=True, check=False).returncode == 0


@pytest.mark.incident("any user of the host reached the API, and by it root in a machine, which is root of the host")
def test_another_user_of_the_host_reaches_neither_the_api_nor_a_machine(lab: Lab, instance: str) -> None:
    machine = lab.describe(instance)["PrivateIpAddress"]
    for address, port in ((lab.cloud.link_address, 5000), (machine, 22)):
        assert host_connects(address, port)
        assert not host_connects(address, port, NOBODY)
    # What holds them back is the rule: without it they get there.
    subprocess.run(["nft", "flush", "chain", "inet", lab.cloud.link, "output"], check=True)
    try:
        assert host_connects(lab.cloud.link_address, 5000, NOBODY)
    finally:
        closed = rules(lab.cloud.link, owners(os.environ))
        subprocess.run(["nft", "-f", "-"], input=closed, text=True, check=True)
    assert not host_connects(lab.cloud.link_address, 5000, NOBODY)
    read = subprocess.run(
        ["cat", lab.cloud.directory / "key"], user=NOBODY, group=NOBODY, capture_output=True, check=False
    )
    assert read.stdout == b""


def host_process(command: bytes, user: int) -> Path:
    """Return the directory below /proc of the process of this user whose command line ends so."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone by now
            if path.joinpath("cmdline").read_bytes().endswith(command) and path.stat().st_uid == user:
                return path
    raise AssertionError(f"no process {command!r} of {user}")


@pytest.mark.incident("the host's user 1000 entered a process of a machine's ec2-user, who may become root there")
def test_a_user_of_the_host_does_not_enter_the_processes_of_a_machine_s_login_user(lab: Lab, instance: str) -> None:
    user = int(lab.run(instance, "id -u ec2-user"))
    unit = "systemd-run --quiet --unit=entered --uid=ec2-user --property=RuntimeMaxSec=120 sleep 120"
    lab.run(instance, unit)
    entered = host_process(b"sleep\x00120\x00", user)

    def enters(one: int) -> bool:
        listed = ["ls", f"{entered}/root/"]
        return subprocess.run(listed, user=one, group=one, capture_output=True, check=False).returncode == 0

    people = {each.pw_uid for each in pwd.getpwall() if each.pw_uid != 0} | {1000, 1001}
    assert enters(user), "what keeps others out is the id"
    assert [one for one in sorted(people) if enters(one)] == []


@pytest.mark.incident("a table that a killed cloud left behind was added to: its owner and the next one were shut out")
def test_rules_that_were_left_behind_are_replaced() -> None:
    apart = ["unshare", "--net"]
    script = 'nft -f - <<< "$1" && nft -f - <<< "$2" && nft list table inet lc9'
    texts = [rules("lc9", {0, user}) for user in (1001, 1002)]
    listed = subprocess.run(
        [*apart, "bash", "-ec", script, "-", *texts], capture_output=True, text=True, check=True
    ).stdout
    assert "1002" in listed
    assert "1001" not in listed
    assert listed.count("drop") == 2


def test_who_has_no_key_of_this_cloud_gets_nothing_from_it(lab: Lab) -> None:
    def status(path: str, *options: str) -> str:
        command = ["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", *options]
        return subprocess.run([*command, lab.cloud.endpoint + path], capture_output=True, text=True, check=True).stdout

    for path in ("/moto-api/data.json", "/", "/zmanim-backups-prod", "/?Action=DescribeInstances&Version=2016-11-15"):
        assert status(path) == "403"
    assert status("/", "-H", "Host: evil.example") == "421"
    gone = dataclasses.replace(lab.cloud, key="LOCALCLOUD" + "0" * 32)
    stale = Lab(gone, lab.root, lab.directory)
    for call in (
        stale.ec2.describe_instances,
        stale.client("sts").get_caller_identity,
        stale.client("s3").list_buckets,
    ):
        with pytest.raises(Exception, match="InvalidClientTokenId"):
            call()


@pytest.mark.incident("a machine that went took the gateway's MAC along: another's backup found no credentials")
def test_a_machine_that_comes_or_goes_does_not_keep_others_from_the_gateway(lab: Lab, instance: str) -> None:
    ask = (
        "curl -sS -o /dev/null -w '%{http_code}' --max-time 1 -X PUT"
        " -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
    )
    enter = lab.inside("net")
    # The lowest MAC of all, which a bridge without one of its own takes for itself.
    come = "link add low address 02:00:00:00:00:01 type veth peer name low-peer\nlink set low master br0 up\n"
    subprocess.run([*enter, "ip", "-batch", "-"], input=come, text=True, check=True)
    try:
        # Who asks for the gateway's MAC only now must not be told that one.
        assert lab.run(instance, f"ip neigh flush dev ens5; {ask}") == "200"
    finally:
        subprocess.run([*enter, "ip", "link", "delete", "low"], check=True)
    assert lab.run(instance, ask) == "200"


def test_names_other_than_aws_s_do_not_exist_and_are_refused_at_once(lab: Lab, instance: str) -> None:
    looked_up = lab.run(instance, "getent ahostsv4 bucket.s3.eu-west-1.amazonaws.com | awk '{print $1; exit}'")
    assert looked_up == lab.cloud.gateway
    assert lab.run(instance, "timeout 2 getent hosts example.com; echo $?") == "2"
    assert lab.run(instance, "getent hosts $(uname -n) >/dev/null && echo known") == "known"


def test_the_certificate_is_good_for_every_region_and_for_no_name_outside_aws(lab: Lab, instance: str) -> None:
    for name in ("sts.amazonaws.com", "ssm.us-west-2.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com"):
        assert lab.run(instance, f"curl -sS -o /dev/null -w '%{{ssl_verify_result}}' https://{name}/") == "0"
    forged = f"curl -sS --resolve example.com:443:{lab.cloud.gateway} https://example.com/"
    assert "SSL" in lab.try_run(instance, forged)["StandardErrorContent"]


def test_an_unpatched_client_on_the_host_reaches_the_cloud_by_its_environment_alone(lab: Lab, instance: str) -> None:
    hostile = {"AWS_PROFILE": "production", "AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin"}
    script = (
        "import boto3, sys; print(boto3.client('ec2').describe_instances(InstanceIds=sys.argv[1:])['Reservations'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, instance],
        env=environment(lab.cloud, hostile), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert instance in ran.stdout


def test_an_operation_that_is_not_emulated_is_refused_at_once_and_accounted_for(lab: Lab) -> None:
    with pytest.raises(Exception, match="UnsupportedOperation"):
        lab.ec2.describe_fast_launch_images()
    last = json.loads((lab.cloud.directory / "api.jsonl").read_text().splitlines()[-1])
    assert (last["source"], last["service"], last["operation"]) == ("host", "ec2", "DescribeFastLaunchImages")
    assert (last["emulated"], last["error"], last["status"]) == (False, "UnsupportedOperation", 400)
