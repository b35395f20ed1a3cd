"""What a newer release of the distribution fixes against an older one, and that what can't be read is never nothing."""

from __future__ import annotations

import pytest

from tests.support.images.inventories import rpm
from tests.support.images.updateinfo import MIRRORS, packed, repository, update
from zmanim_ami.pipeline.advisories.releases import Fixes, between, markdown

OLD, NEW = "2023.12.20260930", "2023.12.20261012"
OPENSSL = update("ALAS-1", "important", rpm("openssl", "3.0.9", epoch="1"))


def fixes(*updates: str, before: tuple[str, ...] = (OPENSSL,), lacks: str = "", address: str = MIRRORS) -> Fixes:
    there = {
        **repository(packed(*before), release=OLD),
        **repository(packed(*before, *updates), release=NEW),
    }

    def get(url: str) -> bytes:
        if lacks and lacks in url:
            raise OSError("no route to host")
        return there[url]

    return between(address, OLD, NEW, get)


def test_what_the_newer_release_has_and_the_older_one_lacks_is_named_the_severest_first() -> None:
    found = fixes(
        update("ALAS-2", "low", rpm("curl", "8.1")),
        update("ALAS-4", "critical", rpm("kernel6.12", "6.12.9")),
        update("ALAS-3", "critical", rpm("glibc", "2.34", "9"), rpm("glibc-common", "2.34", "9")),
        update("ALAS-5", "important", rpm("nano", "9"), kind="bugfix"),
    )
    assert [each.id for each in found.advisories] == ["ALAS-3", "ALAS-4", "ALAS-2"]
    text = markdown(found)
    assert text.startswith(f"{NEW} fixes, against {OLD}, 2 critical, 1 low.\n")
    assert "| ALAS-3 | critical | glibc 2.34-9, glibc-common 2.34-9 |" in text
    assert "ALAS-1" not in text


def test_a_package_of_both_architectures_is_named_once_and_many_packages_are_counted() -> None:
    both = (rpm("curl", "8.1", arch=arch) for arch in ("aarch64", "x86_64"))
    assert "| low | curl 8.1-1.amzn2023 |" in markdown(fixes(update("ALAS-2", "low", *both)))
    many = (rpm(f"kernel-{number}", "6") for number in range(9))
    assert "kernel-3 6-1.amzn2023, 5 more |" in markdown(fixes(update("ALAS-2", "low", *many)))


def test_a_list_too_long_for_a_pull_request_is_cut_and_says_so() -> None:
    text = markdown(fixes(*(update(f"ALAS-9{number}", "medium", rpm("curl", "8.1")) for number in range(400))))
    assert "400 medium" in text
    assert "250 more are not listed" in text
    assert len(text) < 65_536


def test_a_release_that_fixes_nothing_more_is_said_to() -> None:
    assert markdown(fixes()) == f"{NEW} fixes, against {OLD}, no security advisory more.\n"


@pytest.mark.parametrize("lacks", [OLD, NEW, f"{NEW}/repodata/u.xml.gz", f"{OLD}/repodata/repomd.xml"])
@pytest.mark.incident("advisories that could not be read were taken for none")
def test_metadata_that_can_not_be_had_of_either_release_is_said_and_never_none(lacks: str) -> None:
    text = markdown(fixes(lacks=lacks))
    assert text.startswith(f"Which security advisories {NEW} fixes is not known: the advisories can't be read: ")
    assert "no route to host" in text
    assert "no security advisory" not in text


def test_a_mirror_list_that_names_no_newest_release_tells_nothing_of_others() -> None:
    assert "without /latest/" in markdown(fixes(address="https://mirrors.example/mine/mirror.list"))
