"""A repository on GitHub whose release workflow runs on this machine, by act, against a cloud of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from localcloud import control
from localcloud.settings import Cloud
from tests.support import ROOT
from tests.support.github.act import REFUSED, Act, Event, Run, Watch
from tests.support.github.credentials import role_arn
from tests.support.machines.lab import Lab
from zmanim_ami.pipeline.account import workflow_roles
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import owner
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


@contextmanager
def repository_on_github(directory: Path) -> Iterator[GitHub]:
    """Give a repository with a release's tag, and a cloud without an image."""
    prepared = clouds.prepare(ROOT, user_cache())
    name = owner.this_process().name("workflow")
    try:
        cloud = clouds.start(name, prepared, clouds.STATE, ROOT / "infrastructure" / "iam")
        made = GitHub(cloud, prepared.versions_file, directory)
        made.git("tag", TAG.rpartition("/")[2])
        yield made
    finally:
        control.down(name, clouds.STATE)
