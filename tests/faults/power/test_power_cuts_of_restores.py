"""A power cut while a restored run takes the place of the live data: the old data is back, all of it, and serves."""

from __future__ import annotations

import pytest

from tests.support.machines.backup_host import BackupHost
from tests.support.machines.backups import STATE
from tests.support.machines.lab import wait_for


@pytest.mark.incident("a power cut within --replace started Redis empty, or the new PostgreSQL with the old Redis")
@pytest.mark.parametrize("store", ["postgresql", "redis"])
def test_a_power_cut_within_an_exchange_brings_all_of_the_old_data_back(backup_host: BackupHost, store: str) -> None:
    host = backup_host
    run = host.backups.complete()[0]["run"]
    # What the run does not have.
    host.images.query(host.machine, f"CREATE TABLE {store} (n int); INSERT INTO {store} VALUES (1)")
    host.images.redis(host.machine, f"SET {store} later")
    state = host.run(STATE)
    boots = len(host.images.ready_reports(host.machine))
    # The restored server takes its time to start: everything has changed places then, and the journal is still there.
    place = f"/run/systemd/system/{store}.service.d"
    host.run(
        f"mkdir -p {place}; printf '[Service]\\nExecStartPre=/usr/bin/sleep 600\\n' >{place}/held.conf;"
        " systemctl daemon-reload; systemctl stop zmanim-api;"
        f" systemd-run --quiet --unit=exchange /opt/zmanim/restore.sh --run {run} --replace --yes"
    )
    wait_for(
        lambda: host.run(f"systemctl show --property=SubState --value {store}") == "start-pre", 240, f"a held {store}"
    )
    assert host.run("ls -A /data | grep -e before -e swap").split() == [".zmanim-swap.json", f"before-{run}"]
    if store == "redis":
        # Nothing writes to data that a boot may put away: what asks for PostgreSQL alone is refused, not kept waiting.
        said = host.run("systemctl start zmanim-migrate 2>&1 || true")
        assert "Assertion failed on job for zmanim-migrate.service" in said
        said = host.run("/opt/zmanim/zmanim-host restore-clean 2>&1; ls -A /data")
        assert "restore" in said.split()
    host.images.ec2.stop_instances(InstanceIds=[host.machine], Force=True)
    host.images.wait_state(host.machine, "stopped")
    host.images.ec2.start_instances(InstanceIds=[host.machine])
    host.images.expect_ready(host.machine, boot=boots + 1)
    assert host.run(STATE) == state
    assert host.images.query(host.machine, f"SELECT n FROM {store}") == "1"
    assert "later" in host.images.redis(host.machine, f"GET {store}")
    # What had been started is kept, whoever has written to it.
    kept = f"undone-{run}"
    own = [".zmanim-reserve", ".zmanim-volume.json", "backup", "postgres", "redis"]
    assert host.run("ls -A /data").split() == [*own, kept]
    assert host.run(f"ls /data/{kept}").split() == ["postgres", "redis"]
    host.run(f"rm -r /data/{kept}")
    said = host.run("journalctl --boot --no-pager --output=cat --unit=zmanim-data-layout")
    assert f"for run {run} was cut short: the data from before it is back" in said
