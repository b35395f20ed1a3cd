"""A machine that is stopped while it has work to do, and comes on again: power off and on, as a person does it."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.power.test_power_and_kills import keys, prepare, rows
from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.promises import units

# What systemd says where a unit did not end within its limit, at its stop or at the very end of the shutdown.
CUT_SHORT = re.compile(r"SIGKILL|timed out\. \w+|Failed with result 'timeout'")
BEFORE = "journalctl --boot=-1 --no-pager --output=cat"
NOW = BEFORE.replace("-1", "0")
BACKUP_STATE = "systemctl show --property=ActiveState --value restic-backup"
# Who writes to both stores: what was acknowledged lies on the root disk.
WRITERS = {"rows": rows(0), "keys": keys(0)}


@contextmanager
def requests(address: str) -> Iterator[list[bytes]]:
    """Ask the API again and again, by four clients; yield the growing list of its answers."""
    answers: list[bytes] = []
    over = threading.Event()
    nearest = f"http://{address}:8080/cities/nearest?lat=31.8&lon=35.2"

    def ask() -> None:
        while not over.is_set():
            try:
                with urllib.request.urlopen(nearest, timeout=60) as answer:
                    answers.append(answer.read())
            except OSError:
                over.wait(0.2)  # it is on its way down

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        over.set()
        for client in clients:
            client.join()


def acknowledged(images: ImageLab, machine: str, name: str) -> int:
    """Return how much a writer was told that it is written."""
    return int(images.run(machine, f"tail --lines=2 /root/{name} | grep -x '[0-9]*' | tail --lines=1").strip() or 0)


def expect_clean_shutdown(images: ImageLab, machine: str, console: str) -> None:
    """The boot before ended in order: nobody was killed, both stores closed their files, no journal is replayed now.

    `console` is what the machine said from when it was to stop until it had.
    """
    said = images.run(machine, f"{BEFORE} _PID=1 | grep --extended-regexp 'SIGKILL|timed out|timeout' || true")
    assert CUT_SHORT.findall(said) == []
    # The last words are not in the journal any more: who was still there when everything was unmounted.
    assert re.findall(r"Sending SIGKILL to PID .*|Failed to unmount .*", console) == []
    stores = images.run(machine, f"{BEFORE} --unit=postgresql --unit=redis | tail --lines=40")
    assert "database system is shut down" in stores
    assert "bye bye" in stores
    now = images.run(machine, f"{NOW} --unit=postgresql | head --lines=40")
    assert "database system was shut down at" in now
    assert "not properly shut down" not in now
    kernel = images.run(machine, f"{NOW} --dmesg | grep --extended-regexp 'XFS|EXT4'")
    assert "Ending clean mount" in kernel
    assert "recovery" not in kernel


@pytest.mark.fault(
    19,
    injected="a stop of the machine under load, with a backup on its way",
    must="nobody is killed, no journal is replayed, what was acknowledged is there",
)
def test_a_stop_under_load_ends_within_the_units_limits_and_loses_nothing(images: ImageLab, served: str) -> None:
    prepare(images, served)
    before, boots = images.run(served, units.IDENTITY), len(images.ready_reports(served))
    for name, command in WRITERS.items():
        images.enter(served, ["sh", "-c", f"cat >/root/{name}.sh"], input=f"{command}\n")
        unit = f"systemd-run --quiet --unit=writes-{name} --property=StandardOutput=file:/root/{name}"
        images.run(served, f"{unit} bash /root/{name}.sh")
    with requests(images.describe(served)["PublicIpAddress"]) as answers:
        wait_for(lambda: len(answers) > 20, images.patience, "answers of the API")
        for name in WRITERS:
            wait_for(lambda name=name: acknowledged(images, served, name) > 20, images.patience, f"{name} written")  # type: ignore[misc]
        images.run(served, "systemctl start --no-block restic-backup")
        wait_for(lambda: images.run(served, BACKUP_STATE) == "activating", images.patience, "a backup that runs")
        said = len(images.console(served))
        images.ec2.stop_instances(InstanceIds=[served])
        images.wait_state(served, "stopped")
    assert f"{served} did not shut down within" not in (images.cloud.directory / "server.log").read_text()

    down = images.console(served)[said:]
    images.ec2.start_instances(InstanceIds=[served])
    images.expect_ready(served, boot=boots + 1)
    expect_clean_shutdown(images, served, down)
    rows_written, keys_written = (acknowledged(images, served, name) for name in WRITERS)
    assert int(images.query(served, "SELECT max(n) FROM acked")) >= rows_written
    assert int(images.redis(served, "GET counter")) >= keys_written
    after = images.run(served, units.IDENTITY)
    assert (after.split()[0] != before.split(maxsplit=1)[0], after.split()[1:]) == (True, before.split()[1:])
    units.expect_all_well(images, served, skipped=())
