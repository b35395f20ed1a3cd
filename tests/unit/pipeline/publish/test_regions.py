"""A publication in several regions: one record, protected images, pointers that move one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.image_life import HERE, THERE, CutOff, Life, cut_at, two_regions
from zmanim_ami.pipeline.ami.image import VERIFIED_TAG
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.publish import history, publication, record
from zmanim_ami.pipeline.publish.publication import Published
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

SETTINGS = Settings(ami_regions=(THERE,))
ID, LABEL = "/zmanim/prod/ami-id", "/zmanim/prod/ami-version"


@dataclass
class World:
    """Versions in two regions, and what is published there."""

    here: Life
    there: Life
    images: dict[str, dict[str, str]]

    def build(self, version: str) -> None:
        made = self.here.image(version)
        self.images[version] = {HERE: made, THERE: self.there.image(version, source=made)}

    def report(self, version: str) -> str:
        """The digest of the report that vouches for a version's image."""
        return cloud.image_tags(self.here.clients, self.images[version][HERE])[VERIFIED_TAG]

    def publish(self, version: str, **options: Any) -> Published | Plan:
        clients, elsewhere = self.here.clients, [self.there.clients]
        return publication.publish(clients, SETTINGS, elsewhere, version=parse(version), **options)

    def promote(self, version: str) -> Published | Plan:
        return publication.promote(self.here.clients, SETTINGS, [self.there.clients], version=parse(version))

    def roll_back(self, to: str = "", **options: Any) -> Published | Plan:
        version = parse(to) if to else None
        return publication.roll_back(self.here.clients, SETTINGS, [self.there.clients], to=version, **options)

    def pointers(self) -> dict[str, tuple[str, str]]:
        """What each region says: the image's id, and its label."""
        found = {}
        for life in (self.here, self.there):
            answer = life.clients.ssm.get_parameters(Names=[ID, LABEL])["Parameters"]
            values = {item["Name"]: item["Value"] for item in answer}
            found[life.clients.region] = (values.get(ID, ""), values.get(LABEL, ""))
        return found

    def everywhere(self, version: str) -> dict[str, tuple[str, str]]:
        return {region: (ami_id, version) for region, ami_id in self.images[version].items()}

    def history(self) -> tuple[history.Publication, ...]:
        records = record.read_all(self.here.clients, "/zmanim/prod")
        return history.read(self.here.clients, "/zmanim/prod", records)

    def refuse(self, life: Life, name: str) -> None:
        def answer(request: Mapping[str, Any]) -> str | None:
            return "AccessDeniedException" if cloud.json_body(request)["Name"] == name else None

        cloud.answer(life.clients.ssm, "PutParameter", answer)


@pytest.fixture
def world() -> Iterator[World]:
    with two_regions() as (here, there):
        made = World(here, there, {})
        for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
            made.build(version)
        yield made


def test_a_version_is_recorded_protected_and_pointed_at_in_every_region(world: World) -> None:
    result = world.publish("v1.0.0")
    assert isinstance(result, Published)
    assert world.pointers() == world.everywhere("v1.0.0")
    assert result.images == world.images["v1.0.0"]
    value = world.here.clients.ssm.get_parameter(Name="/zmanim/prod/images/v1.0.0")["Parameter"]["Value"]
    assert json.loads(value) == {
        "version": "v1.0.0",
        "images": world.images["v1.0.0"],
        "report": world.report("v1.0.0"),
    }
    for life in (world.here, world.there):
        ami_id = world.images["v1.0.0"][life.clients.region]
        assert life.amis[ami_id].deregistration_protection == "enabled"
    with cut_at(0, [world.here.clients, world.there.clients], after=False):
        assert isinstance(again := world.publish("v1.0.0"), Published)
    assert not again.changed


def test_a_record_is_written_once_and_never_over(world: World) -> None:
    world.publish("v1.0.0")
    other = record.Record("v1.0.0", {HERE: "ami-00000000000000001"}, "0" * 64)
    kept = record.write(world.here.clients, "/zmanim/prod", other)
    assert kept.images == world.images["v1.0.0"]
    assert kept.at


