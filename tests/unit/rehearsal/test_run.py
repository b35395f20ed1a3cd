"""A rehearsal writes down what it did after every step, and stops at the first task that fails."""

from __future__ import annotations

import json
import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from support.errors import Error
from tests.support.errors import raises
from zmanim_ami.rehearsal import report
from zmanim_ami.rehearsal.limits import Relaxed
from zmanim_ami.rehearsal.report import Machines, Result, Step
from zmanim_ami.rehearsal.run import Options, Rehearsal, run_task
from zmanim_ami.rehearsal.versions import Difference

TASKS = """
import json, os, sys
from invoke.tasks import task

@task(positional=[])
def good(c, version="", json=False):
    print("progress", file=sys.stderr)
    print('{"version": "%s", "endpoint": "%s"}' % (version, os.environ.get("AWS_ENDPOINT_URL")))

@task(positional=[])
def bad(c, version="", json=False):
    sys.exit(3)
"""


def _options(root: Path) -> Options:
    return Options(
        version="v1.0.0", root=root, cache=root, state=root, keep=False, install=False, confirm=False
    )  # fmt: skip


def _written(root: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((root / "build/rehearsal/result.json").read_text())
    return written


def test_the_file_is_there_before_the_first_step_and_says_that_nothing_is_proven(tmp_path: Path) -> None:
    Rehearsal(_options(tmp_path))
    written = _written(tmp_path)
    assert written["ok"] is False
    assert written["steps"] == []


def test_every_step_is_written_down_with_its_time_whether_it_succeeds_or_fails(tmp_path: Path) -> None:
    rehearsal = Rehearsal(_options(tmp_path))
    with rehearsal.step("build-ami"):
        pass
    assert len(_written(tmp_path)["steps"]) == 1
    with pytest.raises(Error), rehearsal.step("verify-ami"):
        raise Error("not ready")
    steps = _written(tmp_path)["steps"]
    assert [(step["name"], step["ok"]) for step in steps] == [("build-ami", True), ("verify-ami", False)]
    assert all(step["seconds"] >= 0 for step in steps)


def test_a_task_s_calls_are_counted_and_not_those_of_its_machines(tmp_path: Path) -> None:
    journal = tmp_path / "api.jsonl"
    journal.write_text('{"source": "host"}\n')
    rehearsal = Rehearsal(_options(tmp_path))
    with rehearsal.step("verify-ami", journal), journal.open("a") as file:
        file.write('{"source": "host"}\n{"source": "i-1"}\n{"source": "host"}\n')
    assert [step.calls for step in rehearsal.result.steps] == [2]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    rehearsal = Rehearsal(_options(tmp_path))
    path = tmp_path / "build/rehearsal/result.json"
    before = path.stat().st_ino
    rehearsal.save(ok=True)
    assert path.stat().st_ino != before  # another file took the name at once
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


def test_a_task_runs_as_a_process_of_its_own_in_the_clone_with_the_cloud_s_environment(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    environment = {**os.environ, "AWS_ENDPOINT_URL": "http://10.212.0.2:5000"}
    result = run_task(tmp_path, environment, "good", "--version", "v1.0.0")
    assert result == {"version": "v1.0.0", "endpoint": "http://10.212.0.2:5000"}


def test_a_task_that_fails_stops_the_rehearsal_with_its_name_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    with raises("step-failed") as caught:
        run_task(tmp_path, os.environ, "bad", "--version", "v1.0.0")
    assert "bad" in str(caught.value)
    assert "exit code 3" in str(caught.value)
    assert caught.value.fix.endswith("./inv rehearse --version v1.0.0 --keep")
    with raises("step-failed", match=r"--version v1\.0\.0 --machines qemu --keep"):
        run_task(tmp_path, os.environ, "bad", "--version", "v1.0.0", again="--machines qemu")


def test_the_table_tells_what_the_machines_were_and_which_limits_were_longer() -> None:
    out = StringIO()
    longer = (Relaxed("boot_timeout", "300 s", "1800 s", "the machines' processor is emulated"),)
    report.show(Result("v1.0.0", machines=Machines("qemu", "tcg"), relaxed=longer), Console(file=out, width=120))
    for text in ("qemu, emulated", "longer limits", "boot_timeout", "300 s", "1800 s", "processor is emulated"):
        assert text in out.getvalue()
    out = StringIO()
    report.show(Result("v1.0.0", machines=Machines("nspawn")), Console(file=out, width=120))
    assert "on this host's kernel" in out.getvalue()
    assert "longer limits" not in out.getvalue()


@pytest.mark.parametrize(("architecture", "plain"), [("aarch64", False), ("x86_64", True)])
def test_the_table_says_plainly_when_the_programs_are_not_what_ships(architecture: str, plain: bool) -> None:
    out = StringIO()
    report.show(Result("v1.0.0", programs=architecture), Console(file=out, width=120))
    assert f"for {architecture}" in out.getvalue()
    assert ("not the shipped architecture" in out.getvalue()) is plain


def test_the_table_tells_times_image_parameters_health_and_differences() -> None:
    out = StringIO()
    result = Result(
        version="v1.0.0",
        ok=True,
        ami_id="ami-1",
        published={"/zmanim/prod/ami-id": "ami-1"},
        parameter_versions={"/zmanim/prod/ami-id": 7},
        health={"data": {"status": "ok"}},
        boot={"running_seconds": 0.4, "healthy_seconds": 8.25},
        steps=(Step("build-ami", 12.34, True), Step("verify-ami", 3.0, False)),
        differences=(Difference("redis", "7.2.16", "7.0.15"),),
    )
    report.show(result, Console(file=out, width=120))
    for text in (
        "build-ami",
        "12.3",
        "failed",
        "ami-1 (version 7)",
        "8.2 after RunInstances",
        '"status": "ok"',
        "7.2.16",
    ):
        assert text in out.getvalue()
