"""A machine whose secrets can't be had comes up by itself once they can, and nothing else is tried again."""

from __future__ import annotations

import time

import pytest

from tests.support.machines.image import ENVIRONMENT, ImageLab
from tests.support.machines.lab import wait_for
from tests.support.servers import POSTGRESQL

SSM = "ssm.eu-west-1.amazonaws.com"
# Runs before our units ask for anything: short times.
QUICK = """#cloud-boothook
#!/bin/sh
for unit in secrets recovery; do
  mkdir --parents /etc/systemd/system/zmanim-$unit.service.d
done
printf '[Service]\\nEnvironment=ZMANIM_SECRETS_PATIENCE=2\\n' >/etc/systemd/system/zmanim-secrets.service.d/quick.conf
printf '[Service]\\nEnvironment=ZMANIM_RECOVERY_PAUSE=2\\n' >/etc/systemd/system/zmanim-recovery.service.d/quick.conf
systemctl daemon-reload
"""
# And nobody listens where Parameter Store should be.
AWAY = f"{QUICK}echo '127.0.0.1 {SSM}' >>/etc/hosts\n"
BACK = f"sed --in-place '/{SSM}/d' /etc/hosts"
# A migration that can't be done, in the release that runs.
BROKEN = AWAY + "echo 'SELECT 1/0;' >/opt/zmanim/current/migrations/20990101000000_broken.sql\n"


def starts(images: ImageLab, machine: str, unit: str) -> int:
    """Return how often systemd has begun to start a unit since the machine booted."""
    journal = f"journalctl --boot --unit={unit} --no-pager --output=cat"
    return int(images.run(machine, f"{journal} | grep --count '^Starting ' || true"))


def how_often(images: ImageLab, machine: str, *units: str) -> dict[str, int]:
    return {unit: starts(images, machine, unit) for unit in units}


@pytest.mark.fault(
    42,
    injected="a Parameter Store that nobody answers for",
    must="the ready line says so, and all starts by itself once it is back, the rest only once",
)
@pytest.mark.incident("services whose secrets came too late stayed down until somebody came")
def test_services_come_up_by_themselves_once_parameter_store_is_back(images: ImageLab) -> None:
    machine = images.start(UserData=AWAY)
    report = images.wait_report(machine)
    reason = f"secrets: the secrets can't be had: /zmanim/verify/: {SSM}: no answer"
    assert reason in report["checks"]["units"]["detail"]
    down = {"postgresql": "active", "redis": "inactive", "zmanim-api": "inactive", "zmanim-recovery": "active"}
    assert images.active(machine, *down) == down
    wait_for(lambda: starts(images, machine, "zmanim-secrets") >= 3, 30, "a third start of zmanim-secrets")
    assert images.active(machine, "redis", "zmanim-api") == {"redis": "inactive", "zmanim-api": "inactive"}
    images.run(machine, BACK)
    images.expect_ready(machine, boot=2)
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    once = ("zmanim-data-volume", "zmanim-data-layout", "postgresql", "redis", "zmanim-api")
    assert how_often(images, machine, *once) == dict.fromkeys(once, 1)
    # Before the API's first try, which waited for the secrets in vain, and before the second.
    assert how_often(images, machine, "zmanim-migrate") == {"zmanim-migrate": 2}
    # The same from a rotation in an outage: nothing runs with what may no longer be in force.
    images.run(machine, f"echo '127.0.0.1 {SSM}' >>/etc/hosts; ! systemctl restart zmanim-secrets")
    assert images.active(machine, "redis", "zmanim-api") == {"redis": "inactive", "zmanim-api": "inactive"}
    images.run(machine, BACK)
    images.expect_ready(machine, boot=3)
    # And nobody is in an operator's way afterwards: what is stopped stays so.
    wait_for(lambda: images.active(machine, "zmanim-recovery") == {"zmanim-recovery": "inactive"}, what="its end")
    images.run(machine, "systemctl stop zmanim-api redis")
    time.sleep(5)
    assert images.active(machine, "redis", "zmanim-api") == {"redis": "inactive", "zmanim-api": "inactive"}
    images.terminate(machine)


