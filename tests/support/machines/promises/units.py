"""That everything of ours starts by itself, at every kind of boot, and comes back with its data."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from tests.support import ROOT
from tests.support.machines.image import ImageLab

FILES = ROOT / "infrastructure/packer/files"
NEAREST = "curl --silent --fail 'http://127.0.0.1:8080/cities/nearest?lat=31.8&lon=35.2'"
# It does its work before each start of the API, so it does not remain active.
ENDED = {"zmanim-migrate.service"}
# Their conditions are not met in a machine that shares its host's kernel.
SKIPPED_BY_CONTAINERS = frozenset({"chronyd.service", "zmanim-huge-pages.service"})
IDENTITY = "cat /proc/sys/kernel/random/boot_id /etc/machine-id; stat --format=%i /data/postgres"


def preset() -> list[str]:
    """Return what the image enables."""
    return re.findall(r"^enable (\S+)$", (FILES / "zmanim.preset").read_text(), re.MULTILINE)


def expect_all_well(images: ImageLab, machine: str, skipped: Collection[str] = SKIPPED_BY_CONTAINERS) -> None:
    """Everything of ours is enabled and active, nothing has failed, and systemd found no cycle in this boot.

    `skipped` are the units whose conditions this kind of machine does not meet.
    """
    assert images.all_active(machine)
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    assert images.run(machine, f"systemctl is-enabled {' '.join(preset())} | sort --unique") == "enabled"
    expected = sorted(set(preset()) - set(skipped) - ENDED)
    assert images.active(machine, *expected) == dict.fromkeys(expected, "active")
    for unit in ENDED:
        assert images.run(machine, f"systemctl show --value --property=Result {unit}").strip() == "success"
    # PID 1 tells of a cycle, and then leaves one of its units out: which one is chance.
    cycles = "journalctl --boot --no-pager --output=cat _PID=1 | grep --ignore-case cycle || true"
    assert images.run(machine, cycles) == ""


def write_what_a_boot_must_keep(images: ImageLab, machine: str) -> None:
    """Write a row and a key that expires."""
    images.query(machine, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    images.redis(machine, "SET kept precious EX 7200")


def expect_what_a_boot_keeps(images: ImageLab, machine: str, before: str) -> None:
    """The data is there, and the machine is the one that it was: `before` is what IDENTITY gave in another boot."""
    assert images.all_active(machine)
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    assert images.query(machine, "SELECT word FROM kept") == "precious"
    value, seconds = images.redis(machine, "GET kept", "TTL kept").split()
    assert (value, 3600 < int(seconds) <= 7200) == ("precious", True)
    after = images.run(machine, IDENTITY)
    assert (after.split()[0] != before.split(maxsplit=1)[0], after.split()[1:]) == (True, before.split()[1:])
    # Both kinds of persistence: the append-only file at once, the snapshot at the latest when Redis was stopped.
    assert set(images.run(machine, "ls /data/redis").split()) == {"appendonlydir", "dump.rdb"}
    assert json.loads(images.run(machine, NEAREST))["data"]["name"] == "Jerusalem"
