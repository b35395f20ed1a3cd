"""What goes wrong around servers that run: their memory, disk, pages and rules. They survive it, or say so."""

from __future__ import annotations

import time

import pytest

from tests.faults.power.test_power_and_kills import damage, keys, missing, prepare, rows, writer
from tests.support.machines.image import STORES, ImageLab
from tests.support.machines.lab import wait_for

SERVING = ("postgresql.service", "redis.service", "zmanim-api.service")
ACL = "/run/zmanim/secrets/redis.acl"
# Somebody who may do all that a test needs; none of the image's own users may.
TESTER = f"echo 'user tester on nopass ~* +@all' >>{ACL} && systemctl restart redis && systemctl start zmanim-api"
ASK = "redis-cli --user tester --pass x --no-auth-warning"


def serves(images: ImageLab, machine: str) -> bool:
    """Return whether all that serves runs, and the API says that it is well."""
    health = images.try_run(machine, "curl --silent --fail http://127.0.0.1:8080/health")["Status"]
    return set(images.active(machine, *SERVING).values()) == {"active"} and health == "Success"


def restarts(images: ImageLab, machine: str, unit: str) -> int:
    return int(images.run(machine, f"systemctl show --property=NRestarts --value {unit}"))


def fill(prefix: str) -> str:
    """Return a command that writes nearly 500 MB into Redis, key by key."""
    program = (
        f"for n in range(60000): print('SET', f'{prefix}{{n}}', '{prefix}' * (8192 // {len(prefix)}), end='\\r\\n')"
    )
    return f'python3 -c "{program}" | {ASK} --pipe'


def journal(images: ImageLab, machine: str, unit: str) -> str:
    # All of a unit's journal may be more than an agent's answer holds.
    words = (
        "PANIC|FATAL|terminated by signal|reinitializing|verification failed|collation version|child|ACL|Input/output"
    )
    return images.run(
        machine, f"journalctl --unit={unit} --no-pager --output=cat | grep --extended-regexp '{words}' | tail -n 60"
    )


@pytest.mark.fault(
    12,
    injected="a file system whose every read and write fails from some moment on, under load",
    must="the API says that it is not well, the ready line says why; after a power cut every acknowledged row is there",
)
def test_a_data_volume_that_fails_under_load_stops_what_writes_and_loses_nothing(images: ImageLab) -> None:
    """As a volume that is taken away by force: every read and write of the file system fails from then on."""
    machine = images.serve()
    prepare(images, machine)
    with writer(images, machine, rows(0)) as sql, writer(images, machine, keys(0)) as redis:
        time.sleep(2)
        gone = time.monotonic()
        images.run(machine, "xfs_io -x -c shutdown /data")
        # It is not served from what is in memory, and whoever asks is told so.
        wait_for(lambda: not serves(images, machine), 60, "the API to say that it is not well")
        wait_for(lambda: "PANIC" in journal(images, machine, "postgresql"), 60, "PostgreSQL's own words")
    # The alarm: what says whether the machine serves says no, and why.
    images.run(machine, "systemctl restart zmanim-ready || true")
    assert not images.ready_reports(machine)[-1]["ok"]
    images.ec2.stop_instances(InstanceIds=[machine], Force=True)
    images.wait_state(machine, "stopped")
    images.ec2.start_instances(InstanceIds=[machine])
    wait_for(lambda: images.online(machine), 60, "the machine")
    wait_for(lambda: serves(images, machine), 90, "the machine to serve")
    assert missing(images, machine, sql) == []
    assert damage(images, machine) == 0
    assert int(images.redis(machine, "GET counter") or "0") >= redis.last(gone - 2)
    images.terminate(machine)


@pytest.mark.fault(
    12,
    injected="a data volume that is unmounted under load",
    must="both stores stop, nothing is written below the mount point, and every acknowledged row is there afterwards",
)
def test_an_unmounted_data_volume_takes_what_writes_to_it_along(images: ImageLab) -> None:
    machine = images.serve()
    prepare(images, machine)
    with writer(images, machine, rows(0)) as sql:
        images.run(machine, "systemctl stop data.mount")
        assert set(images.active(machine, *STORES).values()) <= {"inactive", "failed"}
        assert set(images.active(machine, "postgresql", "redis").values()) == {"inactive"}
    assert images.run(machine, "ls --almost-all /data") == ""
    images.run(machine, "systemctl start zmanim.target")
    wait_for(lambda: serves(images, machine), 60, "the machine to serve again")
    assert missing(images, machine, sql) == []
    images.terminate(machine)


