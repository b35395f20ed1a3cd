"""A machine's first boot and its reboot, from the real image."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable

import pytest

from tests.support.machines.image import ENVIRONMENT, VERSION, ImageLab
from tests.support.machines.lab import wait_for

NEAREST = "curl --silent --fail 'http://127.0.0.1:8080/cities/nearest?lat=31.8&lon=35.2'"
EXTENSIONS = {"postgis", "vector", "pg_trgm", "unaccent", "pg_cron"}
# As the unit zmanim-ready asks: the API's own user may not ask for INFO.
ASK_REDIS = "REDISCLI_AUTH=$(cat /run/zmanim/secrets/ready/redis-password) redis-cli --user ready --no-auth-warning"


def test_the_machine_says_what_it_is_and_that_it_serves(images: ImageLab, served: str) -> None:
    report = images.ready_reports(served)[0]
    assert (report["ok"], report["version"], report["environment"]) == (True, VERSION, ENVIRONMENT)
    assert all(check["ok"] for check in report["checks"].values())
    manifest = json.loads(images.run(served, "cat /opt/zmanim/current/manifest.json"))
    assert report["binary_sha256"] == manifest["sha256"]


@pytest.mark.incident("every unit shipped disabled")
def test_every_unit_of_ours_is_active_and_none_has_failed(images: ImageLab, served: str) -> None:
    assert images.all_active(served)
    assert images.run(served, "systemctl --failed --plain --no-legend") == ""
    # systemd breaks a cycle by leaving something out, another thing at every boot.
    assert images.run(served, "journalctl --boot --no-pager | grep --count 'ordering cycle' || true").strip() == "0"


def test_postgresql_s_cluster_is_on_the_data_volume_with_checksums_in_utf_8(images: ImageLab, served: str) -> None:
    where = images.run(served, "findmnt --noheadings --output SOURCE,FSTYPE --target /data/postgres/PG_VERSION")
    assert where.split() == ["/dev/nvme1n1", "xfs"]
    assert images.run(served, "find / -xdev -name PG_VERSION") == ""  # none on the root disk
    command = (
        "SELECT current_setting('data_checksums'), current_setting('data_directory'), pg_encoding_to_char(encoding),"
        " datlocprovider, datlocale FROM pg_database WHERE datname = 'zmanim'"
    )
    assert images.query(served, command, role="postgres").split("|") == ["on", "/data/postgres", "UTF8", "b", "C.UTF-8"]


def test_the_extensions_are_there_and_the_api_s_role_owns_its_database_and_nothing_more(
    images: ImageLab, served: str
) -> None:
    assert set(images.query(served, "SELECT extname FROM pg_extension").split()) >= EXTENSIONS
    role = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = 'zmanim'"
    assert images.query(served, role) == "f|f|f|f"
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'zmanim'"
    assert images.query(served, owner) == "zmanim"
    refused = images.try_run(served, "cd /; runuser -u zmanim -- psql --username=postgres --command='SELECT 1' zmanim")
    assert "Peer authentication failed" in refused["StandardErrorContent"]


def test_a_job_of_pg_cron_runs(images: ImageLab, served: str) -> None:
    images.query(served, "CREATE TABLE ticks (at timestamptz DEFAULT now())")
    images.query(served, "SELECT cron.schedule('tick', '1 second', 'INSERT INTO ticks DEFAULT VALUES')")
    wait_for(lambda: images.query(served, "SELECT count(*) FROM ticks") != "0", 20, "a row of the job")
    images.query(served, "SELECT cron.unschedule('tick'); DROP TABLE ticks")


@pytest.mark.incident("an m7g.medium tuning ran on a 2 GiB t4g.small")
def test_memory_is_sized_for_the_machine_that_it_is(images: ImageLab, served: str) -> None:
    assert images.describe(served)["InstanceType"] == "t4g.small"
    assert images.query(served, "SHOW shared_buffers") == "438MB"
    assert f"maxmemory:{438 << 20}" in images.run(served, f"{ASK_REDIS} INFO memory").split()


def test_redis_asks_for_its_password_and_gives_the_api_s_user_no_power_over_the_server(
    images: ImageLab, served: str
) -> None:
    for way in ("-s /run/redis/redis.sock", "-h 127.0.0.1"):
        assert images.run(served, f"redis-cli {way} GET key 2>&1").startswith("NOAUTH")
    assert images.redis(served, "SET key value", "GET key", "DEL key").split() == ["OK", "value", "1"]
    assert "NOPERM" in images.redis(served, "CONFIG GET *")


def test_the_api_serves_from_postgis_and_then_from_redis(images: ImageLab, served: str) -> None:
    assert json.loads(images.run(served, "curl --silent --fail http://127.0.0.1:8080/health"))["data"]["status"] == "ok"
    first, second = (json.loads(images.run(served, NEAREST)) for _ in range(2))
    assert (first["data"]["name"], first["meta"]["cache"], second["meta"]["cache"]) == ("Jerusalem", "miss", "hit")
    assert first["data"] == second["data"]


def test_only_ssh_and_the_api_s_port_listen_to_the_network(images: ImageLab, served: str) -> None:
    listed = [line.split() for line in images.run(served, "ss --listening --tcp --numeric --no-header").splitlines()]
    to_all = {fields[3].rpartition(":")[2] for fields in listed if not fields[3].startswith("127.")}
    assert to_all == {"22", "8080"}
    udp = [line.split() for line in images.run(served, "ss --listening --udp --numeric --no-header").splitlines()]
    # Port 68 is the DHCP client's own.
    assert {fields[3].rpartition(":")[2] for fields in udp if not fields[3].startswith(("127.", "[::1]"))} <= {"68"}
    # And seen from its network: every port, not only those that ss was asked about.
    address = images.describe(served)["PrivateIpAddress"]
    assert _open_ports(address) == {22, 8080}
    # It would have seen one more.
    images.run(served, "systemd-run --quiet --unit=one-more python3 -m http.server 50123")
    wait_for(lambda: _open_ports(address, range(50000, 50200)) == {50123}, 20, "the port that should not be open")
    images.run(served, "systemctl stop one-more")


@pytest.mark.incident("the append-only file was switched off because the unit could not write to /data/redis")
def test_a_reboot_brings_everything_back_with_its_data(images: ImageLab, served: str) -> None:
    images.query(served, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    images.redis(served, "SET kept precious EX 3600")
    assert images.run(served, "ls /data/redis") == "appendonlydir"
    before = images.run(served, "cat /proc/sys/kernel/random/boot_id /etc/machine-id; stat --format=%i /data/postgres")
    images.ec2.reboot_instances(InstanceIds=[served])
    images.expect_ready(served, boot=2)

    assert images.all_active(served)
    assert images.run(served, "systemctl --failed --plain --no-legend") == ""
    assert images.query(served, "SELECT word FROM kept") == "precious"
    value, seconds = images.redis(served, "GET kept", "TTL kept").split()
    assert (value, 3400 < int(seconds) <= 3600) == ("precious", True)
    after = images.run(served, "cat /proc/sys/kernel/random/boot_id /etc/machine-id; stat --format=%i /data/postgres")
    assert (after.split()[0] != before.split()[0], after.split()[1:]) == (True, before.split()[1:])
    # Both kinds of persistence: the append-only file at once, the snapshot at the latest when Redis was stopped.
    assert set(images.run(served, "ls /data/redis").split()) == {"appendonlydir", "dump.rdb"}
    assert json.loads(images.run(served, NEAREST))["data"]["name"] == "Jerusalem"


def _open_ports(address: str, ports: Iterable[int] = range(1, 65536)) -> set[int]:
    result = set()
    for port in ports:
        with socket.socket() as probe:
            probe.settimeout(2)
            if probe.connect_ex((address, port)) == 0:
                result.add(port)
    return result
