"""Power cuts and kills while both stores are written to: what was acknowledged is there afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from localcloud import control
from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for

CUTS = 20
KILLS = 6
ROWS = 100_000
API_PASSWORD = (
    "from urllib.parse import unquote; import re;"
    "print(unquote(re.search(r'redis://zmanim:([^@]*)@', open('/run/zmanim/secrets/api.env').read())[1]))"
)
CHECK = """
SELECT count(bt_index_check(indexrelid, true)) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relam = (SELECT oid FROM pg_am WHERE amname = 'btree') AND relpersistence = 'p';
SELECT count(*) FROM pg_class, verify_heapam(pg_class.oid) WHERE relkind IN ('r', 'm') AND relpersistence = 'p'
"""


@dataclass
class Writer:
    """A client inside a machine that writes numbers one after the other; what it was told, and when."""

    process: subprocess.Popen[str]
    acknowledged: list[tuple[float, int]] = field(default_factory=list)

    def listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.acknowledged.append((time.monotonic(), int(line)))

    def last(self, before: float = float("inf")) -> int:
        """Return the last number that was acknowledged before a moment."""
        return max((number for at, number in self.acknowledged if at < before), default=0)


@contextmanager
def writer(images: ImageLab, machine: str, command: str) -> Iterator[Writer]:
    """Run a client in a machine that prints what was acknowledged, until the machine or the test ends it."""
    shell = [*control.shell_command(images.cloud, machine), "-c", command]
    process = subprocess.Popen(
        shell, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    running = Writer(process)
    assert process.stdout
    thread = threading.Thread(target=running.listen)
    thread.start()
    try:
        wait_for(lambda: len(running.acknowledged) > 20, 30, "the first writes")
        yield running
    finally:
        # The whole group: what runs in the machine is a child of nsenter, and holds the pipe.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        thread.join()
        process.stdout.close()


def rows(start: int) -> str:
    """Return a client of PostgreSQL: one transaction for each number from `start`."""
    statements = (
        f'for ((n = {start}; n < {start + ROWS}; n++)); do echo "INSERT INTO acked VALUES ($n) RETURNING n;"; done'
    )
    return f"cd /; {statements} | runuser -u zmanim -- psql --no-psqlrc --quiet --tuples-only --no-align zmanim"


def keys(start: int) -> str:
    """Return a client of Redis: one INCR after the other, from `start`."""
    increments = f"for ((n = {start}; n < {start + ROWS}; n++)); do echo INCR counter; sleep 0.005; done"
    client = "stdbuf -oL redis-cli --user zmanim --no-auth-warning"
    return f'export REDISCLI_AUTH=$(python3 -c "{API_PASSWORD}"); {increments} | {client}'


def prepare(images: ImageLab, machine: str) -> None:
    images.query(machine, "CREATE TABLE acked (n int PRIMARY KEY, filler text DEFAULT repeat('x', 500))")
    images.query(machine, "CREATE EXTENSION amcheck", role="postgres")


def missing(images: ImageLab, machine: str, written: Writer) -> list[int]:
    existing = set(map(int, images.enter(machine, ["runuser", "-u", "zmanim", "--", "psql", "-Atc",
                                                 "SELECT n FROM acked", "zmanim"]).split()))  # fmt: skip
    return [number for _, number in written.acknowledged if number not in existing]


def damage(images: ImageLab, machine: str) -> int:
    """Let amcheck read every index and table; return how many faults it found in tables (one in an index raises)."""
    return int(images.query(machine, CHECK, role="postgres").split()[-1])


def power_cut(images: ImageLab, machine: str) -> float:
    """Cut a machine's power and return the moment before."""
    moment = time.monotonic()
    images.ec2.stop_instances(InstanceIds=[machine], Force=True)
    images.wait_state(machine, "stopped")
    return moment


def restart(images: ImageLab, machine: str) -> None:
    images.ec2.start_instances(InstanceIds=[machine])


