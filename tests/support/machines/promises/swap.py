"""One data volume and two machines, one after the other: what an upgrade of the image does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.machines.image import ImageLab

_OWNERS = "stat --format='%n %u %g %a' /data /data/* /data/postgres/PG_VERSION /data/redis/appendonlydir"


@dataclass(frozen=True)
class Left:
    """What a machine that is gone has left: its volume, whose files are whose there, and what it was known by."""

    volume: str
    owners: str
    identity: str


def write_and_leave(images: ImageLab, machine: str) -> Left:
    """Write what must survive the machine, and terminate it. Its volume has to outlive it (`keep`)."""
    images.query(machine, "CREATE TABLE survives (word text); INSERT INTO survives VALUES ('precious')")
    images.query(machine, "CREATE ROLE somebody NOLOGIN; GRANT SELECT ON survives TO somebody", role="postgres")
    images.redis(machine, "SET survives precious EX 7200", "SET forever precious")
    identity = images.run(machine, "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
    left = Left(images.volume_of(machine), images.run(machine, _OWNERS), identity)
    images.terminate(machine)
    return left


def launch_with(images: ImageLab, left: Left, **options: Any) -> str:
    """Launch as production's launch is: with the volume that it has, and no word about formatting one; wait for it."""
    machine = images.start_with(left.volume, consent=False, **options)
    images.expect_ready(machine)
    return machine


def expect_what_was_left(images: ImageLab, machine: str, left: Left) -> None:
    """The machine has what another one has written, and is not that one."""
    assert images.query(machine, "SELECT word FROM survives") == "precious"
    granted = "SELECT grantee FROM information_schema.table_privileges WHERE table_name = 'survives'"
    assert "somebody" in images.query(machine, granted).split()
    value, seconds, forever = images.redis(machine, "GET survives", "TTL survives", "GET forever").split()
    assert (value, 3600 < int(seconds) <= 7200, forever) == ("precious", True, "precious")
    assert images.run(machine, _OWNERS) == left.owners
    # Two machines of one image are two machines.
    assert not set(left.identity.split()) & set(images.run(machine, "cat /etc/machine-id").split())
    assert images.run(machine, "cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub") not in left.identity
