"""Package URLs: whatever a name or version holds, it comes out of one as it went in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL

from tests.support.images.inventories import rpm
from zmanim_ami.pipeline.sbom import purl

OS = {"ID": "amzn", "VERSION_ID": "2023"}
# What rpm takes for names, versions and releases; a tilde and a caret are the two that order versions.
WORDS = st.text(st.sampled_from("abcXYZ019._+~^-"), min_size=1, max_size=12).filter(lambda text: text[0].isalnum())
PATHS = st.lists(st.text(st.sampled_from("abcXYZ019._~+-"), min_size=1, max_size=8), min_size=1, max_size=4).map(
    "/".join
)
# RFC 3986: what may stand in a URL as it is, and what else a package URL leaves alone.
_PLAIN = re.compile(r"pkg:[a-z]+/([A-Za-z0-9._~:/-]|%[0-9A-F]{2})+@([A-Za-z0-9._~:-]|%[0-9A-F]{2})+(\?.*)?")
_QUALIFIERS = re.compile(r"([a-z_]+=([A-Za-z0-9._~:/-]|%[0-9A-F]{2})+(&|$))*")


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [
        ("libstdc++", "11.4.1", "pkg:rpm/amzn/libstdc%2B%2B@11.4.1-1"),
        ("bash", "5.2~rc1", "pkg:rpm/amzn/bash@5.2~rc1-1"),
        ("git", "2.40^20230101", "pkg:rpm/amzn/git@2.40%5E20230101-1"),
    ],
)
def test_what_a_url_can_not_hold_is_escaped(name: str, version: str, text: str) -> None:
    assert str(purl.rpm(rpm(name, version, "1"), OS)).partition("?")[0] == text


@given(WORDS, WORDS, WORDS, st.integers(0, 99))
def test_an_rpm_comes_out_of_its_package_url_as_it_went_in(name: str, version: str, release: str, epoch: int) -> None:
    text = str(purl.rpm(rpm(name, version, release, str(epoch)), OS))
    assert _PLAIN.fullmatch(text), text
    assert _QUALIFIERS.fullmatch(text.partition("?")[2]), text
    read = PackageURL.from_string(text)
    assert (read.name, read.version) == (name, f"{version}-{release}")
    assert isinstance(read.qualifiers, dict)
    assert read.qualifiers.get("epoch", "0") == str(epoch)
    assert read.qualifiers["upstream"] == f"{name}-{version}-{release}.src.rpm"


@given(PATHS, WORDS)
def test_a_go_module_comes_out_of_its_package_url_as_it_went_in(path: str, version: str) -> None:
    text = str(purl.golang(path, version))
    assert _PLAIN.fullmatch(text), text
    read = PackageURL.from_string(text)
    assert "/".join(part for part in (read.namespace, read.name) if part) == path
    assert read.version == version


@given(WORDS, st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30))
def test_a_source_s_address_can_not_end_its_package_url_early(name: str, address: str) -> None:
    url = f"https://example.org/{address}"
    text = str(purl.source(name, "1.0", url, "a" * 64))
    read = PackageURL.from_string(text)
    assert read.qualifiers == {"checksum": f"sha256:{'a' * 64}", "download_url": url}
    assert (read.name, read.version, read.subpath) == (name, "1.0", None)
