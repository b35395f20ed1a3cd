"""Forth and back on GitHub: what is planned is shown before anybody is asked, and only what was approved is done."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.github.workflow import read
from zmanim_ami.pipeline.account import workflow_roles

WORKFLOW = read(ROOT / ".github/workflows/publication.yml")
BUILD = read(ROOT / ".github/workflows/build-ami.yml")
PLAN, MOVE = (WORKFLOW["jobs"][name] for name in ("plan", "move"))
STEP = {"action": "write", "subject": "/zmanim/prod/ami-id = ami-1 in eu-west-1", "reason": "it is ami-2"}
INV = """#!/bin/sh
printf '%s|' "$@" >>calls
echo >>calls
case "$*" in *--dry*) [ ! -e refused ] || exit 2; cat answer ;; esac
"""


@dataclass
class Runner:
    """A runner with an ./inv that answers with a plan and writes down how it is called."""

    directory: Path
    inputs: Mapping[str, str] = field(default_factory=dict)

    def plans(self, *steps: Mapping[str, str]) -> None:
        (self.directory / "answer").write_text(json.dumps({"steps": steps}, indent=2))

    def run(self, job: Mapping[str, Any], **env: str) -> int:
        """Run the script of a job; return its exit code. GitHub's own shell: `bash -e`."""
        (script,) = (step["run"] for step in job["steps"] if "run" in step)
        files = {name: str(self.directory / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
        environ = {**os.environ, **files, **self.inputs, **env}
        return subprocess.run(["bash", "-e", "-c", script], cwd=self.directory, env=environ, check=False).returncode

    def text(self, name: str) -> str:
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    @property
    def approved(self) -> str:
        return self.text("GITHUB_OUTPUT").removeprefix("steps=").rstrip("\n")

    @property
    def calls(self) -> list[list[str]]:
        return [line.split("|")[:-1] for line in self.text("calls").splitlines()]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    (tmp_path / "inv").write_text(INV)
    (tmp_path / "inv").chmod(0o755)
    made = Runner(tmp_path, {"ACTION": "rollback", "VERSION": ""})
    made.plans(STEP)
    return made


@pytest.mark.parametrize(
    ("action", "version", "words"),
    [
        ("rollback", "", ["image.rollback", "--to", ""]),
        ("rollback", "v1.2.2", ["image.rollback", "--to", "v1.2.2"]),
        ("promote", "v1.2.4", ["image.promote", "--version", "v1.2.4"]),
        ("promote", "$(touch mine); v1 x", ["image.promote", "--version", "$(touch mine); v1 x"]),
    ],
)
def test_the_task_of_that_name_is_planned_shown_and_then_done(
    runner: Runner, action: str, version: str, words: list[str]
) -> None:
    runner.inputs = {"ACTION": action, "VERSION": version}
    assert runner.run(PLAN) == 0
    assert runner.calls == [[*words, "--dry", "--json"]]
    assert runner.text("GITHUB_STEP_SUMMARY") == f"- write {STEP['subject']}: it is ami-2\n"
    assert runner.run(MOVE, APPROVED=runner.approved) == 0
    assert runner.calls[1:] == [[*words, "--dry", "--json"], words]
    assert not (runner.directory / "mine").exists()


@pytest.mark.incident("an approval came days late, and by then the version before was another one")
def test_where_the_plan_is_another_one_than_was_approved_nothing_moves(runner: Runner) -> None:
    assert runner.run(PLAN) == 0
    runner.plans({**STEP, "reason": "it is ami-3"})
    assert runner.run(MOVE, APPROVED=runner.approved) == 1
    assert [call for call in runner.calls if "--dry" not in call] == []


@pytest.mark.parametrize("job", [PLAN, MOVE], ids=["plan", "move"])
def test_what_the_task_refuses_is_red_and_moves_nothing(runner: Runner, job: dict[str, Any]) -> None:
    (runner.directory / "refused").touch()
    assert runner.run(job, APPROVED="[]") != 0
    assert [call for call in runner.calls if "--dry" not in call] == []
    assert runner.text("GITHUB_OUTPUT") == ""


def test_nobody_is_asked_to_approve_nothing(runner: Runner) -> None:
    runner.plans()
    assert runner.run(PLAN) == 0
    assert runner.text("GITHUB_STEP_SUMMARY") == "Nothing to do.\n"
    assert MOVE["if"] == f"needs.plan.outputs.steps != '{runner.approved}'"


def test_it_is_planned_by_who_can_only_look_and_done_in_the_environment_that_asks() -> None:
    assert list(WORKFLOW["on"]) == ["workflow_dispatch"]
    assert PLAN["environment"] == workflow_roles.environment("look")
    assert MOVE["environment"] == workflow_roles.environment("publish") == BUILD["jobs"]["publish"]["environment"]
    assert MOVE["needs"] == "plan"


def test_it_has_the_group_of_its_versions_release_and_no_job_of_it_holds_one_up() -> None:
    # Both write v1.2.3 as v1.2.3-ami there; a group for all would make the way back wait for another one's approval.
    named = "{}inputs.version && format('{{0}}-ami', inputs.version) || {} }}}}"
    assert BUILD["concurrency"]["group"] == named.format("build-ami-${{ ", "github.ref_name")
    assert WORKFLOW["concurrency"]["group"] == named.format("build-ami-${{ ", "'rollback'")
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False
    assert not any("concurrency" in job for job in (PLAN, MOVE))


def test_what_was_typed_reaches_the_scripts_by_the_environment_only() -> None:
    assert WORKFLOW["env"]["ACTION"] == "${{ inputs.action }}"
    assert WORKFLOW["env"]["VERSION"] == "${{ inputs.version }}"
    assert WORKFLOW["on"]["workflow_dispatch"]["inputs"]["action"]["options"] == ["rollback", "promote"]
    assert "inputs." not in str(WORKFLOW["jobs"])
