"""A machine that was off when its backup should have run makes it up when it is back."""

from __future__ import annotations

import os
import time

import pytest

from tests.support.machines.backup_host import BackupHost
from tests.support.machines.lab import wait_for

TIMER = "restic-backup.timer"
DAY = 24 * 3600
# The first of its times after the boot is 20 minutes away, and the random delay up to five.
AT_ONCE = f"/etc/systemd/system/{TIMER}.d/at-once.conf"


@pytest.mark.fault(
    39,
    injected="a machine that is off from the day before until after three o'clock",
    must="on its return a backup runs",
)
def test_a_machine_that_was_off_at_three_backs_up_when_it_is_back(backup_host: BackupHost, good: str) -> None:
    images, machine = backup_host.images, backup_host.machine
    boots = len(images.ready_reports(machine))
    delay = "[Timer]\\nRandomizedDelaySec=0\\n"
    backup_host.run(f"mkdir -p $(dirname {AT_ONCE}); printf '{delay}' >{AT_ONCE}; systemctl daemon-reload")
    images.ec2.stop_instances(InstanceIds=[machine])
    images.wait_state(machine, "stopped")
    # What systemd goes by: when the timer was last seen to.
    yesterday = time.time() - DAY
    os.utime(images.root_disk(machine) / f"var/lib/systemd/timers/stamp-{TIMER}", (yesterday, yesterday))
    images.ec2.start_instances(InstanceIds=[machine])
    images.expect_ready(machine, boot=boots + 1)
    wait_for(lambda: backup_host.backups.complete()[0]["run"] != good, 300, "a run of the timer's own")
    assert backup_host.backups.wait(), backup_host.backups.journal()
    backup_host.run(f"rm -r $(dirname {AT_ONCE}); systemctl daemon-reload")