@pytest.mark.fault(
    19,
    injected="a stop of both stores under load",
    must="pg_controldata says shut down, both end well, every acknowledged row and key is there",
)
def test_a_stop_under_load_is_a_clean_shutdown(images: ImageLab) -> None:
    machine = images.serve()
    prepare(images, machine)
    state = "pg_controldata /data/postgres | sed -n 's/^Database cluster state: *//p'"
    with writer(images, machine, rows(0)) as sql, writer(images, machine, keys(0)) as redis:
        assert images.run(machine, state) == "in production"
        images.run(machine, "systemctl stop zmanim-api postgresql redis")
        assert images.run(machine, state) == "shut down"
    report = images.run(machine, "systemctl show --property=Result --value postgresql redis").split()
    assert report == ["success", "success"]
    images.run(machine, "systemctl start zmanim-api")
    wait_for(lambda: serves(images, machine), 60, "the machine to serve again")
    assert missing(images, machine, sql) == []
    # Whoever is told to stop writes all down first.
    assert int(images.redis(machine, "GET counter")) >= redis.last()
    images.terminate(machine)


@pytest.mark.fault(
    21,
    injected="a backend that the kernel kills for its memory",
    must="PostgreSQL serves again without a restart of its unit, amcheck finds nothing",
)
def test_a_backend_that_the_kernel_kills_for_its_memory_takes_no_server_along(images: ImageLab) -> None:
    machine = images.serve(InstanceType="t4g.micro")
    prepare(images, machine)
    greedy = (
        "SELECT count(*) FROM (SELECT repeat('x', 1000) || g AS v FROM generate_series(1, 4000000) g ORDER BY 1) AS t"
    )
    died = images.try_run(
        machine, f'cd /; runuser -u zmanim -- psql --command="SET work_mem = \'8GB\'" --command="{greedy}" zmanim'
    )
    assert died["Status"] != "Success"
    assert "terminated by signal 9" in journal(images, machine, "postgresql")
    wait_for(lambda: serves(images, machine), 60, "the machine to serve again")
    assert restarts(images, machine, "postgresql") == 0
    assert damage(images, machine) == 0
    images.terminate(machine)


@pytest.mark.fault(
    21,
    injected="kill -9 of the child that saves Redis's snapshot",
    must="Redis serves on, and saves again",
)
def test_a_saving_child_of_redis_that_is_killed_takes_no_server_along(images: ImageLab) -> None:
    machine = images.serve()
    images.run(machine, TESTER)
    images.redis(machine, "SET kept precious")
    # A second for each key: the child lives long enough to be met.
    images.run(
        machine,
        f"{ASK} CONFIG SET rdb-key-save-delay 5000000; {ASK} BGSAVE;"
        "server=$(systemctl show --property=MainPID --value redis);"
        "until child=$(pgrep --parent $server); do sleep 0.1; done; kill -KILL $child",
    )
    wait_for(
        lambda: "rdb_last_bgsave_status:err" in images.run(machine, f"{ASK} INFO persistence"), 20, "a failed save"
    )
    assert images.run(machine, f"{ASK} GET kept") == "precious"
    assert restarts(images, machine, "redis") == 0
    # Until a save works again Redis takes no writes; and then it does.
    images.run(machine, f"{ASK} CONFIG SET rdb-key-save-delay 0; {ASK} BGSAVE")
    wait_for(lambda: "rdb_last_bgsave_status:ok" in images.run(machine, f"{ASK} INFO persistence"), 20, "a save")
    assert images.redis(machine, "SET after kill") == "OK"
    images.terminate(machine)


