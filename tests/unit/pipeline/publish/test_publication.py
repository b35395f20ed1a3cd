from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from support.errors import Error
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.image_life import Life
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.publish.publication import Published, publish, roll_back
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

ID, VERSION = "/zmanim/prod/ami-id", "/zmanim/prod/ami-version"
RECORDS = "/zmanim/prod/images/"


@dataclass
class Shop:
    """An account with a verified image."""

    clients: Clients
    ami_id: str

    def publish(self, **options: Any) -> Published | Plan:
        return publish(self.clients, Settings(), **{"version": parse("v1.2.3"), **options})

    def published(self, **options: Any) -> Published:
        result = self.publish(**options)
        assert isinstance(result, Published)
        return result

    def parameters(self) -> dict[str, str]:
        answer = self.clients.ssm.get_parameters(Names=[ID, VERSION])["Parameters"]
        return {item["Name"]: item["Value"] for item in answer}

    def write(self, name: str, value: str, data_type: str = "text") -> None:
        self.clients.ssm.put_parameter(Name=name, Value=value, Type="String", DataType=data_type, Overwrite=False)

    def image(self, version: str, **tags: str) -> str:
        ami_id = cloud.make_image(self.clients, f"zmanim-{version}", **{"version": version, **tags})
        if "verified" not in tags:
            cloud.attest(self.clients, ami_id)
        return ami_id

    def writes(self, reply: Callable[[str], str | None]) -> list[str]:
        """Answer every PutParameter by an error code that `reply` gives for its name; return the names as they come.

        But for those of records, which are no pointers.
        """
        seen: list[str] = []

        def answer(request: Mapping[str, Any]) -> str | None:
            name = cloud.json_body(request)["Name"]
            if name.startswith(RECORDS):
                return None
            seen.append(name)
            return reply(name)

        cloud.answer(self.clients.ssm, "PutParameter", answer)
        return seen


@pytest.fixture
def shop() -> Iterator[Shop]:
    with cloud.account() as clients:
        Life(clients).answer()
        made = Shop(clients, "")
        made.ami_id = made.image("v1.2.3")
        yield made


def test_a_verified_image_is_published_and_read_back(shop: Shop) -> None:
    result = shop.published()
    assert result.values == shop.parameters() == {ID: shop.ami_id, VERSION: "v1.2.3"}
    assert result.parameter_versions == {ID: 1, VERSION: 1}
    assert (result.ami_id, result.version, result.changed) == (shop.ami_id, "v1.2.3", True)
    assert shop.clients.ssm.get_parameter(Name=ID)["Parameter"]["DataType"] == "aws:ec2:image"


def test_an_image_whose_programs_are_not_for_what_it_ships_for_is_published_by_no_way(shop: Shop) -> None:
    shop.published()
    shop.image("v1.2.4", programs="x86_64")
    writes = shop.writes(lambda name: None)
    for dry in (False, True):
        with raises("programs-not-shipped", match="aarch64"):
            shop.publish(version=parse("v1.2.4"), dry=dry)
    assert writes == []
    assert shop.parameters() == {ID: shop.ami_id, VERSION: "v1.2.3"}
    shop.image("v1.2.5", programs="aarch64")
    assert shop.published(version=parse("v1.2.5")).changed


def test_publishing_again_does_nothing(shop: Shop) -> None:
    shop.published()
    writes = shop.writes(lambda name: None)
    result = shop.published()
    assert not result.changed
    assert writes == []
    assert result.parameter_versions == {ID: 1, VERSION: 1}


def test_a_new_image_moves_the_pointer_and_an_older_one_moves_it_back_when_that_is_said(shop: Shop) -> None:
    shop.published()
    newer = shop.image("v1.2.4")
    assert shop.published(version=parse("v1.2.4")).values == {ID: newer, VERSION: "v1.2.4"}
    back = roll_back(shop.clients, Settings(), to=parse("v1.2.3"))
    assert isinstance(back, Published)
    assert back.values == {ID: shop.ami_id, VERSION: "v1.2.3"}
    assert back.parameter_versions == {ID: 3, VERSION: 3}


@pytest.mark.parametrize("newer", ["v1.2.4", "v1.10.0", "v1.2.4-rc.1"])
@pytest.mark.parametrize("lost", ["nothing", "the label", "the image"])
def test_an_approval_that_comes_late_does_not_take_production_back(shop: Shop, newer: str, lost: str) -> None:
    published = shop.image(newer)
    shop.published(version=parse(newer))
    if lost == "the label":
        shop.clients.ssm.delete_parameter(Name=VERSION)
    if lost == "the image":
        shop.clients.ec2.disable_image_deregistration_protection(ImageId=published)
        shop.clients.ec2.deregister_image(ImageId=published)
    before, writes = shop.parameters(), shop.writes(lambda name: None)
    for dry in (False, True):
        with raises("older-than-published") as error:
            shop.publish(dry=dry)
        assert error.value.exit_code == 2
        assert error.value.expected == f"{newer} or newer"
        assert "image.rollback --to v1.2.3" in error.value.fix
    assert writes == []
    assert shop.parameters() == before