@pytest.mark.fault(
    18,
    injected="20 power cuts while rows are written",
    must="every acknowledged row is there, amcheck finds nothing",
)
@pytest.mark.fault(
    23,
    injected="20 power cuts while keys are written",
    must="no more than what was acknowledged in the last two seconds is gone",
)
def test_a_power_cut_loses_no_acknowledged_row_and_no_more_than_two_seconds_of_redis(images: ImageLab) -> None:
    machine = images.serve()
    prepare(images, machine)
    counted = 0
    for number in range(1, CUTS + 1):
        with writer(images, machine, rows(number * ROWS)) as sql, writer(images, machine, keys(counted)) as redis:
            time.sleep(0.3 * number)  # before, in and after a background write of the kernel and of Redis
            moment = power_cut(images, machine)
        restart(images, machine)
        images.expect_ready(machine, boot=number + 1)
        assert missing(images, machine, sql) == []
        assert damage(images, machine) == 0
        counted = int(images.redis(machine, "GET counter") or "0")
        assert counted >= redis.last(moment - 2)
    images.terminate(machine)


@pytest.mark.fault(
    18,
    injected="a power cut of a PostgreSQL whose fsync is off",
    must="rows are gone, or the server is: the cuts of these tests are real ones",
)
def test_a_power_cut_is_one_that_loses_what_was_not_synced(images: ImageLab) -> None:
    """The test above, seen to fail: without fsync the same cut takes rows with it, or the whole server."""
    machine = images.serve()
    prepare(images, machine)
    images.query(machine, "ALTER SYSTEM SET fsync = off", role="postgres")
    images.query(machine, "SELECT pg_reload_conf()", role="postgres")
    with writer(images, machine, rows(0)) as sql:
        wait_for(lambda: len(sql.acknowledged) > 500, 60, "rows that nobody has synced")
        power_cut(images, machine)
    restart(images, machine)
    report = images.wait_report(machine, boot=2, seconds=150)
    assert not report["checks"]["postgresql"]["ok"] or missing(images, machine, sql)
    images.terminate(machine)


@pytest.mark.fault(
    23,
    injected="a power cut of a Redis that never syncs",
    must="more than two seconds are gone: the cuts of these tests are real ones",
)
def test_a_power_cut_takes_more_than_two_seconds_of_a_redis_that_never_syncs(images: ImageLab) -> None:
    """The same for Redis: what holds above is due to `appendfsync everysec`."""
    machine = images.serve()
    images.run(
        machine,
        "sed --in-place 's/^appendfsync .*/appendfsync no/' /etc/zmanim/redis.conf; systemctl restart redis;"
        "grep --quiet '^appendfsync no$' /etc/zmanim/redis.conf",
    )
    with writer(images, machine, keys(0)) as redis:
        time.sleep(5)
        moment = power_cut(images, machine)
    restart(images, machine)
    images.wait_report(machine, boot=2)
    assert int(images.redis(machine, "GET counter") or "0") < redis.last(moment - 2)
    images.terminate(machine)


@pytest.mark.fault(
    15,
    injected="a stale postmaster.pid of a dead process, and of one that lives and is another program",
    must="PostgreSQL starts; beside a live server no second one does",
)
@pytest.mark.incident("the boot script deleted a live postmaster.pid")
def test_a_stale_postmaster_pid_does_not_keep_postgresql_down(images: ImageLab) -> None:
    machine = images.serve()
    power_cut(images, machine)
    restart(images, machine)
    images.expect_ready(machine, boot=2)
    # The number of a process that lives and is none of PostgreSQL's, and that of none.
    for boot, pid in ((3, "1"), (4, "4194300")):
        images.run(
            machine,
            "cp --archive /data/postgres/postmaster.pid /data/kept; systemctl stop zmanim-api postgresql;"
            f"sed -i 1s/.*/{pid}/ /data/kept; mv /data/kept /data/postgres/postmaster.pid",
        )
        images.ec2.reboot_instances(InstanceIds=[machine])
        images.expect_ready(machine, boot=boot)
    # And a second server never starts beside one that lives.
    second = images.try_run(machine, "cd /; runuser -u postgres -- postgres -D /data/postgres --listen_addresses=''")
    assert 'lock file "postmaster.pid" already exists' in second["StandardErrorContent"]
    images.terminate(machine)