@pytest.mark.fault(
    27,
    injected="Redis given twice its limit while it saves a snapshot, on 2 GiB",
    must="nobody is killed for memory, every acknowledged row is there",
)
def test_a_full_redis_that_saves_leaves_postgresql_its_memory(images: ImageLab) -> None:
    # Its append-only file and its snapshots need room too.
    volume = images.new_volume(8)
    machine = images.start_with(volume, InstanceType="t4g.small")
    images.expect_ready(machine)
    prepare(images, machine)
    images.run(machine, TESTER)
    # Twice its limit, and a save that goes on all the while: every page that is written meanwhile is there twice.
    images.run(machine, f"{fill('key')}; {ASK} CONFIG SET rdb-key-save-delay 500; {ASK} BGSAVE")
    with writer(images, machine, rows(0)) as sql:
        images.run(machine, f"{fill('other')}; {fill('key')}")
        assert "rdb_bgsave_in_progress:1" in images.run(machine, f"{ASK} INFO persistence")
        time.sleep(2)
    report = dict(line.split(":", 1) for line in images.run(machine, f"{ASK} INFO").split() if ":" in line)
    assert int(report["used_memory"]) > 350 << 20
    assert "terminated by signal" not in journal(images, machine, "postgresql")
    assert [restarts(images, machine, unit) for unit in ("postgresql", "redis")] == [0, 0]
    assert missing(images, machine, sql) == []
    images.terminate(machine)
    images.ec2.delete_volume(VolumeId=volume)


@pytest.mark.fault(
    22,
    injected="one flipped byte in a page of a table",
    must="pg_dump fails on its checksum, the rest of the database serves",
)
def test_a_flipped_byte_in_a_page_is_an_error_and_no_row(images: ImageLab) -> None:
    machine = images.serve()
    images.query(machine, "CREATE TABLE kept AS SELECT n, repeat('x', 500) AS filler FROM generate_series(1, 1000) n")
    dump = "cd /; runuser -u postgres -- pg_dump --format=custom zmanim >/dev/null"
    assert images.try_run(machine, dump)["Status"] == "Success"
    path = images.query(machine, "SELECT pg_relation_filepath('kept')").strip()
    images.run(
        machine,
        "systemctl stop zmanim-api postgresql;"
        f"printf '\\377' | dd of=/data/postgres/{path} bs=1 seek=$((8192 * 3 + 5000)) conv=notrunc status=none;"
        "systemctl start zmanim-api",
    )
    assert images.try_run(machine, dump)["Status"] != "Success"
    assert "page verification failed" in journal(images, machine, "postgresql")
    # The rest of the database serves.
    wait_for(lambda: serves(images, machine), 60, "the machine to serve")
    images.terminate(machine)


@pytest.mark.fault(
    16,
    injected="a database whose collations are of another version",
    must="the journal tells of the mismatch, the machine serves",
)
def test_collations_of_another_version_are_told_of(images: ImageLab) -> None:
    machine = images.serve()
    images.query(
        machine,
        "UPDATE pg_database SET datcollversion = '0' WHERE datname = 'zmanim'",
        role="postgres",
        database="zmanim",
    )
    images.run(machine, "systemctl restart postgresql")
    wait_for(lambda: serves(images, machine), 60, "the machine to serve")
    assert "collation version mismatch" in journal(images, machine, "postgresql")
    images.terminate(machine)


@pytest.mark.fault(
    28,
    injected="no file of rules, one of junk, and one with a bad hash",
    must="Redis does not start, and nobody listens",
)
@pytest.mark.parametrize(
    "spoil",
    [f"rm {ACL}", f"echo nonsense >{ACL}", f"sed --in-place 's/on #/on #zz/' {ACL}"],
    ids=["none", "junk", "bad"],
)
def test_without_valid_rules_redis_does_not_start_at_all(images: ImageLab, spoil: str) -> None:
    machine = images.serve()
    images.run(machine, f"systemctl stop redis; {spoil}; systemctl start --no-block redis")
    wait_for(lambda: restarts(images, machine, "redis") >= 2, 60, "Redis to be tried three times")
    assert images.active(machine, "redis")["redis"] != "active"
    assert (
        images.run(
            machine, "ss --listening --tcp --unix --numeric --no-header | grep --count '6379\\|redis.sock' || true"
        )
        == "0"
    )
    images.terminate(machine)
