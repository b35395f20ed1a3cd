from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.errors import BadInput
from tests.support.errors import raises
from zmanim_ami.pipeline.version import from_tag, parse

numbers = st.integers(min_value=0, max_value=10**6)


@given(numbers, numbers, numbers, st.none() | st.integers(min_value=1, max_value=999))
def test_every_release_and_candidate_is_a_version_that_may_be_published(
    major: int, minor: int, patch: int, candidate: int | None
) -> None:
    text = f"v{major}.{minor}.{patch}" + (f"-rc.{candidate}" if candidate else "")
    version = parse(text)
    assert (str(version), version.test_image, version.image_name) == (text, False, f"zmanim-{text}")


@given(
    st.from_regex(r"test-[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?", fullmatch=True, alphabet=st.characters(codec="ascii"))
)
def test_every_test_image_is_known_as_one(text: str) -> None:
    assert (str(parse(text)), parse(text).test_image) == (text, True)


@given(st.text(max_size=80))
def test_a_text_is_a_version_that_can_be_a_name_everywhere_or_it_is_refused(text: str) -> None:
    try:
        version = parse(text)
    except BadInput:
        return
    assert version.text == text
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert len(text) <= 64


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "nothing"),
        ("1.2.3", "no v in front"),
        ("V1.2.3", "a capital V"),
        ("v1.2", "fewer than three numbers"),
        ("v1", "fewer than three numbers"),
        ("v1.2.3.4", "more than three numbers"),
        ("v01.2.3", "a number with a leading zero"),
        ("v1.2.3-rc.0", "a release candidate that is not -rc.N with N from 1"),
        ("v1.2.3-rc1", "a release candidate that is not -rc.N with N from 1"),
        ("v1.2.3-beta.1", "a suffix other than -rc.N"),
        ("v1.2.3+build", "build metadata (+…), which an AMI's name can't hold"),
        ("v1.2.3-ami", "a tag of a release: its version is what stands before -ami"),
        ("v1.2.3\n", "white space at an end"),
        ("test-Local", "a test image's name may hold a-z, 0-9, '.' and '-', and ends in a letter or digit"),
        ("test-", "a test image's name may hold a-z, 0-9, '.' and '-', and ends in a letter or digit"),
        ("test-" + "x" * 60, "65 characters, at most 64 fit"),
        ("v١.2.3", "'v١.2.3'"),
        ("latest", "'latest'"),
    ],
)
def test_the_message_says_what_is_wrong_with_just_this_text(text: str, found: str) -> None:
    with raises("version-invalid") as error:
        parse(text)
    assert error.value.found == found
    assert error.value.exit_code == 2
    assert error.value.summary == (f"{text!r} is no version" if text else "no version was given")
    assert error.value.expected.startswith("vMAJOR.MINOR.PATCH (v1.2.3)")
    assert error.value.fix == "for example: --version v1.2.3"


def test_the_longest_name_that_fits_is_a_version_and_is_not_called_too_long() -> None:
    longest = "test-" + "x" * 59
    assert str(parse(longest)) == longest
    with raises("version-invalid") as error:
        parse(longest[:-1] + "X")
    assert error.value.found.startswith("a test image's name may hold")


def test_a_release_tag_names_its_version() -> None:
    assert str(from_tag("v1.2.3-ami")) == "v1.2.3"
    assert str(from_tag("v1.2.3-rc.2-ami")) == "v1.2.3-rc.2"


@pytest.mark.parametrize("tag", ["v1.2.3", "test-x-ami", ""])
def test_the_message_says_what_a_release_tag_is(tag: str) -> None:
    with raises("version-invalid") as error:
        from_tag(tag)
    refusal = error.value
    assert (refusal.summary, refusal.found) == (f"{tag!r} is no release tag", repr(tag))
    assert (refusal.expected, refusal.fix) == ("vMAJOR.MINOR.PATCH-ami", "git tag v1.2.3-ami")


@pytest.mark.parametrize("tag", ["v1.2.3", "test-x-ami", "ami", "-ami", "v1.2-ami", ""])
def test_another_tag_is_no_release_tag(tag: str) -> None:
    with raises("version-invalid"):
        from_tag(tag)