def test_a_candidate_is_older_than_its_release(shop: Shop) -> None:
    shop.published()
    shop.image("v1.2.3-rc.2")
    with raises("older-than-published"):
        shop.publish(version=parse("v1.2.3-rc.2"))


def beside(shop: Shop, before: str, version: str) -> None:
    """Let another publication of `version` come to its end just before this one writes the parameter `before`."""
    other = Shop(aws.connect("eu-west-1"), "")
    Life(other.clients).answer()
    pending = [version]

    def publish_the_other(name: str) -> None:
        if name == before and pending:
            other.published(version=parse(pending.pop()))

    shop.writes(publish_the_other)


@pytest.mark.incident("two tags were pushed at once, and the older version stayed published")
@pytest.mark.parametrize("before", [VERSION, ID])
def test_of_two_publications_at_once_the_newer_one_stays(shop: Shop, before: str) -> None:
    shop.image("v1.2.2")
    shop.published(version=parse("v1.2.2"))
    newer = shop.image("v1.2.4")
    beside(shop, before, "v1.2.4")
    with raises("older-than-published") as error:
        shop.publish()
    assert error.value.expected == "v1.2.4 or newer"
    assert shop.parameters() == {ID: newer, VERSION: "v1.2.4"}


def test_an_older_publication_beside_a_newer_one_is_written_over(shop: Shop) -> None:
    shop.image("v1.2.2")
    shop.published(version=parse("v1.2.2"))
    newer = shop.image("v1.2.4")
    beside(shop, VERSION, "v1.2.3")
    assert shop.published(version=parse("v1.2.4")).values == {ID: newer, VERSION: "v1.2.4"} == shop.parameters()


def test_of_two_first_publications_at_once_the_later_one_takes_nothing_of_the_other_away(shop: Shop) -> None:
    newer = shop.image("v1.2.4")
    beside(shop, VERSION, "v1.2.4")
    with raises("not-written"):
        shop.publish()
    assert shop.parameters() == {ID: newer, VERSION: "v1.2.4"}


def test_a_pointer_that_names_no_image_of_ours_holds_nothing_back(shop: Shop) -> None:
    shop.write(ID, "nothing yet")
    assert shop.published().values[ID] == shop.ami_id


def test_only_what_is_wrong_is_written(shop: Shop) -> None:
    shop.published()
    shop.clients.ssm.put_parameter(Name=VERSION, Value="v0.0.1", Type="String", Overwrite=True)
    writes = shop.writes(lambda name: None)
    assert shop.published().changed
    assert writes == [VERSION]


def test_the_pointer_is_written_last(shop: Shop) -> None:
    writes = shop.writes(lambda name: None)
    shop.published()
    assert writes == [VERSION, ID]


def test_a_pointer_that_is_a_plain_text_stays_one(shop: Shop) -> None:
    """AWS refuses to change the type of a parameter that exists."""
    shop.write(ID, "ami-0000000000000000a")
    shop.published()
    assert shop.clients.ssm.get_parameter(Name=ID)["Parameter"]["DataType"] == "text"


def test_a_dry_run_says_what_would_be_written_and_why(shop: Shop) -> None:
    shop.write(ID, "ami-0000000000000000a")
    plan = shop.publish(dry=True)
    assert isinstance(plan, Plan)
    assert [(step.subject, step.reason) for step in plan.steps] == [
        (f"{RECORDS}v1.2.3", "once and for ever: it was never published"),
        (f"{shop.ami_id} in eu-west-1", "from deregistration"),
        (f"{VERSION} = v1.2.3 in eu-west-1", "there is none"),
        (f"{ID} = {shop.ami_id} in eu-west-1", "it is ami-0000000000000000a"),
    ]
    assert shop.parameters() == {ID: "ami-0000000000000000a"}


def refused(shop: Shop, code: str, **options: Any) -> Error:
    writes = shop.writes(lambda name: None)
    with raises(code) as error:
        shop.publish(**options)
    assert writes == []
    assert shop.parameters() == {}
    return error.value


@pytest.mark.parametrize("tag", ["", "true", "not-a-digest", "AB" * 32])
def test_an_image_that_is_not_verified_is_refused(shop: Shop, tag: str) -> None:
    ami_id = shop.image("v1.2.4", verified=tag)
    error = refused(shop, "not-verified-yet", version=parse("v1.2.4"))
    assert error.exit_code == 2
    assert f"verify-ami --ami-id {ami_id}" in error.fix


