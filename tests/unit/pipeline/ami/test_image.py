from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.errors import BadInput
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.ami.image import Image
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.version import parse

V = parse("v1.2.3")


@pytest.fixture
def clients() -> Iterator[Clients]:
    with cloud.account() as made:
        yield made


def some(**changes: object) -> Image:
    given: dict[str, object] = {
        "ami_id": "ami-0000000000000000a",
        "name": "zmanim-v1.2.3",
        "owner": cloud.ACCOUNT,
        "state": "available",
        "snapshots": (),
        "tags": {"zmanim:version": "v1.2.3"},
    }
    return Image(**{**given, **changes})  # type: ignore[arg-type]  # the names and types are the class's own


def test_an_image_is_found_by_its_version_and_by_its_id(clients: Clients) -> None:
    ami_id = cloud.make_image(clients, version="v1.2.3")
    cloud.make_image(clients, "zmanim-v1.2.4", version="v1.2.4")
    assert image.find(clients, V, "").ami_id == ami_id
    assert image.find(clients, None, ami_id).version == "v1.2.3"
    assert image.find(clients, V, ami_id).snapshots


def test_there_is_none(clients: Clients) -> None:
    with pytest.raises(image.NoSuchImage, match="there is no image of v1"):
        image.find(clients, V, "")
    with pytest.raises(image.NoSuchImage):
        image.find(clients, None, "ami-0123456789abcdef0")


def test_no_version_and_no_id_is_bad_input(clients: Clients) -> None:
    with pytest.raises(BadInput):
        image.find(clients, None, "")


@pytest.mark.parametrize("text", ["ami-", "ami-XYZ", "i-0123456789abcdef0", "ami-0123456789abcdef0 ", "latest"])
def test_what_is_no_ami_id_is_bad_input_and_asks_nobody(clients: Clients, text: str) -> None:
    cloud.answer(clients.ec2, "DescribeImages", lambda request: "InternalError")
    with raises("ami-id-invalid"):
        image.find(clients, None, text)


def test_an_image_of_another_account_is_not_ours(clients: Clients) -> None:
    ami_id = cloud.make_image(clients, version="v1.2.3")
    cloud.answer(clients.sts, "GetCallerIdentity", lambda request: {"Account": "999999999999"})
    with raises("image-not-ours"):
        image.find(clients, None, ami_id)


@pytest.mark.parametrize(
    ("name", "tag"),
    [("zmanim-v1.2.3", ""), ("zmanim-v1.2.3", "v1.2.4"), ("something", "v1.2.3"), ("zmanim-v9.9.9", "v1.2.3")],
)
def test_a_name_without_its_tag_or_a_tag_without_its_name_is_not_ours(clients: Clients, name: str, tag: str) -> None:
    ami_id = cloud.make_image(clients, name, version=tag)
    for version, given in ((None, ami_id), (V, ami_id)):
        with raises("image-not-ours"):
            image.find(clients, version, given)


def test_an_id_and_a_version_that_do_not_agree_are_refused(clients: Clients) -> None:
    ami_id = cloud.make_image(clients, version="v1.2.3")
    cloud.answer(clients.sts, "GetCallerIdentity", lambda request: {"Account": "999999999999"})
    with raises("image-not-ours"):
        image.find(clients, parse("v1.2.4"), ami_id)


def test_two_images_of_one_name_are_ambiguous(clients: Clients) -> None:
    cloud.make_image(clients, version="v1.2.3")
    item = clients.ec2.describe_images(Owners=["self"])["Images"][0]
    twice = {"Images": [item, {**item, "ImageId": "ami-0000000000000000b"}]}
    cloud.answer(clients.ec2, "DescribeImages", lambda request: twice)
    with raises("image-ambiguous"):
        image.of_name(clients, "zmanim-v1.2.3")


@pytest.mark.parametrize("value", ["", "yes", "AB" * 32, "ab" * 31, "ab" * 33])
def test_only_a_digest_verifies(value: str) -> None:
    assert not some(tags={image.VERIFIED_TAG: value}).verified
    assert some(tags={image.VERIFIED_TAG: cloud.SHA}).verified


def test_an_image_was_published_when_the_pointer_names_it_or_once_did(clients: Clients) -> None:
    assert not image.was_published(clients, "/zmanim/prod", "ami-1")
    for value in ("ami-1", "ami-2"):
        clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value=value, Type="String", Overwrite=value != "ami-1")
    assert image.was_published(clients, "/zmanim/prod", "ami-1")
    assert image.was_published(clients, "/zmanim/prod", "ami-2")
    assert not image.was_published(clients, "/zmanim/prod", "ami-3")


VERIFIED = {"zmanim:version": "v1.2.3", image.VERIFIED_TAG: cloud.SHA}
TEST_IMAGE = {"zmanim:version": "test-x", image.VERIFIED_TAG: cloud.SHA}


@pytest.mark.parametrize(
    ("existing", "version", "published", "replace", "code"),
    [
        (some(), "v1.2.3", False, False, "image-exists"),
        (some(), "v1.2.3", False, True, None),
        (some(state="failed"), "v1.2.3", False, True, None),
        (some(state="failed"), "v1.2.3", False, False, "image-exists"),
        (some(state="pending"), "v1.2.3", False, True, "image-busy"),
        (some(), "v1.2.3", True, True, "image-is-final"),
        (some(tags=VERIFIED), "v1.2.3", False, True, "image-is-final"),
        (some(tags=VERIFIED), "v1.2.3", True, False, "image-is-final"),
        (some(tags=TEST_IMAGE), "test-x", False, True, None),
        (some(tags=TEST_IMAGE), "test-x", False, False, "image-exists"),
        (some(tags={}), "v1.2.3", False, True, "image-not-ours"),
    ],
)
def test_what_may_be_replaced(existing: Image, version: str, published: bool, replace: bool, code: str | None) -> None:
    def check() -> None:
        image.check_replaceable(existing, parse(version), published=published, replace=replace)

    if code is None:
        check()
        return
    with raises(code) as error:
        check()
    assert existing.ami_id in error.value.found
    assert error.value.fix