@pytest.mark.incident("a version was built anew under its old name, and later launches were of another image")
def test_a_version_that_was_published_is_never_another_image(world: World) -> None:
    world.publish("v1.0.0")
    life = world.here
    life.clients.ec2.disable_image_deregistration_protection(ImageId=world.images["v1.0.0"][HERE])
    life.clients.ec2.deregister_image(ImageId=world.images["v1.0.0"][HERE])
    life.image("v1.0.0")
    with raises("copy-missing"):  # what is there is a copy of the first one
        world.publish("v1.0.0")
    with raises("version-is-anothers"):
        publication.publish(life.clients, Settings(), version=parse("v1.0.0"))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"state": "pending"}, "is pending"),
        ({"source_image_id": "ami-00000000000000001"}, "is a copy of ami-00000000000000001"),
        ({"name": "zmanim-v0.0.0"}, "no image of that name"),
    ],
)
def test_a_copy_that_is_not_of_the_verified_image_publishes_nothing(
    world: World, wrong: Mapping[str, str], found: str
) -> None:
    vars(world.there.amis[world.images["v1.0.0"][THERE]]).update(wrong)
    with raises("copy-missing") as error:
        world.publish("v1.0.0")
    assert found in error.value.found
    assert set(world.pointers().values()) == {("", "")}


def test_a_copy_whose_tag_names_another_image_publishes_nothing(world: World) -> None:
    copy = world.images["v1.0.0"][THERE]
    tag = [{"Key": "zmanim:copy-of", "Value": "ami-00000000000000001"}]
    world.there.clients.ec2.create_tags(Resources=[copy], Tags=tag)  # type: ignore[arg-type]
    with raises("copy-missing"):
        world.publish("v1.0.0")


def test_of_two_regions_one_fails_and_the_same_command_again_completes_it(world: World) -> None:
    world.publish("v1.0.0")
    world.refuse(world.here, ID)  # the image's own region, which moves last
    with raises("not-written") as error:
        world.publish("v1.1.0")
    assert "published in some regions only" in error.value.summary
    assert THERE in error.value.found
    assert world.pointers() == {**world.everywhere("v1.0.0"), THERE: world.everywhere("v1.1.0")[THERE]}
    assert [each.version for each in world.history()] == ["v1.0.0"]  # it is none until it came to its end
    cloud.answer(world.here.clients.ssm, "PutParameter", lambda request: None)
    world.publish("v1.1.0")
    assert world.pointers() == world.everywhere("v1.1.0")


def test_a_publication_that_failed_in_one_region_is_put_back_by_going_to_the_version_before(world: World) -> None:
    world.publish("v1.0.0")
    world.refuse(world.here, ID)
    with raises("not-written"):
        world.publish("v1.1.0")
    cloud.answer(world.here.clients.ssm, "PutParameter", lambda request: None)
    world.roll_back("v1.0.0")
    assert world.pointers() == world.everywhere("v1.0.0")


def test_a_newer_version_in_any_region_keeps_an_older_one_out(world: World) -> None:
    world.publish("v1.0.0")
    world.refuse(world.here, ID)
    with raises("not-written"):
        world.publish("v1.2.0")
    with raises("older-than-published"):
        world.publish("v1.1.0")


def test_going_back_goes_to_what_was_published_before_and_said_twice_no_further(world: World) -> None:
    for version in ("v1.0.0", "v1.1.0", "v1.2.0"):
        world.publish(version)
    world.roll_back()
    assert world.pointers() == world.everywhere("v1.1.0")
    again = world.roll_back()
    assert isinstance(again, Published)
    assert not again.changed
    assert world.pointers() == world.everywhere("v1.1.0")
    world.roll_back("v1.0.0")
    assert world.pointers() == world.everywhere("v1.0.0")
    assert [(each.what, each.version) for each in world.history()] == [
        ("published", "v1.0.0"),
        ("published", "v1.1.0"),
        ("published", "v1.2.0"),
        ("rolled back", "v1.1.0"),
        ("rolled back", "v1.0.0"),
    ]
    world.promote("v1.2.0")
    world.roll_back()  # undoes the step forward, and not to the v1.1.0 that it has left out
    assert world.pointers() == world.everywhere("v1.0.0")


