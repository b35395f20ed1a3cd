"""What the workflows promise, read from the files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from invoke.parser import Parser
from invoke.program import Program

import tasks
from tests.support import ROOT
from tests.support.errors import raises
from tests.support.github.act import jobs_that_stay
from tests.support.github.workflow import read, triggered_by_tag
from zmanim_ami.pipeline import settings
from zmanim_ami.pipeline.account import workflow_roles
from zmanim_ami.pipeline.version import from_tag

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BUILD = read(ROOT / ".github" / "workflows" / "build-ami.yml")
VERIFY = read(ROOT / ".github" / "workflows" / "verify.yml")
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
CREDENTIALS = read(ROOT / ".github" / "actions" / "aws-credentials" / "action.yml")
# What prepares a runner, or keeps what was made; everything else is a task of ours.
# A role's longest session, unless it was made with a longer one.
SESSION_SECONDS = 3600
# What GitHub leaves a job after its limit, for the steps that run always.
CANCELLING_SECONDS = 300
SET_UP = {"actions/checkout", "actions/upload-artifact", "./.github/actions/aws-credentials"}


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize(
    ("ref", "starts", "version"),
    [
        ("refs/tags/v1.0.0-ami", True, "v1.0.0"),
        ("refs/tags/v1.0.0-rc.1-ami", True, "v1.0.0-rc.1"),
        ("refs/tags/v1.0-ami", True, ""),
        ("refs/tags/1.0.0-ami", False, ""),
        ("refs/tags/v1.0.0", False, ""),
        ("refs/tags/v1.0.0-ami-2", False, ""),
        ("refs/heads/v1.0.0-ami", False, ""),
    ],
)
def test_the_workflow_starts_for_a_releases_tag_and_the_tag_has_to_be_a_version(
    ref: str, starts: bool, version: str
) -> None:
    assert triggered_by_tag(BUILD, ref) is starts
    if starts and not version:
        with raises("version-invalid"):
            from_tag(ref.removeprefix("refs/tags/"))
    elif starts:
        assert str(from_tag(ref.removeprefix("refs/tags/"))) == version


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: str(path.relative_to(ROOT / ".github")))
def test_actions_are_pinned_by_their_commit(path: Path) -> None:
    used = re.findall(r"uses: *(\S+)(.*)", path.read_text())
    assert used
    for action, comment in used:
        if action.startswith("./"):
            assert (ROOT / action / "action.yml") in ACTIONS
            continue
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r"  # v\d+\.\d+\.\d+", comment), f"{action} lacks its version"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_has_a_time_limit_and_no_right_that_it_does_not_name(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 360
        assert job["permissions"].get("contents") in {"read", "write"}


@pytest.mark.incident("the role's session ended in the middle of a build, and nothing could clean up behind it")
def test_every_job_that_takes_a_role_ends_before_its_session_with_what_runs_after_its_limit() -> None:
    with_role = [
        job
        for path in WORKFLOWS
        for job in read(path)["jobs"].values()
        if any(step.get("uses") == "./.github/actions/aws-credentials" for step in job["steps"])
    ]
    assert len(with_role) >= len(BUILD["jobs"])
    for job in with_role:
        assert job["timeout-minutes"] * 60 + CANCELLING_SECONDS <= SESSION_SECONDS


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: str(path.relative_to(ROOT / ".github")))
def test_no_expression_is_put_into_a_script(path: Path) -> None:
    # A branch's or tag's name could hold shell: it reaches scripts by the environment only.
    content = read(path)
    every = content["runs"]["steps"] if "runs" in content else steps(content)
    assert [step["run"] for step in every if "${{" in step.get("run", "")] == []


def test_every_step_of_a_release_is_a_task_but_checkout_credentials_and_artifacts() -> None:
    for step in steps(BUILD):
        if "uses" in step:
            assert step["uses"].partition("@")[0] in SET_UP
        else:
            assert re.fullmatch(r'\./inv [a-z.-]+( [^;&|]*?)?( >>"\$GITHUB_STEP_SUMMARY")?', step["run"])


def test_a_job_takes_the_role_of_its_environment_and_its_access_key_only_without_one() -> None:
    handed = {
        "role": "${{ vars.AWS_ROLE_ARN }}",
        "access-key-id": "${{ secrets.AWS_ACCESS_KEY_ID }}",
        "secret-access-key": "${{ secrets.AWS_SECRET_ACCESS_KEY }}",
    }
    for job in BUILD["jobs"].values():
        (step,) = (step for step in job["steps"] if step.get("uses") == "./.github/actions/aws-credentials")
        assert step["with"] == handed
        assert "if" not in step
        assert job["permissions"]["id-token"] == "write"
    _, by_role, by_key = CREDENTIALS["runs"]["steps"]
    assert by_role["if"] == "inputs.role != ''"
    assert by_key["if"] == "inputs.role == ''"
    region = {"aws-region": "${{ steps.settings.outputs.region }}"}
    session = {"role-duration-seconds": SESSION_SECONDS}
    assert by_role["with"] == {"role-to-assume": "${{ inputs.role }}", **session, **region}
    assert by_key["with"] == {
        "aws-access-key-id": "${{ inputs.access-key-id }}",
        "aws-secret-access-key": "${{ inputs.secret-access-key }}",
        **region,
    }


def test_the_region_is_the_settings_own_unless_the_repository_has_the_variable(tmp_path: Path) -> None:
    for path in WORKFLOWS:
        if "aws-credentials" in path.read_text():
            assert read(path)["env"]["ZMANIM_REGION"] == "${{ vars.AWS_REGION }}"
    first = CREDENTIALS["runs"]["steps"][0]
    assert first["id"] == "settings"
    for chosen, region in (("", settings.load(ROOT, {}, {}).region), ("eu-central-1", "eu-central-1")):
        output = tmp_path / region
        environ = {**os.environ, "ZMANIM_REGION": chosen, "GITHUB_OUTPUT": str(output)}
        subprocess.run(["bash", "-eo", "pipefail", "-c", first["run"]], cwd=ROOT, env=environ, check=True)
        assert output.read_text() == f"region={region}\n"


def test_no_workflow_names_a_region() -> None:
    for path in (*WORKFLOWS, *ACTIONS):
        assert re.findall(settings.REGION, path.read_text()) == [], path


@pytest.mark.parametrize(
    ("job", "page"),
    [(BUILD["jobs"]["verify"], "build/verify/*.html"), (VERIFY["jobs"]["rehearsal"], "build/rehearsal/report.html")],
    ids=["verify", "rehearsal"],
)
def test_the_evidence_page_is_kept_as_it_is_and_linked_in_the_summary_whatever_came_of_the_run(
    job: dict[str, Any], page: str
) -> None:
    (number,) = (n for n, step in enumerate(job["steps"]) if step.get("with", {}).get("path") == page)
    kept, linked = job["steps"][number : number + 2]
    # A second attempt keeps a file of the same name.
    assert {name: kept["with"][name] for name in ("archive", "overwrite")} == {"archive": False, "overwrite": True}
    assert kept["if"] == "always()"
    assert linked["if"].startswith("always()")
    assert linked["env"] == {"PAGE": f"${{{{ steps.{kept['id']}.outputs.artifact-url }}}}"}
    assert "PAGE" in linked["run"]
    assert "$GITHUB_STEP_SUMMARY" in linked["run"]


def test_a_merge_is_rehearsed_natively_on_a_genuine_amazon_linux() -> None:
    jobs = [job for job in VERIFY["jobs"].values() if any(" rehearse " in step.get("run", "") for step in job["steps"])]
    (job,) = jobs
    assert job["runs-on"] == "ubuntu-24.04-arm"
    assert "if" not in job  # on pull requests and on main
    (base, rehearsal) = (step["run"].split() for step in job["steps"] if "./inv" in step.get("run", ""))
    assert base[base.index("./inv") + 1] == "base-image"
    assert rehearsal[rehearsal.index("--base") + 1] == base[base.index("--file") + 1]
    assert "--egress" in rehearsal


def test_a_genuine_disk_image_is_booted_by_kvm_by_the_checksum_beside_it() -> None:
    job = VERIFY["jobs"]["genuine"]
    assert job["runs-on"] == "ubuntu-24.04"  # those for ARM64 have no KVM
    _, fetched, up, tested = (step for step in job["steps"] if "run" in step)
    base = _inv(fetched["run"])[-1]
    # No checksum is known here: the list says it, on the day.
    assert (base[base.index("--sha256") + 1], "SHA256SUMS" in fetched["run"]) == ("${sha256}", True)
    assert not re.search(r"[0-9a-f]{64}", fetched["run"])
    cloud = _inv(up["run"])[0]
    assert cloud[cloud.index("--accel") + 1] == "kvm"
    file = base[base.index("--file") + 1]
    assert cloud[cloud.index("--base") + 1] == tested["env"]["LOCALCLOUD_TEST_DISK_IMAGE"] == file
    assert "tests/kernel/test_genuine.py" in tested["run"].split()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_task_of_a_workflow_exists_with_the_flags_that_it_is_given(path: Path) -> None:
    called = [words for step in steps(read(path)) for words in _inv(step.get("run", ""))]
    for words in called:
        # With Invoke's own flags, such as --dry.
        initial = Program(namespace=tasks.namespace).initial_context
        Parser(initial=initial, contexts=tasks.namespace.to_contexts()).parse_argv(words)
    assert called


def _inv(script: str) -> list[list[str]]:
    """Return the words of each call of ./inv in a script."""
    lines = [shlex.split(line) for line in script.splitlines() if "./inv " in line]
    return [
        list(takewhile(lambda word: word[0] not in "<>|&;", line[line.index("./inv") + 1 :])) for line in lines
    ]  # fmt: skip


def test_each_job_of_a_release_has_the_environment_of_its_role_and_publish_waits_for_verify() -> None:
    jobs = BUILD["jobs"]
    for step in workflow_roles.RELEASE:
        assert jobs[step]["environment"] == workflow_roles.environment(step)
    assert jobs["verify"]["needs"] == "build"
    assert jobs["publish"]["needs"] == "verify"
    assert jobs["sweep"]["if"] == "always()"
    # What publish waits for, an approval, may take a month.
    assert set(jobs["sweep"]["needs"]) == {"build", "verify"}
    assert jobs["sweep"]["environment"] == workflow_roles.environment("build")


@pytest.mark.incident("a failed verification was run again, and the sweep had taken its image")
def test_the_sweep_leaves_the_image_of_a_build_that_ended_well() -> None:
    swept = [step for step in BUILD["jobs"]["sweep"]["steps"] if "./inv sweep" in step.get("run", "")]
    assert [(step["if"], "--keep-image" in step["run"]) for step in swept] == [
        ("needs.build.result == 'success'", True),
        ("needs.build.result != 'success'", False),
    ]


@pytest.mark.parametrize(
    ("ended", "stays"),
    [
        ({"build": "failure", "verify": "skipped", "publish": "skipped", "sweep": "success"}, set()),
        ({"build": "success", "verify": "failure", "publish": "skipped", "sweep": "success"}, {"build"}),
        ({"build": "success", "verify": "cancelled", "publish": "skipped", "sweep": "success"}, {"build"}),
        (
            {"build": "success", "verify": "success", "publish": "failure", "sweep": "success"},
            {"build", "verify", "sweep"},
        ),
    ],
)
def test_what_failed_is_run_again_with_whatever_needs_it(ended: dict[str, str], stays: set[str]) -> None:
    assert jobs_that_stay(BUILD, ended) == stays


def test_a_publication_takes_its_credentials_when_it_starts_and_nothing_else_of_the_run() -> None:
    # An approval comes as late as it comes: artifacts may be gone by then, and an earlier job's session is.
    publish = BUILD["jobs"]["publish"]
    actions = [step["uses"].partition("@")[0] for step in publish["steps"] if "uses" in step]
    assert actions == ["actions/checkout", "./.github/actions/aws-credentials"]
    assert "needs." not in str(publish["steps"])
    assert "concurrency" not in publish  # a job that waits for its approval holds its group, and the next one's up


def test_a_version_is_never_built_twice_at_once_and_a_publication_never_interrupted() -> None:
    # That a tag and a start by hand have one group is evaluated by act: tests/machines/release/test_workflow.py.
    assert BUILD["concurrency"]["cancel-in-progress"] is False
    assert BUILD["concurrency"]["group"]
    assert not any("concurrency" in job for job in BUILD["jobs"].values())


@pytest.mark.incident("a verification failed, and the run's summary was empty")
def test_the_summary_is_written_after_a_failed_verification_too() -> None:
    found, differs = [step for step in BUILD["jobs"]["verify"]["steps"] if "GITHUB_STEP_SUMMARY" in step.get("run", "")]
    assert "show-verification" in found["run"]
    assert found["if"] == "always()"  # when it was cancelled, too
    # An image that was not verified has no report to compare.
    assert "image.diff" in differs["run"]
    assert "if" not in differs


def test_a_merge_does_not_end_the_night_s_campaign() -> None:
    assert "${{ github.event_name }}" in VERIFY["concurrency"]["group"]


def test_dependabot_keeps_github_s_actions_and_the_api_s_modules_and_nothing_else() -> None:
    updates = read(ROOT / ".github" / "dependabot.yml")["updates"]
    assert [(each["package-ecosystem"], each.get("directory", "/")) for each in updates] == [
        ("github-actions", "/"),
        ("gomod", "/api"),
    ]
    for each in updates:
        assert each["schedule"] == {"interval": "weekly"}
        assert each["cooldown"] == {"default-days": 7}
        assert [group["patterns"] for group in each["groups"].values()] == [["*"]]


@pytest.mark.incident("what an earlier job left in a shared cache becomes part of a release")
def test_nothing_is_restored_from_a_cache_while_a_release_is_built() -> None:
    text = (ROOT / ".github" / "workflows" / "build-ami.yml").read_text()
    assert "actions/cache" not in text
    assert not re.search(r"^\s*cache:", text, re.MULTILINE)
