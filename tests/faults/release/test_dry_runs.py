"""Every task, asked of one account with --dry: what shows a plan or only reads changes nothing, the rest refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tasks
from support.git import git
from tests.support.machines.image import VERSION, ImageLab, copy_work_tree

# KMS checks a signature by Verify.
READS = re.compile(r"(Describe|Get|List|Head|Lookup|Simulate)\w*|BatchGet\w+|Verify")
# Tasks that ask an instance by Run Command, with a script that only reads.
ASK_AN_INSTANCE = {"backup.list", "instance.list", "instance.swap"}
# What a task with a plan has to be told; --json where it has one.
PLANS = {
    "account.apply": ["--environment", "verify"],
    "backup.adopt": ["--environment", "verify"],
    "backup.drill": ["--environment", "verify"],
    "backup.now": ["--environment", "verify"],
    "backup.restore": ["--environment", "verify", "--run", "backup-20300101T000000Z"],
    "build-ami": ["--version", "v9.0.1"],
    "image.retire": [],
    "image.rollback": ["--to", VERSION],
    "image.promote": ["--version", VERSION],
    "instance.launch": ["--version", VERSION, "--environment", "verify"],
    "instance.swap": ["--to", VERSION, "--environment", "verify"],
    "publish-ssm": ["--version", VERSION],
    "recovery-drill": ["--version", VERSION, "--environment", "verify"],
    "release.publish": ["--version", "v9.0.1", "--environment", "verify"],
    "release.rollback": ["--to", VERSION, "--environment", "verify"],
    "sweep": ["--older-than", "1"],
    "verify-ami": ["--version", VERSION],
}
READ_ONLY = {
    "account.plan": ["--environment", "verify"],
    "backup.list": ["--environment", "verify"],
    "check-tag": ["--ref", f"refs/tags/{VERSION}-ami", "--version", VERSION],
    "cloud.console": [],
    "cloud.env": [],
    "cloud.ps": [],
    "image.advisories": ["--version", VERSION],
    "image.check": [],
    "image.diff": ["--version", VERSION],
    "image.history": [],
    "image.list": [],
    "image.show": ["--version", VERSION],
    "instance.list": ["--environment", "verify"],
    "settings": [],
    "show-verification": ["--version", VERSION],
    "validate": [],
}
# Look outside, where nobody answers here.
ASK_OUTSIDE = {"bump"}


@pytest.fixture(scope="module")
def clone(images: ImageLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone beside an account that has a verified, published image and an instance that serves."""
    path = tmp_path_factory.mktemp("dry") / "clone"
    copy_work_tree(path)
    images.task("verify-ami", "--version", VERSION, directory=path)
    images.task("publish-ssm", "--version", VERSION, directory=path)
    machine = images.serve()
    yield path
    images.terminate(machine)


def asked_since(images: ImageLab, count: int) -> list[str]:
    calls = map(json.loads, (images.cloud.directory / "api.jsonl").read_text().splitlines()[count:])
    return [str(call["operation"]) for call in calls if call["source"] == "host"]


@pytest.mark.parametrize("name", sorted({*PLANS, *READ_ONLY}))
def test_it_changes_nothing_and_says_one_json_document(images: ImageLab, clone: Path, name: str) -> None:
    arguments = [*{**PLANS, **READ_ONLY}[name]]
    if "json" in tasks.namespace[name].help:
        arguments.append("--json")
    before = len((images.cloud.directory / "api.jsonl").read_text().splitlines())
    state = git(clone, "status", "--porcelain")
    done = images.try_task("--dry", name, *arguments, directory=clone)
    # Refused for its own reasons it has changed nothing, too.
    assert done.returncode in {0, 1, 2}, done.stderr
    changes = [each for each in asked_since(images, before) if not READS.fullmatch(each)]
    assert [each for each in changes if not (name in ASK_AN_INSTANCE and each == "SendCommand")] == []
    assert git(clone, "status", "--porcelain") == state
    if "--json" in arguments and done.returncode == 0:
        json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(set(tasks.namespace.task_names) - {*PLANS, *READ_ONLY, *ASK_OUTSIDE}))
def test_every_other_task_refuses_to_be_asked_so(images: ImageLab, clone: Path, name: str) -> None:
    done: Any = images.try_task("--dry", name, directory=clone)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no-dry-run" in done.stderr