def test_a_machine_that_is_told_its_environment_after_its_launch_comes_up_by_itself(images: ImageLab) -> None:
    machine = images.start(None, UserData=AWAY + BACK)
    assert "this instance has no tag zmanim:environment" in images.wait_report(machine)["checks"]["units"]["detail"]
    images.ec2.create_tags(Resources=[machine], Tags=[{"Key": "zmanim:environment", "Value": ENVIRONMENT}])
    assert images.expect_ready(machine, boot=2)["environment"] == ENVIRONMENT
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    images.terminate(machine)


@pytest.mark.fault(
    13,
    injected="a cluster of PostgreSQL 16, and secrets that come late",
    must="the cluster is looked at once, PostgreSQL is never started",
)
@pytest.mark.incident("PostgreSQL was started over and over on another major version's cluster")
def test_a_refused_cluster_is_looked_at_once_even_when_the_secrets_come_later(images: ImageLab) -> None:
    machine = images.serve(keep=True)
    volume = images.volume_of(machine)
    images.run(machine, "systemctl stop zmanim-api postgresql; echo 16 >/data/postgres/PG_VERSION; sync")
    images.terminate(machine)
    machine = images.start_with(volume, consent=False, UserData=AWAY)
    assert not images.wait_report(machine)["ok"]
    images.run(machine, BACK)
    report = images.wait_report(machine, boot=2)
    assert "was written by PostgreSQL '16'" in report["checks"]["units"]["detail"]
    # Long enough for several tries, had there been any.
    time.sleep(8)
    expected = {"zmanim-data-volume": 1, "zmanim-data-layout": 1, "postgresql": 0, "redis": 0, "zmanim-api": 0}
    assert how_often(images, machine, *expected) == expected
    assert images.active(machine, "zmanim-recovery", "zmanim-secrets") == {
        "zmanim-recovery": "inactive",
        "zmanim-secrets": "active",
    }
    assert images.run(machine, "cat /data/postgres/PG_VERSION") == "16"
    # Repaired, one command brings everything up.
    images.run(machine, f"echo {POSTGRESQL} >/data/postgres/PG_VERSION; systemctl start zmanim.target")
    wait_for(lambda: images.active(machine, "zmanim-api") == {"zmanim-api": "active"}, what="the API")
    images.terminate(machine)
    images.ec2.delete_volume(VolumeId=volume)


def test_a_migration_that_fails_is_not_tried_over_and_over(images: ImageLab) -> None:
    machine = images.start(UserData=BROKEN)
    assert "20990101000000_broken" in images.wait_report(machine)["checks"]["units"]["detail"]
    assert starts(images, machine, "zmanim-migrate") == 1
    images.run(machine, BACK)
    assert not images.wait_report(machine, boot=2)["ok"]
    time.sleep(8)
    # Once more with the API, which the secrets had kept from starting; not again.
    expected = {"zmanim-migrate": 2, "zmanim-api": 0, "redis": 1}
    assert how_often(images, machine, *expected) == expected
    images.terminate(machine)


@pytest.mark.incident("a recovery that took longer than ten minutes was killed, and began again for ever")
def test_a_store_that_recovers_is_said_to_on_the_console_and_is_not_ended(images: ImageLab) -> None:
    machine = images.serve()
    for unit in ("postgresql", "redis"):
        assert images.run(machine, f"systemctl show --property=TimeoutStartUSec --value {unit}") == "infinity"
    # It starts for as long as this sleeps.
    images.run(
        machine,
        "mkdir -p /run/systemd/system/redis.service.d; cd /run/systemd/system/redis.service.d;"
        " printf '[Service]\\nExecStartPre=/usr/bin/sleep 300\\n' >slow.conf; systemctl daemon-reload;"
        " systemctl restart --no-block redis;"
        " until systemctl show --property=SubState redis | grep --quiet start-pre; do sleep 0.1; done;"
        " systemctl start zmanim-recovering",
    )
    wait_for(lambda: "zmanim-ready waits: redis.service has been recovering since" in images.console(machine), 20)
    # It waits for the API first, longer than the agent's patience.
    images.enter(machine, ["sh", "-c", "/opt/zmanim/zmanim-host ready || true"])
    assert "redis.service has been recovering since" in images.ready_reports(machine)[-1]["checks"]["redis"]["detail"]
    images.terminate(machine)
