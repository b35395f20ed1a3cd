"""A machine that has no network when it boots: what needs none serves, the rest waits for it and comes by itself."""

from __future__ import annotations

import pytest

from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for

NETWORK = "systemd-networkd.service systemd-networkd.socket"
# Seconds after which it has to have said that it does not serve, and why.
LIMIT = 240


@pytest.mark.fault(
    47,
    injected="a reboot without any network, which comes back later",
    must="PostgreSQL serves, the ready line says why the rest does not, and all starts by itself with the network",
)
def test_a_boot_without_network_is_told_of_and_over_when_there_is_one(images: ImageLab) -> None:
    machine = images.serve()
    images.query(machine, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    images.run(machine, f"systemctl mask {NETWORK} 2>&1")
    images.ec2.reboot_instances(InstanceIds=[machine])
    report = images.wait_report(machine, boot=2, seconds=LIMIT + 60)
    assert images.run(machine, "ip -brief -4 address show scope global") == ""
    assert (report["ok"], report["seconds"] < LIMIT) == (False, True)
    # No secret outlives a boot on any disk: without Parameter Store there is nothing that the API could start with.
    states = images.active(machine, "postgresql", "redis", "zmanim-api")
    assert states == {"postgresql": "active", "redis": "inactive", "zmanim-api": "inactive"}
    assert images.query(machine, "SELECT word FROM kept") == "precious"
    assert "environment: the metadata service" in report["checks"]["units"]["detail"]
    images.run(machine, f"systemctl unmask {NETWORK} 2>&1; systemctl start {NETWORK}")
    images.expect_ready(machine, boot=3)
    wait_for(lambda: images.active(machine, "zmanim-api") == {"zmanim-api": "active"}, 60, "the API")
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    images.terminate(machine)
