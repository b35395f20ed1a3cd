"""The workflow of a release, run on this machine by act: its expressions, its jobs and steps in order."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.github.act import Act, Event
from tests.support.github.repository import BUILD_FAILED, NAMES, TAG, WORKFLOW, GitHub, repository_on_github
from tests.support.github.workflow import read
from tests.support.machines.lab import wait_for
from zmanim_ami.rehearsal.versions import MIRROR_BUCKET
from zmanim_ami.toolchain import program
from zmanim_ami.toolchain.environment import user_cache


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    with repository_on_github(tmp_path_factory.mktemp("github")) as made:
        yield made


def test_a_tag_whose_commit_is_not_on_main_is_refused_before_anything_is_built(github: GitHub) -> None:
    github.git("checkout", "--quiet", "-b", "feature")
    github.git("commit", "--quiet", "--allow-empty", "-m", "not merged")
    github.git("tag", "v0.3.0-ami")
    github.git("checkout", "--quiet", "main")
    run = github.run("refs/tags/v0.3.0-ami", "1")
    assert run.results == BUILD_FAILED
    assert "is not on main" in run.output
    assert "build: Build the image" not in run.steps
    assert github.published() == {}


def test_a_build_that_fails_is_swept_and_publishes_nothing(github: GitHub) -> None:
    s3 = github.lab.client("s3")
    names = [each["Key"] for each in s3.list_objects_v2(Bucket=MIRROR_BUCKET)["Contents"] if "restic" in each["Key"]]
    stored = {name: s3.get_object(Bucket=MIRROR_BUCKET, Key=name)["Body"].read() for name in names}
    assert stored
    for name in stored:
        s3.delete_object(Bucket=MIRROR_BUCKET, Key=name)
    run = github.run(TAG, "2")
    for name, content in stored.items():
        s3.put_object(Bucket=MIRROR_BUCKET, Key=name, Body=content)
    assert run.results == {"build": "failure", "verify": "skipped", "publish": "skipped", "sweep": "success"}, (
        run.output
    )
    assert "install-restic" in run.output
    assert github.leftovers("2") == []
    assert github.published() == {}


def test_a_build_that_is_cancelled_in_the_middle_leaves_nothing_after_the_sweep(github: GitHub) -> None:
    # To act a step that was killed has failed: nothing may ask which of the two it was.
    jobs = read(WORKFLOW)["jobs"]
    conditions = [
        each.get("if", "") for each in (*jobs.values(), *(each for job in jobs.values() for each in job["steps"]))
    ]
    assert not [each for each in conditions if "failure()" in each or "cancelled()" in each]
    run = github.run(TAG, "3", watch=lambda step: step == "build: Build the image" and github.runs_a_machine("3"))
    assert run.results == {**BUILD_FAILED, "build": "cancelled"}
    assert re.search(r"taking instance i-[0-9a-f]+ away", run.output), "the build cleaned up: nothing was cut off"
    wait_for(lambda: github.leftovers("3") == [], what="the sweep")
    assert github.published() == {}


def test_a_failed_verification_runs_again_on_the_image_that_was_built(github: GitHub) -> None:
    failed = github.run(TAG, "4", ZMANIM_BOOT_TIMEOUT="1")
    verify_failed = {"build": "success", "verify": "failure", "publish": "skipped", "sweep": "success"}
    assert failed.results == verify_failed, failed.output
    (image,) = github.leftovers("4")  # the image that the verification is run again for, and nothing else
    assert re.search(rf"keeping {image} for a verification that is run again", failed.output)
    assert github.published() == {}
    # The run's summary has what is known all the same.
    assert "## v0.2.0: not verified" in failed.summary
    assert f"| AMI | `{image}` |" in failed.summary
    assert "[The evidence page](https://github.example/artifacts/1)" in failed.summary
    assert re.search(
        r"^- i-[0-9a-f]+ is not ready after 1 s: expected a line zmanim-ready", failed.summary, re.MULTILINE
    )

    name = "verify: Verify the image on a fresh instance"
    cancelled = github.run_failed_jobs_again(
        failed, TAG, "4", 2, watch=lambda step: step == name and github.runs_a_machine("4")
    )
    assert cancelled.results == {**verify_failed, "verify": "cancelled"}, cancelled.output
    assert "found it was cut off" in cancelled.summary
    assert f"| AMI | `{image}` |" in cancelled.summary
    wait_for(lambda: github.leftovers("4") == [image], what="the sweep")
    assert github.published() == {}

    again = github.run_failed_jobs_again(cancelled, TAG, "4", 3)
    assert set(again.results.values()) == {"success"}, again.output
    assert not [step for step in (*cancelled.steps, *again.steps) if step.startswith("build:")]
    (shown,) = github.lab.ec2.describe_images(Owners=["self"])["Images"]
    assert github.published() == {NAMES[0]: image, NAMES[1]: "v0.2.0"}
    assert shown["ImageId"] == image
    assert github.leftovers("4") == []
    assert f"| AMI | `{image}` |" in again.summary
    assert re.search(r"^\| healthy after \| \d+\.\d s \|$", again.summary, re.MULTILINE)
    assert "Nothing is published yet." in again.summary


@pytest.mark.incident("a published image was replaced by another one under its name")
def test_a_tag_that_was_published_and_then_moved_is_refused(github: GitHub) -> None:
    before = github.published()
    assert before, "the test before this one publishes"
    path = github.repository / "infrastructure/packer/files/config.env.template"
    path.write_text(path.read_text() + "# changed\n")
    github.git("commit", "--quiet", "--all", "-m", "another tree")
    github.git("tag", "--force", "v0.2.0-ami")
    run = github.run(TAG, "6")
    assert run.results == BUILD_FAILED
    assert "already" in run.output
    assert github.published() == before
    assert len(github.lab.ec2.describe_images(Owners=["self"])["Images"]) == 1


def test_a_version_has_one_concurrency_group_whether_by_tag_or_by_hand(tmp_path: Path) -> None:
    build = read(WORKFLOW)
    script = 'echo "${GROUP} ${VERSION%-ami} ${ZMANIM_RUN}"'
    step = {"run": script, "env": {**build["env"], "GROUP": build["concurrency"]["group"]}}
    jobs = {"say": {"runs-on": "ubuntu-24.04", "steps": [step]}}
    (tmp_path / "group.yml").write_text(json.dumps({"on": build["on"], "jobs": jobs}))
    runner = Act(program(user_cache(), "act"), tmp_path / "group.yml", tmp_path, os.environ)
    by_hand = (
        Event("refs/heads/main", "7", {"version": "v1.0.0"}),
        Event("refs/tags/v1.0.0-ami", "7", {"version": ""}),
    )
    for number, event in enumerate((Event("refs/tags/v1.0.0-ami", "7"), *by_hand)):
        run = runner.run(event, tmp_path / str(number))
        assert "build-ami-v1.0.0-ami v1.0.0 7" in run.output.splitlines()
    # Of two tags that are pushed at once neither waits for the other, nor ends it.
    run = runner.run(Event("refs/tags/v1.0.1-ami", "8"), tmp_path / "other")
    assert "build-ami-v1.0.1-ami v1.0.1 8" in run.output.splitlines()


def test_of_a_run_whose_failed_jobs_are_run_again_nothing_that_succeeded_runs(tmp_path: Path) -> None:
    def job(script: str, *needs: str, **more: str) -> dict[str, object]:
        steps = [{"name": "do", "run": script}]
        return {"runs-on": "ubuntu-24.04", "needs": list(needs), "steps": steps, **more}

    jobs = {
        "build": job("true"),
        "verify": job('test "$GITHUB_RUN_ATTEMPT" != 1', "build"),
        "publish": job("true", "verify"),
        "sweep": job("echo ${{ needs.build.result }}", "build", "verify", **{"if": "always()"}),
    }
    (tmp_path / "again.yml").write_text(json.dumps({"on": {"push": {}}, "jobs": jobs}))
    runner = Act(program(user_cache(), "act"), tmp_path / "again.yml", tmp_path, os.environ)
    first = runner.run(Event(TAG, "7"), tmp_path / "1")
    assert first.results == {"build": "success", "verify": "failure", "publish": "skipped", "sweep": "success"}
    again = runner.run(Event(TAG, "7", attempt=2, before=first.results), tmp_path / "2")
    assert set(again.results.values()) == {"success"}
    # Both wait for verify, and neither for the other.
    assert again.steps[0] == "verify: do"
    assert sorted(again.steps[1:]) == ["publish: do", "sweep: do"]
    assert "success" in again.output.split()  # what build came to is still known
