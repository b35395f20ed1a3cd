"""The versions that an image can have.

A release is `vMAJOR.MINOR.PATCH`, a release candidate adds `-rc.N`, and `test-…` is a test image, never published.
The `v` is part of the version everywhere: in the AMI's name, its tags and the parameter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from support.errors import BadInput

_NUMBER = r"(?:0|[1-9][0-9]*)"
_RELEASE = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-rc\.[1-9][0-9]*)?", re.ASCII)
_TEST_IMAGE = re.compile(r"test-[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", re.ASCII)
# An AMI's name has at most 128 characters, and the version is also a directory, a tag and a parameter's value.
_LONGEST = 64
# How the names of our images begin; the version follows.
IMAGE_PREFIX = "zmanim-"
_EXPECTED = "vMAJOR.MINOR.PATCH (v1.2.3), the same with -rc.N (v1.2.3-rc.1), or test-NAME for a test image"


@dataclass(frozen=True)
class Version:
    """A version as it was written; a `test_image` is never published."""

    text: str
    test_image: bool

    def __str__(self) -> str:
        return self.text

    @property
    def image_name(self) -> str:
        """The name of the AMI of this version."""
        return f"{IMAGE_PREFIX}{self.text}"


def parse(text: str) -> Version:
    """Return `text` as a Version.

    Raises `version-invalid`, whose message says what is wrong with just this text.
    """
    if len(text) <= _LONGEST:
        if _RELEASE.fullmatch(text):
            return Version(text, test_image=False)
        if _TEST_IMAGE.fullmatch(text):
            return Version(text, test_image=True)
    raise BadInput(
        f"{text!r} is no version" if text else "no version was given",
        code="version-invalid",
        expected=_EXPECTED,
        found=_what_is_wrong(text),
        fix="for example: --version v1.2.3",
    )


def from_tag(tag: str) -> Version:
    """Return the version that a release tag such as `v1.2.3-ami` asks for.

    Raises `version-invalid` when the tag does not end in `-ami` or the rest is no version of a release.
    """
    head, suffix = tag.removesuffix("-ami"), "-ami"
    if not tag.endswith(suffix) or head.startswith("test-"):
        raise BadInput(
            f"{tag!r} is no release tag",
            code="version-invalid",
            expected="vMAJOR.MINOR.PATCH-ami",
            found=repr(tag),
            fix="git tag v1.2.3-ami",
        )
    return parse(head)


def refuse_test_image(version: Version | None) -> None:
    """Raise `test-image` when a version is given and is a test image's; asks nobody."""
    if version and version.test_image:
        raise BadInput(
            f"{version} is a test image's and never published",
            code="test-image",
            expected="a version vMAJOR.MINOR.PATCH, or that with -rc.N",
            found=str(version),
            fix="build and verify the same commit as a release",
        )


def _what_is_wrong(text: str) -> str:
    rules: tuple[tuple[bool, str], ...] = (
        (not text, "nothing"),
        (len(text) > _LONGEST, f"{len(text)} characters, at most {_LONGEST} fit"),
        (text != text.strip(), "white space at an end"),
        (text.startswith("test-"), "a test image's name may hold a-z, 0-9, '.' and '-', and ends in a letter or digit"),
        (text.endswith("-ami"), "a tag of a release: its version is what stands before -ami"),
        (text.startswith("V"), "a capital V"),
        (text[:1].isdigit(), "no v in front"),
        (bool(re.fullmatch(r"v\d+(\.\d+)?", text)), "fewer than three numbers"),
        (bool(re.fullmatch(r"v\d+(\.\d+){3,}", text)), "more than three numbers"),
        (bool(re.search(r"(^v|\.)0\d", text)), "a number with a leading zero"),
        (bool(re.fullmatch(r"v[\d.]+-rc\.?\d*", text)), "a release candidate that is not -rc.N with N from 1"),
        ("+" in text, "build metadata (+…), which an AMI's name can't hold"),
        (bool(re.match(r"v[\d.]+-", text)), "a suffix other than -rc.N"),
    )
    return next((message for wrong, message in rules if wrong), repr(text))
