"""A data volume that stays full while both stores have to start on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for

STORES = ("postgresql.service", "redis.service")
RESERVE = "/data/.zmanim-reserve"
# More than the five starts within ten seconds that are systemd's default, and than the thirty that Redis once had.
TRIES = 35


@pytest.fixture(scope="module")
def machine(images: ImageLab) -> Iterator[str]:
    machine = images.serve()
    images.redis(machine, "SET kept precious")
    images.query(machine, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    yield machine
    images.terminate(machine)


def fill_and_kill(images: ImageLab, machine: str, name: str) -> None:
    """Fill the data volume to its last block, and kill the main processes of both stores."""
    images.run(machine, f"dd if=/dev/zero of=/data/{name} bs=64k status=none 2>/dev/null; sync; df /data >&2")
    # The main processes only: `systemctl kill` would kill what runs after them (ExecStopPost=) as well.
    images.run(machine, f"kill -KILL $(systemctl show --value --property=MainPID {' '.join(STORES)})")


def both_up(images: ImageLab, machine: str) -> bool:
    return set(images.active(machine, *STORES).values()) == {"active"}


def expect_served(images: ImageLab, machine: str) -> None:
    """See that the API serves, by itself, and that nothing is lost."""
    wait_for(lambda: images.active(machine, "zmanim-api") == {"zmanim-api": "active"}, 120, "the API")
    wait_for(lambda: images.try_run(machine, "curl -sf http://127.0.0.1:8080/health")["Status"] == "Success", 30)
    assert images.query(machine, "SELECT word FROM kept") == "precious"
    assert images.redis(machine, "GET kept") == "precious"


@pytest.mark.fault(
    20,
    injected="both stores killed on a full data volume that has its reserve",
    must="the reserve is given up, which is told, and all serves before anybody has made room",
)
def test_the_room_that_was_kept_lets_both_stores_start_on_a_full_disk(images: ImageLab, machine: str) -> None:
    images.run(machine, f"test -f {RESERVE}")
    fill_and_kill(images, machine, "ballast")
    wait_for(lambda: both_up(images, machine), 120, "both stores")
    expect_served(images, machine)
    images.run(machine, f"test ! -e {RESERVE}; test -e /data/ballast")
    images.query(machine, "UPDATE kept SET word = 'precious'")
    told = images.run(machine, f"journalctl --no-pager --output=cat {' '.join(f'--unit={unit}' for unit in STORES)}")
    assert "/data is full: the 64 MiB that were kept for this are given up" in told


@pytest.mark.fault(
    20,
    injected="both stores killed on a full data volume, which has no reserve any more and stays full",
    must="they are tried as long as it takes; with room all serves by itself, and a boot keeps room again",
)
def test_stores_that_can_t_start_on_a_full_disk_come_back_by_themselves_and_the_api_with_them(
    images: ImageLab, machine: str
) -> None:
    images.run(machine, f"rm --force {RESERVE}")
    fill_and_kill(images, machine, "more-ballast")

    def tried() -> bool:
        result = (images.run(machine, f"systemctl show --value --property=NRestarts {unit}") for unit in STORES)
        up = images.active(machine, *STORES)
        return all(up[unit] == "active" or int(tries) > TRIES for unit, tries in zip(STORES, result, strict=True))

    wait_for(tried, 240, "both up, or tried often")
    output = images.run(machine, f"journalctl --no-pager --output=cat {' '.join(f'--unit={unit}' for unit in STORES)}")
    assert "No space left on device" in output
    images.run(machine, "rm --force /data/ballast /data/more-ballast")
    wait_for(lambda: both_up(images, machine), 60, "both stores")
    # systemd gave up on the API when PostgreSQL's first try failed; zmanim-recovery has not.
    expect_served(images, machine)
    boots = len(images.ready_reports(machine))
    images.ec2.reboot_instances(InstanceIds=[machine])
    images.expect_ready(machine, boot=boots + 1)
    images.run(machine, f"test $(stat --format=%s {RESERVE}) = {64 << 20}")
