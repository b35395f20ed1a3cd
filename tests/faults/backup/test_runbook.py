"""The runbook of docs/backups.md, typed as it is printed: on the machine and from outside."""

from __future__ import annotations

import re

import pytest

from localcloud.environment import environment
from tests.support import ROOT
from tests.support.machines.backup_host import WITHOUT_PROOFS, BackupHost

PAGE = (ROOT / "docs/backups.md").read_text("utf-8")
ROWS = re.findall(r"^\|([^|]+)\|([^|]*)\|([^|]*)\|$", PAGE[PAGE.index("## The runbook") :], re.MULTILINE)


def commands(column: int, *begins: str) -> list[str]:
    """The commands of a column of the runbook, in its order."""
    printed = [each for row in ROWS for each in re.findall(r"`([^`]+)`", row[column])]
    return [each for each in printed if each.startswith(begins)]


def elsewhere(*begins: str) -> list[str]:
    """The commands of the other pages that begin so."""
    pages = [ROOT / "infrastructure/packer/README.md", *(ROOT / "docs").glob("*.md")]
    printed = {each for page in pages for each in re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))}
    blocks = [block for page in pages for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
    printed |= {re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()}
    return sorted(each for each in printed if each.startswith(begins) and " " in each)


def test_what_other_pages_print_for_a_machine_works_there(backup_host: BackupHost, good: str) -> None:
    machine = ("journalctl", "systemctl restart zmanim-api", "systemctl stop zmanim-recovery", "mv /data/redis/")
    typed = elsewhere(*machine)
    assert len(typed) >= 4, elsewhere(machine[0])
    for command in typed:
        backup_host.run(command)
    backup_host.run("rm -rf /data/redis/damaged-by-hand; systemctl restart zmanim-api")


def test_what_the_pages_print_for_an_account_works_there(backup_host: BackupHost, good: str) -> None:
    name, operator = backup_host.environment, operators_environment(backup_host)
    backup_host.run("umask 077; echo secret >/run/new-value")
    account = ("aws ssm put-parameter", "aws ssm delete-parameter")
    typed = elsewhere(*account)
    assert [len(elsewhere(each)) for each in account] == [1, 1]
    for command in typed:
        ours = command.replace("zmanim-prod", f"zmanim-{name}").replace("/prod/", f"/{name}/")
        backup_host.run(f"export {operator}; {ours.replace('file://…', 'file:///run/new-value')}")
    backup_host.images.task("account.plan", "--environment", name)


def operators_environment(host: BackupHost) -> str:
    """The account's own rights, for the AWS CLI of a machine: the host may have none."""
    known = environment(host.images.cloud, {})
    return " ".join(f"{name}={known[name]}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"))


def newest(host: BackupHost) -> str:
    """The run that a person would name: an older one of today may have gone with the page's own backup."""
    return str(host.backups.complete()[0]["run"])


def test_each_command_for_the_machine_does_what_it_says(backup_host: BackupHost, good: str) -> None:
    backup_host.run(f"rm -f {WITHOUT_PROOFS}; systemctl daemon-reload")
    typed = commands(2, "/opt", "systemctl")
    assert len(typed) >= 9
    for command in typed:
        backup_host.run_long(f"cd /; {command.replace('ID', newest(backup_host)).replace('DIR', '/data/looked-at')}")
    assert backup_host.run("ls /data/looked-at/postgres/PG_VERSION")
    backup_host.run("rm -rf /data/looked-at /data/before-*")
    backup_host.backups.succeed()


def test_each_command_from_outside_does_what_it_says(backup_host: BackupHost, good: str) -> None:
    typed = commands(1, "./inv backup.")
    assert len(typed) >= 6
    for command in typed:
        _, task, *words = command.replace("ID", newest(backup_host)).split()
        backup_host.images.task(task, *words, "--instance", backup_host.machine)
    backup_host.run("rm -rf /data/before-*")


def test_a_run_from_the_future_is_dated_anew_as_the_page_says(backup_host: BackupHost, good: str) -> None:
    (command,) = re.findall(r"`(/opt/zmanim/restore\.sh --redate [^`]+)`", PAGE)
    run = backup_host.backups.succeed()
    backup_host.run(command.replace("ID", run))
    assert {each["run"]: each["time"] for each in backup_host.backups.complete()}[run] == "2026-11-24T03:00:00Z"


@pytest.mark.incident("a stolen instance role could have removed every backup for good")
def test_what_was_deleted_is_had_back_as_the_page_says(backup_host: BackupHost, good: str) -> None:
    result = re.search(r"```sh\n(bucket=.*?aws s3api list-object-versions .*?)```", PAGE, re.DOTALL)
    assert result
    bucket = backup_host.bucket
    backup_host.run(f"aws s3 rm --recursive --only-show-errors s3://{bucket}/; echo done")
    assert backup_host.backups.complete() == []
    typed = result[1].replace("/prod/", f"/{backup_host.environment}/")
    backup_host.run_long(f"export {operators_environment(backup_host)}; {typed}")
    assert good in {run["run"] for run in backup_host.backups.complete()}
    # What was locked then is nobody's lock now.
    backup_host.backups.restic("unlock --remove-all")
    backup_host.backups.succeed()
