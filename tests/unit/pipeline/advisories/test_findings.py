"""What is open for an image, what is not covered, and that what can't be read is never nothing."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.errors import raises
from tests.support.images.inventories import inventory, rpm
from tests.support.images.updateinfo import MIRRORS, packed, repository, update
from zmanim_ami.pipeline.advisories import findings
from zmanim_ami.pipeline.advisories.updateinfo import fetch, parse

OPENSSL = update("ALAS-1", "Important", rpm("openssl", "3.0.9", epoch="1"))


def found(*updates: str, **parts: Any) -> findings.Findings:
    return findings.find(inventory(**parts), parse(packed(*updates)))


def test_a_package_that_is_older_than_the_mended_one_is_open_and_says_both() -> None:
    (each,) = found(OPENSSL).open
    assert (each.id, each.severity) == ("ALAS-1", "important")
    assert each.packages == ("openssl 1:3.0.8-1.amzn2023 < 1:3.0.9-1.amzn2023",)


@pytest.mark.parametrize(
    "fix",
    [
        rpm("openssl", "3.0.8", epoch="1"),  # just this one is there
        rpm("openssl", "9.0", epoch="0"),  # an older epoch
        rpm("openssl", "3.0.9", epoch="1", arch="x86_64"),
        rpm("nginx", "9.0"),
        rpm("kernel6.12", "6.12.2"),  # of two kernels the newer one counts
    ],
)
def test_what_is_mended_or_not_there_is_not_open(fix: dict[str, str]) -> None:
    assert found(update("ALAS-1", "critical", fix)).open == ()


def test_an_older_kernel_beside_the_newest_does_not_mend_it() -> None:
    (each,) = found(update("ALAS-1", "critical", rpm("kernel6.12", "6.12.3"))).open
    assert each.packages == ("kernel6.12 6.12.2-1.amzn2023 < 6.12.3-1.amzn2023",)


@pytest.mark.incident("a scan that knew no package counted as a clean one")
def test_what_is_not_amazon_s_is_not_covered_whatever_amazon_s_advisories_say() -> None:
    result = found(update("ALAS-1", "critical", rpm("redis", "99")))
    assert result.open == ()
    assert result.not_covered == ("redis (rpm)", "restic (2 Go modules)", "zmanim-api (2 Go modules)")


def test_the_severest_come_first_and_a_severity_that_nobody_knows_is_counted_as_such() -> None:
    fix = rpm("openssl", "9", epoch="1")
    result = found(*(update(f"A-{text}", text, fix) for text in ("low", "Moderate", "?", "IMPORTANT", "Critical")))
    assert [each.severity for each in result.open] == ["critical", "important", "medium", "low", "unknown"]
    words = "1 critical, 1 important, 1 medium, 1 low, 1 unknown; 3 not covered (2026-11-30)"
    assert result.text(datetime(2026, 11, 30, tzinfo=UTC)) == words
    assert found(OPENSSL).text(datetime(2026, 11, 30, tzinfo=UTC)).startswith("0 critical, 1 important, 0 medium")


def test_what_is_no_matter_of_security_is_none() -> None:
    assert found(OPENSSL, update("B", "critical", rpm("openssl", "9", epoch="9"), kind="bugfix")) == found(OPENSSL)


@pytest.mark.parametrize("part", ["rpms", "go"])
def test_an_inventory_that_does_not_say_where_packages_are_from_is_refused(part: str) -> None:
    whole = inventory()
    del whole[part]
    with raises("inventory-too-old"):
        findings.find(whole, parse(packed(OPENSSL)))
    rows = [{name: text for name, text in row.items() if name != "repository"} for row in inventory()["rpms"]]
    with raises("inventory-too-old"):
        findings.find(inventory(rpms=rows), parse(packed(OPENSSL)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<updates/>",
        packed(),
        packed(update("B", "low", rpm("a", "1"), kind="bugfix")),
        packed(OPENSSL)[:-20],
        gzip.compress(b"<html>we'll be back</html>", mtime=0),
        gzip.compress(b'<!DOCTYPE x [<!ENTITY y "z">]><updates>&y;</updates>', mtime=0),
        packed(update("", "low", rpm("a", "1"))),
        packed(update("A", "low")),
        packed(OPENSSL.replace(' version="3.0.9"', "")),
    ],
)
def test_advisories_that_can_not_be_read_are_an_error_and_never_none(content: bytes) -> None:
    with raises("advisories-unreadable"):
        parse(content)


def test_the_newest_release_s_advisories_are_fetched_from_the_first_mirror() -> None:
    content = packed(OPENSSL)
    assert fetch(MIRRORS, repository(content).__getitem__) == content


@pytest.mark.parametrize(
    "change",
    [
        lambda there: there.update({MIRRORS: b""}),
        lambda there: there.update({url: b"<repomd/>" for url in there if url.endswith("repomd.xml")}),
        lambda there: there.update({url: b"other" for url in there if url.endswith(".gz")}),
        lambda there: there.clear(),
    ],
)
def test_a_repository_that_does_not_answer_or_answers_something_else_is_an_error(change: Any) -> None:
    there = repository(packed(OPENSSL))
    change(there)

    def get(url: str) -> bytes:
        if url not in there:
            raise OSError("no route to host")
        return there[url]

    with raises("advisories-unreadable"):
        fetch(MIRRORS, get)


def test_no_other_address_than_an_https_one_is_asked() -> None:
    with raises("advisories-unreadable"):
        fetch("http://mirrors.example/mirror.list")
    with raises("advisories-unreadable"):
        fetch("file:///etc/passwd")
