"""Publish, retire and swap, killed at every change that they make: the same command ends what was begun.

On machines: the production tasks, and what AWS heard of them before they were gone. Cut at a question that changes
nothing, or before a change, a task leaves what it left after the change before that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.machines.image import VERSION, ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.other_images import copy, copy_to, vouch
from tests.support.tasks import cutting
from tests.support.tasks.operator import Operator, end_instances
from zmanim_ami.pipeline.images.rules import KEEP_TAG
from zmanim_ami.pipeline.instances import journal
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import identity

THERE = identity.COPIES[0]
POINTER = "/zmanim/prod/ami-id"
SETTINGS: Mapping[str, Any] = {"ZMANIM_AMI_REGIONS": THERE}
# One image at a time, at once.
RETIRE: Mapping[str, Any] = {
    **SETTINGS,
    **{f"ZMANIM_RETIRE_{name}": "0" for name in ("DAYS", "STEP_DAYS")},
    **{f"ZMANIM_RETIRE_{name}": "1" for name in ("KEEP", "PUBLICATIONS", "LIMIT")},
}
STATES = {"deprecate": "deprecated", "disable": "disabled", "deregister": "gone"}
ENVIRONMENT = "cut"
SHARDS = 4


class Account:
    """An account whose versions have an image here and a copy in another region."""

    def __init__(self, lab: ImageLab) -> None:
        self.lab = lab
        self.ec2 = {lab.cloud.region: lab.ec2, THERE: self.client("ec2", THERE)}
        self.images: dict[str, dict[str, str]] = {}

    def client(self, service: str, region: str) -> Any:
        return self.lab.session.client(service, region_name=region, endpoint_url=self.lab.cloud.endpoint)  # type: ignore[call-overload]  # its overloads want a literal

    def build(self, version: str) -> str:
        """Let a version be there as build-ami and verify-ami leave it; return it."""
        made = copy(self.lab, self.lab.image, f"zmanim-{version}", version)
        self.images[version] = {self.lab.cloud.region: made, THERE: copy_to(self.lab, made, THERE)}
        vouch(self.lab, made)
        return version

    def publish(self, version: str) -> None:
        self.lab.task("publish-ssm", "--version", version, step="publish", **SETTINGS)

    def pointers(self) -> dict[str, str]:
        """Return which image each region launches."""
        return {
            region: str(self.client("ssm", region).get_parameter(Name=POINTER)["Parameter"]["Value"])
            for region in self.ec2
        }

    def states(self, version: str) -> set[str]:
        """Return the states that a version's images are in: `deprecated` too, and `gone`."""
        return {self._state(region, ami_id) for region, ami_id in self.images[version].items()}

    def _state(self, region: str, ami_id: str) -> str:
        shown = self.ec2[region].describe_images(
            Owners=["self"], IncludeDisabled=True, Filters=[{"Name": "image-id", "Values": [ami_id]}]
        )["Images"]
        if not shown:
            return "gone"
        state, soon = str(shown[0]["State"]), f"{datetime.now(UTC) + timedelta(minutes=10):%FT%T}"
        return "deprecated" if state == "available" and shown[0].get("DeprecationTime", "9") < soon else state


@pytest.fixture(scope="module")
def account(images: ImageLab) -> Iterator[Account]:
    """The account; nothing of what was built and published in it stays for other tests."""
    images.ec2.create_tags(Resources=[images.image], Tags=[{"Key": KEEP_TAG, "Value": "every test's"}])
    account = Account(images)
    yield account
    for region, ec2 in account.ec2.items():
        ssm = account.client("ssm", region)
        pages = list(ssm.get_paginator("get_parameters_by_path").paginate(Path="/zmanim/prod", Recursive=True))
        for each in (each for page in pages for each in page["Parameters"] if each["Type"] == "String"):
            ssm.delete_parameter(Name=each["Name"])
        for image in ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]:
            if image["ImageId"] != images.image:
                ec2.disable_image_deregistration_protection(ImageId=image["ImageId"])
                ec2.deregister_image(ImageId=image["ImageId"])


