"""A machine's first boot and its reboot, from the real image."""

from __future__ import annotations

import json

import pytest

from tests.support.machines.image import ENVIRONMENT, VERSION, ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.promises import ports, units

EXTENSIONS = {"postgis", "vector", "pg_trgm", "unaccent", "pg_cron"}
# As the unit zmanim-ready asks: the API's own user may not ask for INFO.
ASK_REDIS = "REDISCLI_AUTH=$(cat /run/zmanim/secrets/ready/redis-password) redis-cli --user ready --no-auth-warning"


def test_the_machine_says_what_it_is_and_that_it_serves(images: ImageLab, served: str) -> None:
    report = images.ready_reports(served)[0]
    assert (report["ok"], report["version"], report["environment"]) == (True, VERSION, ENVIRONMENT)
    assert all(check["ok"] for check in report["checks"].values())
    manifest = json.loads(images.run(served, "cat /opt/zmanim/current/manifest.json"))
    assert report["binary_sha256"] == manifest["sha256"]


@pytest.mark.fault(48, injected="a first boot", must="no unit has failed, everything of ours runs")
@pytest.mark.incident("every unit shipped disabled")
def test_every_unit_of_ours_is_active_and_none_has_failed(images: ImageLab, served: str) -> None:
    assert images.all_active(served)
    assert images.run(served, "systemctl --failed --plain --no-legend") == ""
    # systemd breaks a cycle by leaving something out, another thing at every boot.
    assert images.run(served, "journalctl --boot --no-pager | grep --count 'ordering cycle' || true").strip() == "0"


@pytest.mark.fault(
    1,
    injected="a blank volume, and a launch that consents",
    must="it is formatted as XFS and mounted; the cluster lies on it and nothing on the root disk",
)
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
    first, second = (json.loads(images.run(served, units.NEAREST)) for _ in range(2))
    assert (first["data"]["name"], first["meta"]["cache"], second["meta"]["cache"]) == ("Jerusalem", "miss", "hit")
    assert first["data"] == second["data"]


@pytest.mark.fault(
    48,
    injected="a scan of every port from the machine's network",
    must="SSH and the API answer, and nothing else",
)
def test_only_ssh_and_the_api_s_port_listen_to_the_network(images: ImageLab, served: str) -> None:
    ports.expect_only_meant_to_listen(images, served)
    # And seen from its network: every port, not only those that ss was asked about.
    address = images.describe(served)["PrivateIpAddress"]
    assert ports.open_ports(address) == ports.MEANT
    # It would have seen one more.
    images.run(served, "systemd-run --quiet --unit=one-more python3 -m http.server 50123")
    some = range(50000, 50200)
    wait_for(lambda: ports.open_ports(address, some) == {50123}, 20, "the port that should not be open")
    images.run(served, "systemctl stop one-more")


@pytest.mark.fault(48, injected="a reboot", must="no unit has failed, everything of ours runs, the data is there")
@pytest.mark.incident("the append-only file was switched off because the unit could not write to /data/redis")
def test_a_reboot_brings_everything_back_with_its_data(images: ImageLab, served: str) -> None:
    units.write_what_a_boot_must_keep(images, served)
    assert images.run(served, "ls /data/redis") == "appendonlydir"
    before = images.run(served, units.IDENTITY)
    images.ec2.reboot_instances(InstanceIds=[served])
    images.expect_ready(served, boot=2)
    units.expect_what_a_boot_keeps(images, served, before)
