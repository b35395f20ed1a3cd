from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.pipeline.programs import SHIPPED
from zmanim_ami.rehearsal.versions import Difference, differences, rehearsed_versions

PACKER = ROOT / "infrastructure/packer"


def pinned(version: str, sha256: str = "a" * 64) -> dict[str, str]:
    return {
        "version": version,
        "url": f"https://example.org/{version}",
        "sha256": sha256,
        "architecture": "source",
        "why": "It is what the test pins.",
        "review_by": "2027-01-01",
    }


def production(**artifacts: dict[str, str]) -> dict[str, Any]:
    programs = {"architecture": "aarch64"}
    return {"base": {"release": "2023.1.20260101"}, "programs": programs, "packages": {}, "artifacts": artifacts}


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for name in ("redis-7.0.15.tar.gz", "pgvector-0.8.0.tar.gz", "pg_cron-1.6.5-compiled.tar.gz"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "pgdg_repo-42.0.noarch.rpm").write_bytes(b"package")
    (tmp_path / "restic_0.19.1_linux_arm64.bz2").write_bytes(b"restic")
    return tmp_path


def test_the_file_of_a_rehearsal_is_as_complete_as_productions(mirror: Path) -> None:
    genuine = json.loads((PACKER / "versions.json").read_text())
    schema = json.loads((PACKER / "versions.schema.json").read_text())

    rehearsed = rehearsed_versions(genuine, mirror)

    jsonschema.validate(rehearsed, schema)
    assert rehearsed["base"] == genuine["base"]
    assert rehearsed["packages"] == genuine["packages"]
    assert rehearsed["pgdg_packages"] == genuine["pgdg_packages"]
    assert rehearsed["artifacts"].keys() == genuine["artifacts"].keys()


def test_an_artifact_is_pinned_to_the_bytes_in_the_mirror(mirror: Path) -> None:
    taken = rehearsed_versions(production(redis=pinned("7.2.16")), mirror)["artifacts"]["redis"]

    assert taken["version"] == "7.0.15"
    assert taken["url"] == "https://zmanim-mirror.s3.eu-west-1.amazonaws.com/redis-7.0.15.tar.gz"
    assert taken["sha256"] == hashlib.sha256(b"redis-7.0.15.tar.gz").hexdigest()
    assert taken["architecture"] == "source"


def test_programs_for_the_host_s_processor_are_said_in_each_place_and_reported_first(mirror: Path) -> None:
    genuine = json.loads((PACKER / "versions.json").read_text())
    assert genuine["programs"]["architecture"] == genuine["artifacts"]["restic"]["architecture"] == SHIPPED
    (mirror / "restic_0.19.1_linux_arm64.bz2").rename(mirror / "restic_0.19.1_linux_amd64.bz2")

    rehearsed = rehearsed_versions(genuine, mirror, "x86_64")

    jsonschema.validate(rehearsed, json.loads((PACKER / "versions.schema.json").read_text()))
    assert rehearsed["programs"]["architecture"] == rehearsed["artifacts"]["restic"]["architecture"] == "x86_64"
    assert rehearsed["artifacts"]["redis"]["architecture"] == "source"
    assert differences(genuine, rehearsed)[0] == Difference("programs", SHIPPED, "x86_64")


def test_an_artifact_that_the_mirror_lacks_stops_the_rehearsal(mirror: Path) -> None:
    with raises("mirror-lacks", match="nginx"):
        rehearsed_versions(production(nginx=pinned("1.0")), mirror)


def test_two_files_for_one_artifact_are_not_guessed_between(mirror: Path) -> None:
    (mirror / "redis-7.2.16.tar.gz").write_bytes(b"")
    with raises("mirror-lacks") as caught:
        rehearsed_versions(production(redis=pinned("7.2.16")), mirror)
    assert "redis-7.2.16.tar.gz" in caught.value.found


def test_the_report_names_each_version_that_differs(mirror: Path) -> None:
    before = production(redis=pinned("7.2.16"), pg_cron=pinned("1.6.7"))
    assert differences(before, rehearsed_versions(before, mirror)) == [
        Difference("redis", "7.2.16", "7.0.15"),
        Difference("pg_cron", "1.6.7", "1.6.5 (compiled by Debian)"),
    ]


def test_the_report_names_other_bytes_of_the_same_version() -> None:
    before, after = production(redis=pinned("7.0.15")), production(redis=pinned("7.0.15", "b" * 64))
    (difference,) = differences(before, after)
    assert (difference.production, difference.rehearsed) == ("7.0.15 (sha256 aaaaaaaa…)", "7.0.15 (sha256 bbbbbbbb…)")


def test_what_is_the_same_is_no_difference() -> None:
    same = production(redis=pinned("7.0.15"))
    assert differences(same, same) == []