def test_an_image_goes_its_way_however_often_retire_is_cut_short(account: Account) -> None:
    lab = account.lab
    old = [account.build(f"v9.1.{number}") for number in range(5)]
    for version in (*old, account.build("v9.2.0")):
        account.publish(version)
    whole: dict[str, Sequence[str]] = {}
    # The oldest goes first, step by step; each is cut after another change.
    for number, version in enumerate(old):
        for step, state in STATES.items():
            environment = {**lab.task_environment("retire"), **RETIRE}
            ended = cutting.run(number, "image.retire", "--apply", after=True, environment=environment)
            assert ended.changes, ended.stderr
            if not ended.cut:
                whole[step] = ended.changes
            if account.states(version) != {state}:
                assert ended.cut, ended.stderr
                lab.task("image.retire", "--apply", step="retire", **RETIRE)
            assert account.states(version) == {state}, (ended.changes, ended.stderr)
    assert set(whole) == set(STATES)
    assert account.states("v9.2.0") == {"available"}


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "its answer is lost"])
def test_a_publication_is_completed_by_the_same_command(account: Account, after: bool) -> None:
    lab, number, whole = account.lab, 0, False
    while not whole:
        version = account.build(f"v9.6.{number}" if after else f"v9.5.{number}")
        ended = cutting.run(
            number,
            "publish-ssm",
            "--version",
            version,
            after=after,
            environment={**lab.task_environment("publish"), **SETTINGS},
        )
        whole = not ended.cut
        assert (ended.returncode == 0) == whole, ended.stderr
        account.publish(version)
        assert account.pointers() == account.images[version]
        number += 1
    assert {"PutParameter", "EnableImageDeregistrationProtection"} <= set(ended.changes)
    checks = json.loads(lab.try_task("image.check", "--json", step="look", **SETTINGS).stdout)
    # But for what build-ami and verify-ami would have left, which have not made these images.
    assert {each["name"] for each in checks if not each["ok"]} == {"report's image", "sbom"}
    # Each version was published once, however it came about.
    history = [each["version"] for each in json.loads(lab.task("image.history", "--json", step="look", **SETTINGS))]
    assert len(history) == len(set(history))


@pytest.fixture(scope="module")
def operator(images: ImageLab) -> Operator:
    images.prepare(ENVIRONMENT)
    return Operator(images, ENVIRONMENT)


@dataclass
class Service:
    """An environment's instance, whichever it is by now."""

    operator: Operator
    instance: str


@pytest.fixture(scope="module")
def service(operator: Operator) -> Service:
    lab = operator.lab
    vouch(lab, lab.image)
    given = ("--version", VERSION, "--size", "2", "--wait", *operator.place)
    instance = str(operator.task("instance.launch", *given)["instance_id"])
    lab.ec2.associate_address(AllocationId=operator.address, InstanceId=instance)
    lab.query(instance, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    return Service(operator, instance)


@pytest.mark.parametrize("first", range(SHARDS))
def test_a_swap_is_finished_or_taken_back_by_the_same_command(service: Service, account: Account, first: int) -> None:
    """Cut after each change, of which one test takes every fourth: a swap and its way back take half a minute."""
    operator, lab = service.operator, account.lab
    ends: dict[int, str] = {}
    for number in range(first, 100, SHARDS):
        version = f"v9.7.{number}"
        vouch(lab, copy(lab, lab.image, f"zmanim-{version}", version))
        arguments = ("--environment", ENVIRONMENT, "--to", version)
        environment = lab.task_environment() | operator.credentials
        ended = cutting.run(number, "instance.swap", *arguments, after=True, environment=environment)
        assert ended.cut or ended.returncode == 0, ended.stderr
        ends[number] = end = _end(operator, arguments, service.instance) if ended.cut else "done"
        print(f"cut after {ended.changes[-1]}, change {number}: {end}", flush=True)
        service.instance = _only_one_that_serves(operator, service.instance, swapped=end != "taken back")
        if not ended.cut:
            break
    assert {"taken back", "done"} <= set(ends.values()) <= {"begun anew", "taken back", "finished", "done"}, ends


def _end(operator: Operator, arguments: Sequence[str], old: str) -> str:
    """End a swap that was cut short, by the same command; say how."""
    lab = operator.lab
    if not journal.find(clouds.connect(lab.environment, lab.cloud.region), ENVIRONMENT):
        if lab.state(old) != "running":
            return "finished"  # cut at the very last note
        # The backup goes on, and no swap begins beside it.
        wait_for(lambda: _swap(operator, arguments), 120, "a swap")
        return "begun anew"
    done = lab.try_task("instance.swap", *arguments, **operator.credentials)
    assert done.returncode == 0 or "swap-taken-back" in done.stderr, done.stderr
    return "finished" if done.returncode == 0 else "taken back"


def _swap(operator: Operator, arguments: Sequence[str]) -> bool:
    done = operator.lab.try_task("instance.swap", *arguments, **operator.credentials)
    assert done.returncode == 0 or "idle: one runs" in done.stderr, done.stderr
    return done.returncode == 0


def _only_one_that_serves(operator: Operator, old: str, *, swapped: bool) -> str:
    """See that one instance has the data and the address, end what a swap left of the old one, and return its id."""
    lab = operator.lab
    # Each instance looks once a minute whether it serves: what a swap that was taken back had stopped was seen, too.
    wait_for(lambda: any(row["ready"] for row in operator.task("instance.list")), 120, "an instance that serves")
    alive = {str(row["instance_id"]): row for row in operator.task("instance.list")}
    (serving,) = (name for name, row in alive.items() if row["ready"])
    assert operator.leads_to() == serving
    assert (serving != old) == swapped
    assert lab.query(serving, "SELECT count(*) FROM kept").strip() == "1000"
    for other in alive.keys() - {serving}:
        assert (other, lab.state(other)) == (old, "stopped")
        lab.ec2.modify_instance_attribute(InstanceId=other, DisableApiTermination={"Value": False})
        lab.terminate(other)
    return serving


@pytest.fixture(scope="module", autouse=True)
def nothing_left(images: ImageLab) -> Iterator[None]:
    yield
    end_instances(images, ENVIRONMENT)
