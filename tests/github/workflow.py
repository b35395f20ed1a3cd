"""Runs a workflow's jobs in order on this machine, as GitHub would as far as this project's workflows go.

Jobs run one after the other in the order of their needs. Steps with `run` are run by bash; of actions, those in ACTIONS
are stood in for, and any other is an error, as is every key of a job or step that is not known here.
"""

from __future__ import annotations

import fnmatch
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.github.expressions import Evaluator, to_text

_JOB = {"name", "runs-on", "timeout-minutes", "environment", "permissions", "steps", "needs", "if"}
_STEP = {"name", "uses", "with", "run", "if", "env"}


class WorkflowUnknown(ValueError):
    """Something in a workflow that is not known here."""


class ActionFailed(Exception):
    """What stands in for an action ends the step as a failure, with these words."""


@dataclass(frozen=True)
class Event:
    """What a workflow runs for. `ref` is the full name (refs/tags/…); `inputs` are those of a start by hand."""

    ref: str
    run_id: str
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref_name(self) -> str:
        """The branch's or tag's short name."""
        return self.ref.split("/", 2)[2]


@dataclass(frozen=True)
class Job:
    """A job that is about to run, for what stands in for actions."""

    name: str
    environment: str
    permissions: Mapping[str, str]
    clone: Path


@dataclass
class Run:
    """One run of a workflow: each job's result, the steps that ran, what they printed, and the summary page."""

    results: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    output: str = ""
    summary: str = ""


Action = Callable[[Job, Mapping[str, str]], Mapping[str, str]]
# Follows a step while it runs; says when the run is to be cancelled.
Watch = Callable[[str], bool]


def read(path: Path) -> dict[str, Any]:
    """Return a parsed workflow."""
    parsed: dict[Any, Any] = yaml.safe_load(path.read_text())
    parsed["on"] = parsed.pop(True, None) or parsed.get("on")  # YAML takes the word for a truth value
    return parsed


def triggered_by_tag(workflow: Mapping[str, Any], ref: str) -> bool:
    """Return whether a push of `ref` starts the workflow, by its patterns for tags."""
    patterns = workflow["on"].get("push", {}).get("tags", [])
    return ref.startswith("refs/tags/") and any(fnmatch.fnmatchcase(ref[len("refs/tags/") :], one) for one in patterns)