@pytest.mark.parametrize("state", ["pending", "failed", "disabled", "error"])
def test_an_image_that_is_not_available_is_refused(shop: Shop, state: str) -> None:
    item = shop.clients.ec2.describe_images(ImageIds=[shop.ami_id])["Images"][0]
    cloud.answer(shop.clients.ec2, "DescribeImages", lambda request: {"Images": [{**item, "State": state}]})
    refused(shop, "not-publishable")


def test_an_image_of_another_version_is_refused(shop: Shop) -> None:
    refused(shop, "image-not-ours", version=parse("v1.2.4"), ami_id=shop.ami_id)


def test_an_image_without_a_version_of_ours_is_refused(shop: Shop) -> None:
    ami_id = cloud.make_image(shop.clients, "something", verified=cloud.SHA)
    refused(shop, "image-not-ours", version=None, ami_id=ami_id)


def test_an_image_of_another_account_is_refused(shop: Shop) -> None:
    """Such an image may be public, and be called and tagged as ours."""
    item = shop.clients.ec2.describe_images(ImageIds=[shop.ami_id])["Images"][0]
    cloud.answer(shop.clients.ec2, "DescribeImages", lambda request: {"Images": [{**item, "OwnerId": "9" * 12}]})
    refused(shop, "image-not-ours")
    refused(shop, "image-not-ours", version=None, ami_id=shop.ami_id)


def test_an_image_that_is_not_there_is_refused(shop: Shop) -> None:
    refused(shop, "no-such-image", version=parse("v9.9.9"))
    refused(shop, "no-such-image", version=None, ami_id="ami-0123456789abcdef0")


def test_a_test_image_is_refused_by_its_version_and_by_its_id(shop: Shop) -> None:
    ami_id = shop.image("test-x")
    refused(shop, "test-image", version=parse("test-x"))
    refused(shop, "test-image", version=None, ami_id=ami_id)


def test_no_credentials_publish_nothing(shop: Shop) -> None:
    cloud.answer(shop.clients.sts, "GetCallerIdentity", lambda request: "ExpiredToken")
    refused(shop, "credentials-expired")


@pytest.mark.parametrize("before", [None, "v1.2.2"])
def test_when_the_pointer_can_not_be_written_the_label_is_put_back(shop: Shop, before: str | None) -> None:
    if before:
        shop.write(VERSION, before)
    shop.writes(lambda name: "AccessDeniedException" if name == ID else None)
    with raises("not-written") as error:
        shop.publish()
    assert shop.parameters() == ({VERSION: before} if before else {})
    assert f"{VERSION} = {before or '(none)'}" in error.value.found
    assert f"{ID} = (none)" in error.value.found


def test_when_the_label_can_not_be_written_the_pointer_is_not_tried(shop: Shop) -> None:
    writes = shop.writes(lambda name: "TooManyUpdates")
    with raises("not-written"):
        shop.publish()
    assert ID not in writes
    assert shop.parameters() == {}


def test_an_interrupt_before_the_pointer_puts_the_label_back(shop: Shop) -> None:
    def interrupt(name: str) -> None:
        if name == ID:
            raise KeyboardInterrupt

    shop.writes(interrupt)
    with pytest.raises(KeyboardInterrupt):
        shop.publish()
    assert shop.parameters() == {}


def test_an_answer_that_got_lost_after_the_pointer_was_written_does_not_undo_the_label(shop: Shop) -> None:
    lost = [False]

    def lose(name: str) -> str | None:
        if name == ID and not lost[0]:
            lost[0] = True
            shop.write(ID, shop.ami_id)
            return "InternalServerError"
        return None

    shop.writes(lose)
    with raises("not-written"):
        shop.publish()
    assert shop.parameters() == {ID: shop.ami_id, VERSION: "v1.2.3"}
    assert not shop.published().changed


def test_a_parameter_that_does_not_take_its_value_is_an_error(shop: Shop) -> None:
    """AWS checks an image's id after it has accepted it, and keeps the old value when there is no such image."""
    shop.write(ID, "ami-0000000000000000a")
    cloud.answer(
        shop.clients.ssm,
        "PutParameter",
        lambda request: {"Version": 2} if cloud.json_body(request)["Name"] == ID else None,
    )
    with raises("not-read-back") as error:
        shop.publish()
    assert "ami-0000000000000000a" in error.value.found


def test_a_parameter_that_takes_its_value_late_is_waited_for(shop: Shop) -> None:
    looks = [0]

    def late(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        looks[0] += cloud.json_body(request)["Name"] == ID
        late_now = cloud.json_body(request)["Name"] == ID and 1 < looks[0] < 6
        return {"Parameter": {"Name": ID, "Value": "ami-0000000000000000a", "Version": 1}} if late_now else None

    cloud.answer(shop.clients.ssm, "GetParameter", late)
    assert shop.published().values[ID] == shop.ami_id
