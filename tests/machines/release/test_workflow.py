"""The workflow of a release, run on this machine by act: its expressions, its jobs and steps in order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from localcloud import control
from localcloud.settings import Cloud
from tests.support import ROOT
from tests.support.github.act import REFUSED, Act, Event, Run, Watch
from tests.support.github.credentials import role_arn
from tests.support.github.workflow import read
from tests.support.machines.lab import Lab, wait_for
from zmanim_ami.pipeline.account import workflow_roles
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import owner
from zmanim_ami.rehearsal.versions import MIRROR_BUCKET
from zmanim_ami.toolchain import program
from zmanim_ami.toolchain.environment import user_cache

WORKFLOW = ROOT / ".github" / "workflows" / "build-ami.yml"
TAG = "refs/tags/v0.2.0-ami"
NAMES = ["/zmanim/prod/ami-id", "/zmanim/prod/ami-version"]
BUILD_FAILED = {"build": "failure", "verify": "skipped", "publish": "skipped", "sweep": "success"}
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "advice.detachedHead=false"]


class GitHub:
    """A repository with this work tree on main, and runners that are pointed at a cloud."""

    def __init__(self, cloud: Cloud, versions_file: Path, directory: Path) -> None:
        self.lab = Lab(cloud, Path(), directory)
        self.repository = directory / "repository"
        self._directory, self._runs = directory, 0
        pointed = clouds.environment(cloud, versions_file, os.environ)
        environment = {key: value for key, value in pointed.items() if not key.startswith("AWS_ACCESS")}
        environment.pop("AWS_SECRET_ACCESS_KEY", None)
        # A runner knows nothing of this work tree's environment, whose Python is not the one that a clone's is made by.
        own = (ROOT / ".venv/bin").resolve()
        search = os.environ.get("PATH", os.defpath).split(os.pathsep)
        environment["PATH"] = os.pathsep.join(each for each in search if Path(each).resolve() != own)
        self._environment = {
            **environment,
            "STAND_IN_ROOT": str(ROOT),
            "STAND_IN_PYTHON": sys.executable,
            "STAND_IN_REPOSITORY": str(self.repository),
            "STAND_IN_CLOUD": cloud.name,
        }
        self._act = program(user_cache(), "act")
        _publish_work_tree(self.repository)

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        return subprocess.run(
            [*GIT, *arguments], cwd=self.repository, check=True, capture_output=True, text=True
        ).stdout.strip()

    def run(
        self, ref: str, run_id: str, *, watch: Watch | None = None, workflow: Path = WORKFLOW, **settings: str
    ) -> Run:
        """Run build-ami.yml for a ref; `settings` are environment variables of the runner."""
        return self._run(Event(ref, run_id), self._roles(), settings, watch, workflow)

    def run_failed_jobs_again(
        self, before: Run, ref: str, run_id: str, attempt: int, *, watch: Watch | None = None
    ) -> Run:
        """Run what failed in an earlier attempt of a run, and whatever needs it, as that button of GitHub's does."""
        return self._run(Event(ref, run_id, attempt=attempt, before=before.results), self._roles(), {}, watch)

    def _roles(self) -> Mapping[str, Mapping[str, str]]:
        return {workflow_roles.environment(step): {"AWS_ROLE_ARN": role_arn(step)} for step in workflow_roles.STEPS}

    def run_by_access_key(self, ref: str, run_id: str, keys: Mapping[str, Mapping[str, str]]) -> Run:
        """Run build-ami.yml where no environment has a role, with the secrets `keys` by the environment's name."""
        return self._run(Event(ref, run_id), keys, {})

    def user(self, step: str) -> Mapping[str, str]:
        """Make a user of IAM who may do what the role of a step may; return the secrets of the step's environment."""
        iam, name = self.lab.client("iam"), f"{workflow_roles.name(step)}-user"
        policy = iam.get_role_policy(RoleName=workflow_roles.name(step), PolicyName=step)["PolicyDocument"]
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName=step, PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}

    def _run(
        self,
        event: Event,
        of_environments: Mapping[str, Mapping[str, str]],
        settings: Mapping[str, str],
        watch: Watch | None = None,
        workflow: Path = WORKFLOW,
    ) -> Run:
        self._runs += 1
        directory = self._directory / f"run{self._runs}"
        directory.mkdir()
        (directory / "settings.json").write_text(json.dumps(of_environments))
        names = {name for values in of_environments.values() for name in values}
        environment = {
            **self._environment,
            **settings,
            "STAND_IN_WORKFLOW": str(workflow),
            "STAND_IN_SETTINGS": str(directory / "settings.json"),
        }
        variables = names & {"AWS_ROLE_ARN"}
        runner = Act(self._act, workflow, self.repository, environment, variables, secrets=names - variables)
        run = runner.run(event, directory, watch)
        assert REFUSED not in run.output, run.output
        assert "making .venv" not in run.output, "what checkout put there is not taken: half a minute for each job"
        return run

    def published(self) -> dict[str, str]:
        """Return the parameters of a release that are there."""
        result = self.lab.ssm.get_parameters(Names=NAMES)["Parameters"]
        return {parameter["Name"]: parameter["Value"] for parameter in result}

    def runs_a_machine(self, run_id: str) -> bool:
        """Tell whether an instance of a run is running."""
        tagged = [
            {"Name": "tag:zmanim:run", "Values": [run_id]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
        return bool(self.lab.ec2.describe_instances(Filters=tagged)["Reservations"])

    def leftovers(self, run_id: str) -> list[str]:
        """Return what carries a run's tag and is neither gone nor a verified image."""
        tagged = [{"Name": "tag:zmanim:run", "Values": [run_id]}]
        ec2 = self.lab.ec2
        instances = [
            each["InstanceId"]
            for item in ec2.describe_instances(Filters=tagged)["Reservations"]
            for each in item["Instances"]
            if each["State"]["Name"] != "terminated"
        ]
        images = [
            image["ImageId"]
            for image in ec2.describe_images(Owners=["self"], Filters=tagged)["Images"]
            if "zmanim:verified" not in {tag["Key"] for tag in image["Tags"]}
        ]
        others = [
            *(each["VolumeId"] for each in ec2.describe_volumes(Filters=tagged)["Volumes"]),
            *(each["GroupId"] for each in ec2.describe_security_groups(Filters=tagged)["SecurityGroups"]),
            *(each["KeyName"] for each in ec2.describe_key_pairs(Filters=tagged)["KeyPairs"]),
        ]
        return instances + images + others


def _publish_work_tree(repository: Path) -> None:
    repository.mkdir()
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        source = ROOT / name
        if source.is_file() or source.is_symlink():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, repository / name, follow_symlinks=False)
    for command in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"], ["commit", "--quiet", "-m", "all"]):
        subprocess.run([*GIT, *command], cwd=repository, check=True)


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    prepared = clouds.prepare(ROOT, user_cache())
    name = owner.this_process().name("workflow")
    try:
        cloud = clouds.start(name, prepared, clouds.STATE, ROOT / "infrastructure" / "iam")
        made = GitHub(cloud, prepared.versions_file, tmp_path_factory.mktemp("github"))
        made.git("tag", "v0.2.0-ami")
        yield made
    finally:
        control.down(name, clouds.STATE)


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


def test_without_a_role_each_job_works_with_the_access_key_of_its_own_environment(github: GitHub) -> None:
    before = github.published()
    assert before, "the test before this one publishes"
    keys = {workflow_roles.environment(step): github.user(step) for step in workflow_roles.RELEASE}
    log = github.lab.cloud.directory / "authorization.jsonl"
    start = len(log.read_text().splitlines())
    run = github.run_by_access_key(TAG, "8", keys)
    assert set(run.results.values()) == {"success"}, run.output
    by_key = "Credentials by access key (fallback)"
    assert [step for step in run.steps if "Credentials by" in step] == [f"{job}: {by_key}" for job in run.results]
    assert f"The same (v0.2.0 `{before[NAMES[0]]}`)." in run.summary
    assert github.published() == before
    decided = [json.loads(line) for line in log.read_text().splitlines()[start:]]
    users = {name for raw in decided for name in raw["context"].get("aws:username", ())}
    assert users == {f"{workflow_roles.name(step)}-user" for step in workflow_roles.RELEASE}
    for secret in (keys[environment]["AWS_SECRET_ACCESS_KEY"] for environment in keys):
        assert secret not in run.output + run.summary


def test_without_a_role_and_without_a_key_nothing_is_built(github: GitHub) -> None:
    run = github.run_by_access_key(TAG, "9", {})
    assert run.results == {**BUILD_FAILED, "sweep": "failure"}
    assert "Credentials could not be loaded" in run.output
    assert "build: Build the image" not in run.steps


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


def test_the_next_releases_summary_names_the_packages_that_differ_from_the_published_image(github: GitHub) -> None:
    before = github.published()
    assert before, "an earlier test publishes"
    path = github.repository / "infrastructure/packer/scripts/install-packages.sh"
    text = path.read_text()
    path.write_text(text.replace("\n  plan_compiled\n", "\n  names+=(bzip2)\n  plan_compiled\n"))
    assert path.read_text() != text
    github.git("commit", "--quiet", "--all", "-m", "one package more")
    github.git("tag", "v0.2.1-ami")
    run = github.run("refs/tags/v0.2.1-ami", "7")
    assert set(run.results.values()) == {"success"}, run.output
    assert f"1 differ (v0.2.0 `{before[NAMES[0]]}`):" in run.summary
    assert re.search(r"^\| bzip2 \| not in it \| \d\S+ \|$", run.summary, re.MULTILINE)
    assert github.published() != before


@pytest.mark.parametrize(
    ("promise", "broken", "refusal"),
    [
        ("id-token: write", "actions: read", "the job sweep takes a role without id-token: write"),
        ("persist-credentials: false", "persist-credentials: true", "checkout leaves credentials behind"),
        ("if-no-files-found: ignore", "if-no-files-found: error", "fails for want of an artifact"),
        (
            "path: build/packer/*/*.*",
            "path: tests/unit/localcloud/test_environment.*",
            "credentials in tests/unit/localcloud/test_environment.py",
        ),
    ],
)
def test_a_workflow_that_breaks_a_promise_to_an_action_is_noticed(
    github: GitHub, tmp_path: Path, promise: str, broken: str, refusal: str
) -> None:
    text = WORKFLOW.read_text()
    assert promise in text
    (tmp_path / "build-ami.yml").write_text(text.replace(promise, broken))
    with pytest.raises(AssertionError, match=re.escape(refusal)):
        github.run("refs/tags/v0.3.0-ami", "10", workflow=tmp_path / "build-ami.yml")


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
    assert again.steps == ["verify: do", "publish: do", "sweep: do"]
    assert "success" in again.output.split()  # what build came to is still known