@dataclass(frozen=True)
class Runner:
    """Where and as whom a workflow runs.

    `clone` makes the work tree of a job; `environment` is every step's; `variables` and `secrets` are by the
    environment's name, and under the empty name the repository's. `actions` maps an action's name to what stands in for
    it: it returns environment variables for the steps after it, or raises ActionFailed.
    """

    workflow: Mapping[str, Any]
    clone: Callable[[Event], Path]
    environment: Mapping[str, str]
    variables: Mapping[str, Mapping[str, str]]
    secrets: Mapping[str, Mapping[str, str]]
    actions: Mapping[str, Action]

    def run(self, event: Event, watch: Watch = lambda _step: False) -> Run:
        """Run every job whose turn comes."""
        run = Run()
        for name in _in_order(self.workflow["jobs"]):
            job = self.workflow["jobs"][name]
            if unknown := job.keys() - _JOB:
                raise WorkflowUnknown(f"{name}: {sorted(unknown)}")
            needed = [run.results[other] for other in _needs(job)]
            status = {
                "success": all(result == "success" for result in needed),
                "failure": "failure" in needed,
                "cancelled": "cancelled" in run.results.values(),
            }
            evaluator = self._evaluator(event, status, str(job.get("environment", "")))
            reached = evaluator.condition(str(job.get("if", "")))
            run.results[name] = self._job(run, name, job, event, watch) if reached else "skipped"
        return run

    def _evaluator(self, event: Event, status: Mapping[str, bool], environment: str) -> Evaluator:
        github = {"ref": event.ref, "ref_name": event.ref_name, "run_id": event.run_id, "run_attempt": "1"}
        variables, secrets = (
            {**given.get("", {}), **given.get(environment, {})} for given in (self.variables, self.secrets)
        )
        context = {"github": github, "inputs": event.inputs, "vars": variables, "secrets": secrets}
        return Evaluator(context, status)

    def _job(self, run: Run, name: str, job: Mapping[str, Any], event: Event, watch: Watch) -> str:
        environment = str(job.get("environment", ""))
        about = Job(name, environment, job.get("permissions") or {}, self.clone(event))
        summary = about.clone.parent / f"{name}-summary"
        variables = {**self.environment, "GITHUB_REF": event.ref, "GITHUB_STEP_SUMMARY": str(summary)}
        outcome = "success"
        for step in job["steps"]:
            status = {each: outcome == each for each in ("success", "failure", "cancelled")}
            evaluator = self._evaluator(event, status, environment)
            if unknown := step.keys() - _STEP:
                raise WorkflowUnknown(f"{name}: {sorted(unknown)}")
            if not evaluator.condition(str(step.get("if", ""))):
                continue
            title = str(step.get("name") or step.get("uses"))
            run.steps.append(f"{name}: {title}")
            if "uses" in step:
                given = {key: evaluator.text(to_text(value)) for key, value in step.get("with", {}).items()}
                try:
                    variables.update(self._action(run, str(step["uses"]), about, given))
                except ActionFailed as error:
                    run.output += f"{error}\n"
                    outcome = "failure"
                continue
            asked = {**self.workflow.get("env", {}), **step.get("env", {})}
            env = {**variables, **{key: evaluator.text(to_text(value)) for key, value in asked.items()}}
            ended = _bash(evaluator.text(step["run"]), about.clone, env, title, watch)
            run.output += ended.stdout
            if ended.returncode != 0:
                outcome = "cancelled" if ended.returncode == _CANCELLED else "failure"
        if summary.exists():
            run.summary += summary.read_text()
        return outcome

    def _action(self, run: Run, uses: str, job: Job, given: Mapping[str, str]) -> Mapping[str, str]:
        if uses.startswith("./"):
            return self._own_action(run, read(job.clone / uses / "action.yml"), job, given)
        name = uses.partition("@")[0]
        if name not in self.actions:
            raise WorkflowUnknown(f"the action {name}")
        return self.actions[name](job, given)

    def _own_action(self, run: Run, action: Mapping[str, Any], job: Job, given: Mapping[str, str]) -> Mapping[str, str]:
        inputs = {name: about.get("default", "") for name, about in action["inputs"].items()} | dict(given)
        evaluator = Evaluator({"inputs": inputs}, {"success": True, "failure": False, "cancelled": False})
        variables: dict[str, str] = {}
        for step in action["runs"]["steps"]:
            if evaluator.condition(str(step.get("if", ""))):
                run.steps.append(f"{job.name}: {step['name']}")
                handed = {key: evaluator.text(to_text(value)) for key, value in step.get("with", {}).items()}
                variables.update(self._action(run, str(step["uses"]), job, handed))
        return variables


_CANCELLED = -1000


def _bash(
    script: str, directory: Path, env: Mapping[str, str], title: str, watch: Watch
) -> subprocess.CompletedProcess[str]:
    """Run a step as GitHub does (bash -eo pipefail); on cancelling it gets SIGINT and, seconds later, SIGKILL."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    log = directory.parent / "step.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=directory, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True,
            start_new_session=True,
        )  # fmt: skip
        cancelled = False
        while process.poll() is None:
            if watch(title):
                cancelled = True
                # The runner was lost: nothing of it cleans up behind itself.
                _kill_session(process.pid)
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
    return subprocess.CompletedProcess(command, _CANCELLED if cancelled else process.returncode, log.read_text())


def _kill_session(leader: int) -> None:
    """Kill every process that a step has started, whatever sessions they are in by now."""
    for pid in reversed([leader, *_descendants(leader)]):
        subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)


def _descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], check=False, capture_output=True, text=True)
    children = [int(each) for each in listed.stdout.split()]
    return [each for child in children for each in (child, *_descendants(child))]


def _needs(job: Mapping[str, Any]) -> list[str]:
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else list(needs)


def _in_order(jobs: Mapping[str, Any]) -> list[str]:
    ordered: list[str] = []
    while len(ordered) < len(jobs):
        ready = [name for name in jobs if name not in ordered and set(_needs(jobs[name])) <= set(ordered)]
        if not ready:
            raise WorkflowUnknown("needs that go round in a circle")
        ordered += ready
    return ordered
