"""Runs a workflow on this machine by act: steps, expressions and the order of jobs are act's.

Every action is stood in for by the composite action of its name in this folder: nothing is fetched. act knows no
environments, so a variable or secret has its own name as its value, and the stand-ins look up what a job's environment
has under that name. act's own way to cancel is not used: jobs with `if: always()` would run none of their steps.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support import ROOT
from tests.support.github.workflow import read

STAND_INS = Path(__file__).parent
# What a stand-in prints before it fails for a reason that is no failure of the run, but a defect of the workflow.
REFUSED = "not what the workflow promises: "
# GitHub waits for 7.5 seconds, and then for 2.5 more after a SIGTERM.
_GRACE_SECONDS = 1.0


@dataclass(frozen=True)
class Event:
    """What a workflow runs for. `ref` is the full name (refs/tags/…); with `inputs` it was started by hand.

    A run whose failed jobs are run again has its id again, another `attempt`, and what its jobs came to `before`.
    """

    ref: str
    run_id: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 1
    before: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of a workflow: each job's result, the steps that ran, what they printed, and the summary page."""

    results: Mapping[str, str]
    steps: list[str]  # "job: step"
    output: str
    summary: str


# Is asked again and again, with the step that runs ("job: step"); says when the run is to be cancelled.
Watch = Callable[[str], bool]


@dataclass(frozen=True)
class Act:
    """Where and by what a workflow runs: `program` is act's, `repository` what the run is of.

    `environment` is every step's, with the STAND_IN_* that the stand-ins read. `variables` and `secrets` are the names
    that the contexts `vars` and `secrets` have.
    """

    program: Path
    workflow: Path
    repository: Path
    environment: Mapping[str, str]
    variables: Collection[str] = ()
    secrets: Collection[str] = ()

    def run(self, event: Event, directory: Path, watch: Watch | None = None) -> Run:
        """Run every job whose turn comes; `directory` is a new one, for the jobs' work trees."""
        home = directory / "home"
        home.mkdir(parents=True)
        (home / ".actrc").touch()  # else act asks which images it should use
        (directory / "event.json").write_text(json.dumps({"ref": event.ref, "inputs": dict(event.inputs)}))
        # act has a home of its own, so that nobody's settings are taken; the steps have that of the environment.
        steps_own = {name: self.environment[name] for name in _SETTINGS_OF_ACT if name in self.environment}
        environment = {name: value for name, value in self.environment.items() if name not in steps_own}
        kept = jobs_that_stay(read(self.workflow), event.before)
        workflow = self._without(kept, directory) if kept else self.workflow
        attempt = {"GITHUB_RUN_ID": event.run_id, "GITHUB_RUN_ATTEMPT": str(event.attempt)}
        command = self._command(event, directory, workflow, {**steps_own, **attempt})
        with (
            (directory / "errors").open("w+") as errors,
            subprocess.Popen(
                command, cwd=self.repository, env={**environment, "HOME": str(home)}, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
            ) as process,
        ):  # fmt: skip
            try:
                lines, cancelled = _follow(process, watch)
            finally:
                _kill([process.pid, *_descendants(process.pid)])
            errors.seek(0)
            run = self._result(lines, cancelled, errors.read())
        return replace(run, steps=[step for step in run.steps if step.partition(":")[0] not in kept])

    def _without(self, kept: Collection[str], directory: Path) -> Path:
        """Return the workflow with jobs that do nothing, and succeed, in the place of those that are kept."""
        workflow = read(self.workflow)
        for job in kept:
            needs = {name: value for name, value in workflow["jobs"][job].items() if name in {"runs-on", "needs"}}
            workflow["jobs"][job] = {**needs, "steps": [{"run": "true"}]}
        path = directory / self.workflow.name
        path.write_text(json.dumps(workflow))
        return path

    def _command(self, event: Event, directory: Path, workflow: Path, environment: Mapping[str, str]) -> list[str]:
        named = {"env": environment, "var": _as_values(self.variables), "secret": _as_values(self.secrets)}
        named["local-repository"] = {uses: str(_stand_in(uses)) for uses in self._actions()}
        return [
            *("setpriv", "--pdeathsig", "TERM", "--", str(self.program)),  # should the tests be killed
            "workflow_dispatch" if event.inputs else "push",
            *("--strict", "--json", "--no-skip-checkout", "--no-cache-server", "--insecure-secrets"),
            *("--platform", "ubuntu-24.04=-self-hosted", "--concurrent-jobs", "1"),
            *("--workflows", str(workflow), "--eventpath", str(directory / "event.json")),
            *("--action-cache-path", str(directory / "jobs")),
            *(f"--{flag}={name}={value}" for flag, values in named.items() for name, value in values.items()),
        ]

    def _actions(self) -> set[str]:
        """Return the actions of others that are used, by the workflow or by an action of this repository."""
        steps = [step for job in read(self.workflow)["jobs"].values() for step in job["steps"]]
        for action in {str(step["uses"]) for step in steps if str(step.get("uses", "")).startswith("./")}:
            steps += read(ROOT / action / "action.yml")["runs"]["steps"]
        return {str(step["uses"]) for step in steps if "uses" in step and not str(step["uses"]).startswith("./")}

    def _result(self, lines: list[dict[str, Any]], cancelled: str, errors: str) -> Run:
        # What act passes over, it says nothing of.
        results = dict.fromkeys(read(self.workflow)["jobs"], "skipped")
        results |= {line["jobID"]: line["jobResult"] for line in lines if "jobResult" in line}
        job = cancelled.partition(":")[0]
        if results.get(job) == "failure":  # act's word for a step that was killed
            results[job] = "cancelled"
        messages = [line["msg"] for line in lines if line.get("raw_output") or line["level"] == "error"]
        summary = "".join(line["content"] for line in lines if line.get("command") == "summary")
        return Run(results, _steps(lines), "\n".join([*(each.rstrip("\n") for each in messages), errors]), summary)


