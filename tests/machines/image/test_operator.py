"""What an operator can do on a machine, and what the machine does by itself so that they need not."""

from __future__ import annotations

import re

import pytest

from tests.support.machines.image import ImageLab

FORMAT = "/opt/zmanim/zmanim-host format-data-volume"


@pytest.mark.fault(
    2,
    injected="a blank volume, and an operator who consents by hand",
    must="it is formatted when it is blank, and refused when a byte of it is not",
)
@pytest.mark.incident("without the launch's tag a blank volume could only be formatted by hand, past every check")
def test_an_operator_s_consent_formats_a_blank_volume_and_nothing_else(images: ImageLab) -> None:
    machine = images.start(consent=False)
    assert f"{FORMAT} /dev/sdf" in images.wait_report(machine)["checks"]["units"]["detail"]
    images.run(machine, "printf junk | dd of=/dev/sdf bs=1 seek=1000000 conv=notrunc status=none")
    refused = images.try_run(machine, f"{FORMAT} /dev/sdf")
    assert "is not blank (data at byte 0)" in refused["StandardErrorContent"]
    images.run(machine, "dd if=/dev/zero of=/dev/sdf bs=1M count=1 conv=notrunc status=none")
    report = images.try_run(machine, f"{FORMAT} /dev/sdf")
    assert report["Status"] == "Success", report
    # Then what the command says, as it says it.
    commands = re.search("now: (.*)", report["StandardErrorContent"])
    assert commands
    images.run(machine, commands[1])
    images.run(machine, "systemctl restart zmanim-ready")
    assert images.ready_reports(machine)[-1]["ok"]
    again = images.try_run(machine, f"{FORMAT} /dev/sdf")
    assert "has a data volume already" in again["StandardErrorContent"]
    images.terminate(machine)


def test_every_log_of_ours_is_in_the_journal_and_the_journal_knows_its_bounds(images: ImageLab, served: str) -> None:
    output = images.run(served, "journalctl --unit=systemd-journald --output=cat --no-pager")
    for journal, most in re.findall(r"(Runtime|System) Journal \(.*?\) is .*?, max (\S+?),", output):
        assert most.replace(".0M", "M") == {"Runtime": "64M", "System": "512M"}[journal], output
    assert "Journal (" in output
    for unit in ("postgresql", "redis", "zmanim-api"):
        lines = images.run(served, f"journalctl --unit={unit} _SYSTEMD_UNIT={unit}.service --output=cat --no-pager")
        assert lines, unit
    owned = "find /var/log -xdev -type f \\( -user postgres -o -user redis -o -user zmanim -o -user zmanim-backup \\)"
    assert images.run(served, owned) == ""