def test_only_what_was_published_is_promoted_or_gone_back_to(world: World) -> None:
    world.publish("v1.0.0")
    world.publish("v1.2.0")
    with raises("never-published"):
        world.roll_back("v1.1.0")
    with raises("not-older"):
        world.roll_back("v1.3.0")
    world.roll_back()
    with raises("never-published"):
        world.promote("v1.1.0")
    world.promote("v1.2.0")
    with raises("older-than-published"):
        world.promote("v1.0.0")


def test_there_is_nothing_to_go_back_to_before_the_second_publication(world: World) -> None:
    with raises("nothing-to-go-back-to"):
        world.roll_back()
    world.publish("v1.0.0")
    with raises("nothing-to-go-back-to"):
        world.roll_back()


@pytest.mark.parametrize("state", ["disabled", "pending"])
def test_what_can_not_be_launched_is_not_gone_back_to(world: World, state: str) -> None:
    world.publish("v1.0.0")
    world.publish("v1.1.0")
    world.here.amis[world.images["v1.0.0"][HERE]].state = state
    with raises("not-publishable"):
        world.roll_back()
    assert world.pointers() == world.everywhere("v1.1.0")


def test_a_region_that_came_later_does_not_keep_production_from_going_back(world: World) -> None:
    publication.publish(world.here.clients, Settings(), version=parse("v1.0.0"))
    world.there.clients.ec2.deregister_image(ImageId=world.images["v1.0.0"][THERE])
    world.publish("v1.1.0")
    result = world.roll_back()
    assert isinstance(result, Published)
    assert set(result.images) == {HERE}
    assert world.pointers()[HERE] == world.everywhere("v1.0.0")[HERE]


def test_what_was_published_before_there_were_records_has_its_label_and_can_be_gone_back_to(world: World) -> None:
    world.publish("v1.0.0")
    world.here.clients.ssm.delete_parameter(Name="/zmanim/prod/images/v1.0.0")
    world.publish("v1.1.0")
    assert [each.version for each in world.history()] == ["v1.0.0", "v1.1.0"]
    world.roll_back()
    assert world.pointers() == world.everywhere("v1.0.0")


def test_a_plan_says_all_that_would_be_done_and_does_nothing(world: World) -> None:
    world.publish("v1.0.0")
    with cut_at(0, [world.here.clients, world.there.clients], after=False):
        plan = world.publish("v1.1.0", dry=True)
        back = world.roll_back("v1.0.0", dry=True)
    assert isinstance(plan, Plan)
    assert [step.action for step in plan.steps] == ["write", "protect", "protect", "write", "write", "write", "write"]
    assert [step.subject.rpartition(" in ")[2] for step in plan.steps[-4:]] == [THERE, THERE, HERE, HERE]
    assert back == Plan(())


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "its answer is lost"])
@pytest.mark.parametrize("task", ["publish", "roll back"])
def test_cut_at_every_change_and_run_again_it_ends_in_the_same_state(task: str, after: bool) -> None:
    number, ended = 0, False
    while not ended:
        with two_regions() as (here, there):
            world = World(here, there, {})
            for version in ("v1.0.0", "v1.1.0"):
                world.build(version)
            world.publish("v1.0.0")
            if task == "roll back":
                world.publish("v1.1.0")

            def run(world: World = world) -> None:
                world.publish("v1.1.0") if task == "publish" else world.roll_back()

            with cut_at(number, [here.clients, there.clients], after=after):
                try:
                    run()
                    ended = True
                except CutOff:
                    pass
            seen = set(world.pointers()[HERE])
            assert seen == set(world.everywhere("v1.0.0")[HERE]) or seen & set(world.everywhere("v1.1.0")[HERE])
            run()
            assert world.pointers() == world.everywhere("v1.1.0" if task == "publish" else "v1.0.0")
            assert len(world.history()) == (2 if task == "publish" else 3)
        number += 1
    assert number - 1 == (7 if task == "publish" else 4)