def jobs_that_stay(workflow: Mapping[str, Any], results: Mapping[str, str]) -> set[str]:
    """Return the jobs that "Re-run failed jobs" leaves as they are, by what each came to before.

    Run again is what failed or was cancelled, and whatever needs a job that is run again
    (https://docs.github.com/actions/managing-workflow-runs/re-running-workflows-and-jobs).
    """
    stays: set[str] = set()
    for name, job in workflow["jobs"].items():  # which stand in the order that they need each other in
        needs = job.get("needs", [])
        if results.get(name) == "success" and stays.issuperset([needs] if isinstance(needs, str) else needs):
            stays.add(name)
    return stays


_SETTINGS_OF_ACT = ("HOME", "XDG_CONFIG_HOME")


def _as_values(names: Collection[str]) -> dict[str, str]:
    return {name: name for name in names}


def _stand_in(uses: str) -> Path:
    directory = STAND_INS / uses.partition("@")[0]
    assert (directory / "action.yml").is_file(), f"nothing stands in for {uses}"
    return directory


def _steps(lines: list[dict[str, Any]]) -> list[str]:
    """Return the steps that were begun, those of this repository's own actions (by their names) among them."""
    begun = [line for line in lines if not line.get("raw_output") and "Run Main " in line["msg"]]
    named = [(line["jobID"], len(line["stepID"]), line["msg"].partition("Run Main ")[2]) for line in begun]
    return [f"{job}: {name}" for job, depth, name in named if depth == 1 or name in _own_steps()]


@cache
def _own_steps() -> frozenset[str]:
    actions = (ROOT / ".github" / "actions").glob("*/action.yml")
    return frozenset(str(step.get("name", "")) for action in actions for step in read(action)["runs"]["steps"])


def _follow(process: subprocess.Popen[str], watch: Watch | None) -> tuple[list[dict[str, Any]], str]:
    """Return what act says, as it says it, and the step that was cancelled."""
    lines: list[dict[str, Any]] = []
    cancelled = ""

    def read_lines() -> None:
        assert process.stdout
        for line in process.stdout:
            lines.append(json.loads(line))

    reader = Thread(target=read_lines)
    reader.start()
    while watch and reader.is_alive() and not cancelled:
        steps = _steps(lines)
        if steps and watch(steps[-1]):
            cancelled = steps[-1]
            _cancel(process.pid)
        reader.join(0.1)
    reader.join()
    return lines, cancelled


def _cancel(act: int) -> None:
    """End the step that runs as GitHub does: a SIGINT for its shell alone, soon after an end to all that it started.

    The shell waits for its child, which knows of nothing: nothing of it cleans up behind itself.
    """
    started = _descendants(act)
    for shell in _children(act):
        os.kill(shell, signal.SIGINT)
    deadline = time.monotonic() + _GRACE_SECONDS
    while _children(act) and time.monotonic() < deadline:
        time.sleep(0.05)
    _kill({*started, *_descendants(act)})


def _kill(processes: Collection[int]) -> None:
    """Kill processes, whatever sessions they are in by now, so that none sees another end.

    All of them stop first: Packer, were its provisioner killed some milliseconds before it, ends its builder itself.
    """
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in processes:
            with suppress(ProcessLookupError):
                os.kill(each, number)


def _descendants(process: int) -> list[int]:
    return [each for child in _children(process) for each in (child, *_descendants(child))]


def _children(process: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], check=False, capture_output=True, text=True)
    return [int(each) for each in listed.stdout.split()]