def test_a_job_of_pg_cron_goes_on_after_a_power_cut(images: ImageLab) -> None:
    machine = images.serve()
    images.query(machine, "CREATE TABLE ticks (at timestamptz DEFAULT now())")
    images.query(machine, "SELECT cron.schedule('tick', '2 seconds', 'INSERT INTO ticks DEFAULT VALUES')")
    wait_for(lambda: images.query(machine, "SELECT count(*) FROM ticks") != "0", 20, "a row of the job")
    power_cut(images, machine)
    restart(images, machine)
    images.expect_ready(machine, boot=2)
    since = "SELECT count(*) FROM ticks WHERE at > pg_postmaster_start_time()"
    wait_for(lambda: int(images.query(machine, since)) > 1, 20, "rows of the job since the boot")
    images.terminate(machine)


@pytest.mark.fault(
    18,
    injected="kill -9 of the postmaster while rows are written, six times",
    must="it starts again, every acknowledged row is there, amcheck finds nothing",
)
def test_a_killed_postmaster_comes_back_with_every_acknowledged_row(images: ImageLab) -> None:
    machine = images.serve()
    prepare(images, machine)
    for number in range(1, KILLS + 1):
        with writer(images, machine, rows(number * ROWS)) as sql:
            time.sleep(0.2 * number)
            images.run(machine, "kill -KILL $(systemctl show --property=MainPID --value postgresql)")
            time.sleep(0.5)
        wait_for(lambda: images.active(machine, "postgresql")["postgresql"] == "active", 60, "PostgreSQL")
        assert missing(images, machine, sql) == []
        assert damage(images, machine) == 0
    wait_for(lambda: images.try_run(machine, "curl -sf http://127.0.0.1:8080/health")["Status"] == "Success", 30)
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    images.terminate(machine)


@pytest.mark.fault(
    24,
    injected="an append-only file without its last five bytes",
    must="Redis starts without the last command alone, and its log says that it was cut off",
)
def test_a_torn_tail_of_the_append_only_file_is_cut_off(images: ImageLab) -> None:
    machine = images.serve()
    images.redis(machine, *(f"SET key{number} {number}" for number in range(100)))
    file = "/data/redis/appendonlydir/*.incr.aof"
    # While the disk is busy with a sync, Redis may hold writes back for two seconds.
    images.run(machine, f"timeout 30 sh -c 'until grep --text --quiet key99 {file}; do sleep 0.1; done'")
    # Stopped as well: it would be back in two seconds, with the file as it is then.
    images.run(machine, f"systemctl kill --signal=KILL redis && systemctl stop redis; truncate --size=-5 {file}")
    images.run(machine, "systemctl start redis")
    result = images.redis(machine, "GET key0", "GET key98", "EXISTS key99").split()
    assert result == ["0", "98", "0"]
    assert "Truncating the AOF" in images.run(machine, "journalctl --unit=redis --no-pager --output=cat")
    images.terminate(machine)


@pytest.mark.fault(
    20,
    injected="a data volume that fills under load",
    must="every acknowledged row is there, amcheck finds nothing, and with room again all serves by itself",
)
def test_a_full_data_volume_harms_nothing_and_is_over_when_there_is_room_again(images: ImageLab) -> None:
    machine = images.serve()
    prepare(images, machine)
    with writer(images, machine, rows(0)) as sql:
        images.run(machine, "dd if=/dev/zero of=/data/ballast bs=1M status=none 2>/dev/null; sync; df /data >&2")
        journal = "journalctl --unit=postgresql --unit=redis --no-pager --output=cat | tail -n 200"
        wait_for(lambda: "No space left on device" in images.run(machine, journal), 120, "a server to notice")
    images.run(machine, "rm /data/ballast")
    wait_for(lambda: set(images.active(machine, "postgresql", "redis", "zmanim-api").values()) == {"active"}, 60)
    wait_for(lambda: images.try_run(machine, "curl -sf http://127.0.0.1:8080/health")["Status"] == "Success", 30)
    assert missing(images, machine, sql) == []
    assert damage(images, machine) == 0
    images.query(machine, "INSERT INTO acked VALUES (-1)")
    assert images.redis(machine, "SET after full", "GET after").split() == ["OK", "full"]
    images.terminate(machine)
