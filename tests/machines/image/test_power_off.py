"""A machine that is not ready powers itself off, if its launch says so."""

from __future__ import annotations

from tests.support.machines.image import ImageLab

POWER_OFF = {"zmanim:on-failure": "poweroff"}
MESSAGE = "zmanim is not ready: powering off, as the launch says (zmanim:on-failure=poweroff)"


def test_a_machine_that_never_comes_up_powers_itself_off_at_each_boot_until_its_tag_is_taken_away(
    images: ImageLab,
) -> None:
    # Without its environment's tag nothing of it can serve.
    machine = images.start(None, tags=POWER_OFF)
    images.wait_state(machine, "stopped")
    assert images.console(machine).count(MESSAGE) == 1
    assert [report["ok"] for report in images.ready_reports(machine)] == [False]
    images.ec2.delete_tags(Resources=[machine], Tags=[{"Key": name} for name in POWER_OFF])
    images.ec2.start_instances(InstanceIds=[machine])
    assert not images.wait_report(machine, boot=2)["ok"]
    assert images.state(machine) == "running"
    assert images.console(machine).count(MESSAGE) == 1
    images.terminate(machine)


def test_a_machine_that_has_served_since_its_boot_stays_on(images: ImageLab) -> None:
    machine = images.serve(tags=POWER_OFF)
    images.run(machine, "systemctl stop zmanim-api; ! systemctl restart zmanim-ready")
    assert not images.wait_report(machine, boot=2)["ok"]
    # A timer's job may well be among them.
    assert "poweroff.target" not in images.run(machine, "systemctl list-jobs --no-legend")
    assert MESSAGE not in images.console(machine)
    images.terminate(machine)
