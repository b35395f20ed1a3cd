"""Every command that a page prints is typed by a test, or has a reason why none can."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import ROOT

PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "localcloud/README.md",
    *(page for folder in ("docs", "infrastructure") for page in sorted((ROOT / folder).rglob("*.md"))),
]
PROGRAMS = r"\./inv|\./nox|inv|nox|aws|systemctl|/opt/zmanim/\S+|journalctl|restic|sudo|eval|packer|mv|rm|restore\.sh"
RUNBOOK = "tests/faults/backup/test_runbook.py"
# What is typed, by what types it and what shows there that it does: words of the command, or how it reads the page.
TYPED: Mapping[str, tuple[str, str]] = {
    r"/opt/zmanim/restore\.sh --redate .*": (RUNBOOK, "--redate"),
    r"/opt/zmanim/restore\.sh (?!--redate).*": (RUNBOOK, 'commands(2, "/opt", "systemctl")'),
    r"systemctl (start|stop) (restic-backup|backup-drill|backup-proof|zmanim-api)": (
        RUNBOOK,
        'commands(2, "/opt", "systemctl")',
    ),
    r"\./inv backup\.\w+( .*)?": (RUNBOOK, 'commands(1, "./inv backup.")'),
    r"aws s3api (list-object-versions|delete-object) .*": (RUNBOOK, "aws s3api list-object-versions"),
    r"journalctl .*|systemctl (restart zmanim-api|stop zmanim-recovery)|mv /data/redis/.*": (
        RUNBOOK,
        "elsewhere(machine",
    ),
    r"aws ssm (put|delete)-parameter .*": (RUNBOOK, "elsewhere(*account)"),
    r"restore\.sh --latest": ("tests/faults/backup/test_backups.py", "restore.sh --latest"),
    r"restic key .*|rm /run/zmanim/new-password|systemctl restart zmanim-secrets": (
        "tests/faults/backup/test_rotation.py",
        "docs/secrets.md",
    ),
    r"aws ec2 (run|terminate)-instances .*|aws ec2 (wait|attach-volume) .*": (
        "tests/faults/release/test_on_aws_page.py",
        "docs/on-aws.md",
    ),
    r"sudo systemd-run .* psql .*": ("tests/machines/image/test_documentation.py", "docs/releases.md"),
    r"(\./inv|inv) (recovery-drill)( .*)?": ("tests/machines/image/test_backups.py", '"recovery-drill"'),
    r"(\./inv|inv) rehearse( .*)?": ("tests/machines/release/test_rehearsal.py", '"rehearse"'),
    r"/opt/zmanim/zmanim-host format-data-volume .*": ("tests/machines/image/test_operator.py", "format-data-volume"),
    r"(\./inv|inv) account\.(apply|plan)( .*)?": (RUNBOOK, '"account.plan"'),
    r"\./inv build-ami .*|inv build-ami": ("tests/machines/release/test_release.py", '"build-ami"'),
    r"\./inv (publish-ssm|image\.\w+|sweep --older-than)( .*)?": (
        "tests/unit/commands/test_images_page.py",
        "docs/images.md",
    ),
    r"\./inv instance\.\w+( .*)?|aws ec2 (modify-instance-attribute|delete-snapshot) .*": (
        "tests/unit/commands/test_instances_page.py",
        "docs/instances.md",
    ),
    r"\./inv release\.(publish|rollback) .*": ("tests/support/machines/releases.py", '"release.rollback"'),
    r"aws ec2 create-key-pair .*|eval \"\$\(\.venv/bin/python -m localcloud env\)\"": (
        "tests/faults/hosts/test_localcloud.py",
        "localcloud/README.md",
    ),
    r"aws ec2 (disable-image-deprecation|enable-image)": (
        "tests/unit/pipeline/images/test_rules.py",
        "somebody has enabled it again",
    ),
    r"\./inv sweep --run .*": ("tests/machines/release/test_workflow.py", '"sweep"'),
    r"\./inv bump": (".github/workflows/bump.yml", "inv bump"),
    r"\./inv lock": ("tests/unit/commands/test_bump_task.py", '"lock"'),
    r"(\./inv|inv) (resolve-packages|base-image(?! --kvm).*)": (".github/workflows/verify.yml", "resolve-packages"),
    r"\./inv base-image --kvm .*": (".github/workflows/verify.yml", "base-image --kvm"),
    r"eval .*packer build .*": ("tests/machines/release/test_by_hand.py", '"packer build"'),
    r"\./inv cloud\.(up|down).*|eval \"\$\(\./inv (cloud|tools)\.env\)\"": (
        "tests/machines/release/test_rehearsal.py",
        '"cloud.down"',
    ),
    r"\./inv report( .*)?": ("tests/unit/evidence/test_make.py", '_inv("report"'),
    r"\./inv doctor --install( --browser)?": ("noxfile.py", '"doctor", "--install", "--browser"'),
    r"\./inv --list": ("tests/unit/commands/test_tasks.py", '"--help"'),
    r"\./nox -s report": (".github/workflows/verify.yml", "./nox -s report"),
    r"\./inv (doctor|settings|write-contents)": ("tests/unit/commands/test_documented_commands.py", "reads_only"),
    r"\./nox|(\./)?nox -s (verify|gate-proof|contract)( -- --changed)?|\./nox --list": (
        ".github/workflows/verify.yml",
        "gate-proof",
    ),
    r"\./nox -s kernel": (".github/workflows/verify.yml", "./nox -s kernel"),
    r"\./nox -s clients( -- \S+)?": (".github/workflows/verify.yml", "./nox -s clients"),
}
# What nobody types for a test, and why.
UNTYPED: Mapping[str, str] = {
    r"(\./inv|inv) bench( .*)?": "takes an hour; its figures are in docs/benchmarks.md, which is made from them",
    r"\./nox -s (mutation|shell)": "takes hours; for a person",
    r"\./inv write-contents --inventory FILE": "for what verify-ami has left",
    r"aws ec2 describe-images --owners amazon .*": "only AWS has Amazon's images",
    r"aws inspector2 list-findings": "nothing here stands in for Amazon Inspector",
    r"\./inv --list >/dev/null": "makes the environment that every test runs in",
    r"packer build": "a name for the step, not a command to type",
}


def printed() -> Iterator[tuple[Path, str]]:
    """Every command of every page: lines of shell blocks, and what stands in backquotes and begins with a program."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(PROGRAMS, line.strip()):
                    yield page, " ".join(re.sub(r"\s+#.*", "", line).split())
        for words in re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            command = " ".join(words.split())
            if re.fullmatch(rf"({PROGRAMS}) \S.*", command):
                yield page, command


COMMANDS = sorted({(page.name, command) for page, command in printed()})


@pytest.mark.incident("the documented remedy for a run dated in the future lost data: nobody had ever typed it")
@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_that_a_page_prints_is_typed_or_has_its_reason(page: str, command: str) -> None:
    rows = [pattern for pattern in (*TYPED, *UNTYPED) if re.fullmatch(pattern, command)]
    assert rows, f"{page} prints {command!r}: type it in a test, and add a row here"
    assert len(rows) == 1, rows


@pytest.mark.parametrize("pattern", TYPED)
def test_what_is_said_to_type_a_command_does(pattern: str) -> None:
    place, shown = TYPED[pattern]
    assert shown in (ROOT / place).read_text("utf-8"), place


@pytest.mark.parametrize("pattern", [*TYPED, *UNTYPED])
def test_no_row_is_about_a_command_that_no_page_prints(pattern: str) -> None:
    assert any(re.fullmatch(pattern, command) for _, command in COMMANDS)


@pytest.mark.parametrize("reads_only", ["doctor", "settings"])
def test_what_only_reads_does_so_on_this_machine(reads_only: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", reads_only], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 3}, done.stderr
    assert done.stdout
