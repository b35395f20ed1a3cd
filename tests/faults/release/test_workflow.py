"""The workflow of a release once more: by access keys, a second release, and promises to actions that are broken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.github.repository import BUILD_FAILED, NAMES, TAG, WORKFLOW, GitHub, repository_on_github
from zmanim_ami.pipeline.account import workflow_roles


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHub]:
    """A repository whose tag has been released."""
    with repository_on_github(tmp_path_factory.mktemp("github")) as made:
        run = made.run(TAG, "1")
        assert set(run.results.values()) == {"success"}, run.output
        yield made


def test_without_a_role_each_job_works_with_the_access_key_of_its_own_environment(github: GitHub) -> None:
    before = github.published()
    assert before
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


def test_the_next_releases_summary_names_the_packages_that_differ_from_the_published_image(github: GitHub) -> None:
    before = github.published()
    assert before
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
