"""The life of three versions in two regions, by the production tasks: one region fails, an instance runs on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from localcloud.settings import ACCOUNT
from tests.support.machines.image import ImageLab, copy_work_tree
from zmanim_ami.pipeline.account import workflow_roles
from zmanim_ami.rehearsal import identity

FIRST, SECOND, THIRD = VERSIONS = ("v9.5.0", "v9.5.1", "v9.5.2")
THERE = identity.COPIES[0]
POINTER = "/zmanim/prod/ami-id"
SETTINGS: Mapping[str, Any] = {"ZMANIM_AMI_REGIONS": THERE}
AT_ONCE: Mapping[str, Any] = {
    **SETTINGS,
    **{f"ZMANIM_RETIRE_{name}": "0" for name in ("DAYS", "STEP_DAYS")},
    "ZMANIM_RETIRE_KEEP": "1",
}
ROLE = workflow_roles.name("publish")


@dataclass
class Life:
    """A cloud with three versions that were published, of which the second one half, at first."""

    lab: ImageLab
    images: Mapping[str, Mapping[str, str]]
    failed: str

    def pointers(self) -> dict[str, str]:
        """Return which image each region launches."""
        return {region: self.pointer(region) for region in (self.lab.cloud.region, THERE)}

    def pointer(self, region: str) -> str:
        return str(client(self.lab, "ssm", region).get_parameter(Name=POINTER)["Parameter"]["Value"])

    def there(self, version: str) -> dict[str, str]:
        """Return the states of a version's images that are there, by region."""
        found = {}
        for region, ami_id in self.images[version].items():
            ec2 = client(self.lab, "ec2", region)
            shown = ec2.describe_images(
                Owners=["self"], IncludeDisabled=True, Filters=[{"Name": "image-id", "Values": [ami_id]}]
            )["Images"]
            for each in shown:
                found[region] = each["State"]
        return found


def client(lab: ImageLab, service: str, region: str) -> Any:
    return lab.session.client(service, region_name=region, endpoint_url=lab.cloud.endpoint)  # type: ignore[call-overload]  # its overloads want a literal


def policy(lab: ImageLab, *more: Mapping[str, object]) -> None:
    """Give the publish role its own statements and `more`."""
    iam = lab.client("iam")
    document = iam.get_role_policy(RoleName=ROLE, PolicyName="publish")["PolicyDocument"]
    own = [each for each in document["Statement"] if each["Sid"] != "Trial"]
    iam.put_role_policy(
        RoleName=ROLE, PolicyName="publish", PolicyDocument=json.dumps({**document, "Statement": [*own, *more]})
    )


@pytest.fixture(scope="module")
def life(images: ImageLab, tmp_path_factory: pytest.TempPathFactory) -> Life:
    clone = tmp_path_factory.mktemp("clone") / "clone"
    copy_work_tree(clone)
    made, failed = {}, ""
    for version in VERSIONS:
        built = json.loads(
            images.task("build-ami", "--version", version, "--json", directory=clone, step="build", **SETTINGS)
        )
        made[version] = {images.cloud.region: built["ami_id"], **built["copies"]}
        images.task("verify-ami", "--version", version, step="verify", **SETTINGS)
        if version == SECOND:
            arn = f"arn:aws:ssm:{THERE}:{ACCOUNT}:parameter{POINTER}"
            policy(images, {"Sid": "Trial", "Effect": "Deny", "Action": "ssm:PutParameter", "Resource": arn})
            half = images.try_task("publish-ssm", "--version", version, step="publish", **SETTINGS)
            assert half.returncode == 1, half.stderr
            failed = half.stderr
            policy(images)
        images.task("publish-ssm", "--version", version, step="publish", **SETTINGS)
    return Life(images, made, failed)


def test_a_region_that_failed_in_the_middle_is_named_and_the_same_command_completes_it(life: Life) -> None:
    assert THERE in life.failed
    assert "not-written" in life.failed
    assert life.pointers() == life.images[THIRD]
    history = json.loads(life.lab.task("image.history", "--json", step="look", **SETTINGS))
    # Of the second one there is one publication: the half one was none.
    assert [each["version"] for each in history] == [THIRD, SECOND, FIRST]


def test_what_was_published_is_what_was_meant(life: Life) -> None:
    checks = json.loads(life.lab.task("image.check", "--json", step="look", **SETTINGS))
    assert [each for each in checks if not each["ok"]] == []


def test_production_goes_back_and_forth_in_both_regions(life: Life) -> None:
    life.lab.task("image.rollback", step="publish", **SETTINGS)
    assert life.pointers() == life.images[SECOND]
    life.lab.task("image.rollback", "--to", FIRST, step="publish", **SETTINGS)
    assert life.pointers() == life.images[FIRST]
    life.lab.task("image.promote", "--version", THIRD, step="publish", **SETTINGS)
    assert life.pointers() == life.images[THIRD]


def test_what_nobody_needs_goes_with_its_copy_and_what_an_instance_runs_stays(life: Life) -> None:
    lab = life.lab
    # Three moves to the third one's side push the second one out of what going back may need.
    settings = {**AT_ONCE, "ZMANIM_RETIRE_PUBLICATIONS": "1"}
    running = lab.launch(life.images[FIRST][lab.cloud.region])
    lab.wait_state(running, "running")
    rows = {each["version"]: each for each in json.loads(lab.task("image.retire", "--json", step="look", **settings))}
    assert rows[FIRST]["action"] == "keep"
    assert running in rows[FIRST]["reason"]
    assert rows[THIRD]["action"] == "keep"
    for action in ("deprecate", "disable", "deregister"):
        done = json.loads(lab.task("image.retire", "--apply", "--json", step="retire", **settings))
        assert [(each["version"], each["action"]) for each in done if each["version"] in VERSIONS] == [(SECOND, action)]
    assert life.there(SECOND) == {}
    for version in (FIRST, THIRD):
        assert life.there(version) == dict.fromkeys(life.images[version], "available")
    assert lab.state(running) == "running"
    gone = lab.try_task("image.rollback", "--to", SECOND, step="publish", **settings)
    assert gone.returncode == 1
    assert f"there is no image of {SECOND}" in gone.stderr
    lab.terminate(running)
