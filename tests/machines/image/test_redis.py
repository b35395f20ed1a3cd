"""Redis's append-only file, damaged on the disk of a real machine: what the next start makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for

DATA = "/data/redis"
INCR = f"{DATA}/appendonlydir/appendonly.aof.1.incr.aof"
OVERWRITE = r"printf '\377\377\377\377\377\377\377\377' | dd of={path} bs=1 seek=$(({where})) conv=notrunc status=none"
MIDDLE = f"$(stat --format=%s {INCR}) / 2"


@pytest.fixture
def machine(images: ImageLab) -> Iterator[str]:
    """One machine whose Redis is stopped, with 100 keys in its snapshot and 100 more in the append-only file alone."""
    instance = images.serve()
    images.redis(instance, *(f"SET saved{number} value" for number in range(100)))
    # Redis takes a snapshot when it is told to stop, and none when it is killed.
    images.run(instance, "systemctl restart redis")
    images.redis(instance, *(f"SET logged{number} value" for number in range(100)))
    # While the disk is busy with a sync, Redis may hold writes back for two seconds: what is to be damaged is there.
    images.run(instance, f"timeout 30 sh -c 'until grep --text --quiet logged99 {INCR}; do sleep 0.1; done'")
    images.run(instance, "systemctl kill --signal=KILL redis && systemctl stop redis")
    yield instance
    images.terminate(instance)


def start(images: ImageLab, machine: str) -> dict[str, Any]:
    """Start what serves and return what zmanim-ready says of it."""
    images.run(machine, "systemctl start redis && systemctl start zmanim-api; systemctl restart zmanim-ready || true")
    report: dict[str, Any] = json.loads(images.run(machine, "cat /run/zmanim/ready.json"))
    return report


def counted(images: ImageLab, machine: str) -> tuple[int, int]:
    """Return how many keys of the snapshot and of the append-only file alone Redis has."""
    names = [f"{kind}{number}" for kind in ("saved", "logged") for number in range(100)]
    saved, logged = images.redis(machine, f"EXISTS {' '.join(names[:100])}", f"EXISTS {' '.join(names[100:])}").split()
    return int(saved), int(logged)


def mails(images: ImageLab, machine: str) -> int:
    """Return how many mails about a damaged append-only file a machine has sent."""
    output = images.run(
        machine, "journalctl --unit='backup-notify@zmanim-redis-damage.service.service' --output=cat --no-pager"
    )
    return output.count("Finished ") - output.count("Failed ")


@pytest.mark.fault(
    25,
    injected="eight bytes overwritten in the middle of the append-only file",
    must="the file is kept, the snapshot serves, the ready line and one mail tell of it",
)
@pytest.mark.incident("a damaged append-only file kept Redis from starting, and its repair threw the rest away")
def test_a_damaged_middle_is_kept_and_the_snapshot_serves_with_a_loud_alarm(images: ImageLab, machine: str) -> None:
    images.run(machine, OVERWRITE.format(path=INCR, where=MIDDLE))
    digest = images.run(machine, f"sha256sum <{INCR}")
    report = start(images, machine)
    assert counted(images, machine) == (100, 0)
    copy = images.run(machine, f"ls --directory {DATA}/damaged-*")
    assert images.run(machine, f"sha256sum <{copy}/appendonly.aof.1.incr.aof") == digest
    # It serves, and it is not well.
    assert report["ok"]
    assert report["checks"]["redis-files"]["required"] is False
    assert copy in report["checks"]["redis-files"]["detail"]
    assert copy in images.run(machine, "journalctl --unit=redis --priority=err --output=cat --no-pager")
    # One mail went out, which names where to look, and none after it while nothing changes.
    assert mails(images, machine) == 1
    images.run(machine, "systemctl restart zmanim-redis-damage.path; sleep 3")
    assert mails(images, machine) == 1
    assert images.active(machine, "zmanim-redis-damage.service")["zmanim-redis-damage.service"] == "active"
    assert copy in images.run(machine, "journalctl --unit=zmanim-redis-damage --priority=err --output=cat --no-pager")
    # Another damaged file is another mail.
    images.run(machine, f"install --directory --owner=redis --group=redis {DATA}/damaged-20000101T000000Z")
    wait_for(lambda: mails(images, machine) == 2, 40, "the second mail")
    images.run(machine, f"rmdir {DATA}/damaged-20000101T000000Z")
    # What is written from here on is kept as ever, and the alarm ends with the copy that it is about.
    images.redis(machine, "SET logged0 value")
    images.run(machine, f"systemctl kill --signal=KILL redis && systemctl stop redis && rm --recursive {copy}")
    assert start(images, machine)["checks"]["redis-files"]["ok"]
    assert counted(images, machine) == (100, 1)


@pytest.mark.fault(
    24,
    injected="an append-only file without its last three bytes",
    must="Redis starts without the last command alone; what it cut off is kept, the ready line and one mail tell of it",
)
def test_a_torn_tail_is_cut_off_kept_and_told_of(images: ImageLab, machine: str) -> None:
    size = int(images.run(machine, f"truncate --size=-3 {INCR}; stat --format=%s {INCR}"))
    report = start(images, machine)
    assert counted(images, machine) == (100, 99)
    kept = images.run(machine, f"ls {DATA}/torn-*")
    assert 0 < int(images.run(machine, f"stat --format=%s {kept}")) < size
    # It serves, and it is not well.
    assert report["ok"]
    assert f"ended within a command and Redis cut that off; kept: {kept}" in report["checks"]["redis-files"]["detail"]
    wait_for(lambda: mails(images, machine) == 1, 40, "the mail")
    assert kept in images.run(machine, "journalctl --unit=zmanim-redis-damage --priority=err --output=cat --no-pager")
    images.run(machine, f"rm {kept}")
    assert start(images, machine)["checks"]["redis-files"]["ok"]
    assert mails(images, machine) == 1


@pytest.mark.fault(
    25,
    injected="an append-only file damaged in its middle, and a damaged snapshot",
    must="Redis does not start, no file changes, and the ready line says why",
)
def test_without_a_valid_snapshot_redis_refuses_and_touches_nothing(images: ImageLab, machine: str) -> None:
    images.run(machine, OVERWRITE.format(path=INCR, where=MIDDLE))
    images.run(machine, OVERWRITE.format(path=f"{DATA}/dump.rdb", where=f"$(stat --format=%s {DATA}/dump.rdb) / 2"))
    before = images.run(machine, f"cd {DATA}; find . -type f -exec sha256sum {{}} + | sort")
    report = start(images, machine)
    assert not report["ok"]
    assert not report["checks"]["redis"]["ok"]
    assert "no snapshot can take its place (/data/redis/dump.rdb is damaged too)" in report["checks"]["units"]["detail"]
    assert images.run(machine, f"cd {DATA}; find . -type f -exec sha256sum {{}} + | sort") == before


@pytest.mark.incident("zmanim-ready put any file of this machine on the console")
def test_a_link_of_redis_s_user_shows_zmanim_ready_nothing(images: ImageLab, machine: str) -> None:
    assert start(images, machine)["ok"]
    links = "ln -s /run/zmanim/secrets/api.env redis-check; mkfifo redis-damage"
    images.run(machine, f"cd /run/zmanim/errors/redis; runuser -u redis -- sh -c '{links}'")
    assert images.try_run(machine, "systemctl restart zmanim-ready.service")["Status"] == "Failed"
    report = images.run(machine, "cat /run/zmanim/ready.json")
    assert "errors/redis/redis-check is not read: it is no plain file" in report
    assert "errors/redis/redis-damage is not a plain file" in report
    secrets = images.run(machine, "cat /run/zmanim/secrets/ready/redis-password /run/zmanim/secrets/backup/*").split()
    said = report + images.console(machine) + images.run(machine, "journalctl --boot --unit=zmanim-ready --output=cat")
    for secret in (*secrets, *images.secrets().values(), "DATABASE_URL"):
        assert secret not in said
    images.run(machine, "rm /run/zmanim/errors/redis/redis-*; systemctl restart zmanim-ready.service")
    assert json.loads(images.run(machine, "cat /run/zmanim/ready.json"))["ok"]
