"""120 nights in a repository of restic's own, of a machine that is called otherwise every forty of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.machines.backup_host import BackupHost
from tests.support.machines.backups import restic_script
from zmanim_host.backup.retention import Run, plan

NIGHTS = 120


def name_of(night: datetime) -> str:
    return f"{night:%Y%m%dT%H%M%SZ}-abcdef"


@pytest.mark.fault(
    35,
    injected="120 nights in restic's own repository, under four names of the machine, the last one given now",
    must="the next run leaves exactly 7 days, 4 older weeks and 3 older months, under whatever name they were made",
)
@pytest.mark.incident("retention was grouped by a host name that changes with every image")
def test_under_four_names_of_a_machine_120_nights_leave_what_the_rule_says(backup_host: BackupHost, good: str) -> None:
    system = backup_host.backups.complete()[0]["system"]
    today = datetime.now(UTC).replace(hour=3, minute=2, second=0, microsecond=0)
    nights = [today - timedelta(days=number) for number in range(NIGHTS, 0, -1)]
    made = "\n".join(
        f"made 'ip-10-0-0-{number // 40}' '{night:%Y-%m-%d %H:%M:%S}' {name_of(night)}"
        for number, night in enumerate(nights)
    )
    tags = f"--tag run:$3 --tag part:record --tag system:{system}"
    one = f'restic backup --quiet --host "$1" --time "$2" {tags} --stdin --stdin-filename /record.json'
    script = restic_script("version").replace("restic version", f"made() {{ echo '{{}}' | TZ=UTC {one}; }}\n{made}")
    backup_host.run_long(f"set -e; {script}")
    assert len(backup_host.backups.complete()) >= NIGHTS
    before = backup_host.run("hostname")
    backup_host.run("hostname called-otherwise")
    try:
        newest = backup_host.backups.succeed()
    finally:
        backup_host.run(f"hostname {before}")
    remaining = [run["run"] for run in backup_host.backups.complete()]
    # What the rule says of the same nights, and of this one.
    runs = [*(Run(name_of(night), night, ("s",), "s", system=system) for night in nights)]
    this = Run(newest, datetime.now(UTC), ("s",), "s", system=system)
    kept = sorted(plan([*runs, this], datetime.now(UTC)).keep, key=lambda run: run.time, reverse=True)
    assert remaining == [run.id for run in kept]
    assert len(kept) == 14
    assert [run.time.date() for run in kept[:7]] == [(today - timedelta(days=number)).date() for number in range(7)]
    assert len({run.time.isocalendar()[:2] for run in kept[7:11]}) == 4
    assert len({(run.time.year, run.time.month) for run in kept[11:]}) == 3
