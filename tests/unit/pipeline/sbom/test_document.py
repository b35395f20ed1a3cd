"""The SBOM that is made of an inventory."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.errors import raises
from tests.support.images.inventories import API, HOST, RESTIC, inventory
from zmanim_ami.pipeline.sbom import document

MADE = datetime(2026, 11, 30, 5, tzinfo=UTC)
OPENSSL = (
    "pkg:rpm/amzn/openssl@3.0.8-1.amzn2023"
    "?arch=aarch64&distro=amzn-2023&epoch=1&upstream=openssl-3.0.8-1.amzn2023.src.rpm"
)
SYNC, STDLIB = "pkg:golang/golang.org/x/sync@v0.17.0", "pkg:golang/stdlib@1.26.8"
PGX = "pkg:golang/github.com/jackc/pgx/v5@v5.8.0"


def made(**changes: Any) -> Any:
    return json.loads(document.make(inventory(**changes), MADE))


def component(name: str) -> Any:
    (found,) = [each for each in made()["components"] if each["name"] == name]
    return found


def test_every_package_is_in_it_by_its_package_url_and_two_of_one_name_are_two() -> None:
    found = [each["purl"] for each in made()["components"] if each.get("purl", "").startswith("pkg:rpm/")]
    assert OPENSSL in found
    assert [each.partition("?")[0] for each in found if "kernel" in each] == [
        "pkg:rpm/amzn/kernel6.12@6.12.1-1.amzn2023",
        "pkg:rpm/amzn/kernel6.12@6.12.2-1.amzn2023",
    ]
    assert component("openssl")["licenses"] == [{"license": {"name": "Apache-2.0 and (BSD or OpenSSL)"}}]


def test_what_was_compiled_is_known_by_its_source_and_that_one_s_digest() -> None:
    redis = component("redis")
    assert redis["purl"].startswith(f"pkg:generic/redis@7.2.16?checksum=sha256:{'a' * 64}&download_url=https:")
    (reference,) = redis["externalReferences"]
    assert (reference["type"], reference["url"]) == ("source-distribution", "https://example.org/redis-7.2.16.tar.gz")
    assert reference["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]


def test_the_go_programs_depend_on_the_modules_that_they_were_linked_from() -> None:
    depends = {each["ref"]: set(each.get("dependsOn", [])) for each in made()["dependencies"]}
    assert depends["zmanim-api"] == {STDLIB, PGX, SYNC}
    # What its own build information names as a module of another one's is restic itself.
    assert depends["pkg:golang/github.com/restic/restic@v0.19.1"] == {SYNC, "pkg:golang/stdlib@1.25.8"}
    assert component("restic")["hashes"] == [{"alg": "SHA-256", "content": "9" * 64}]
    assert component("zmanim-api")["hashes"] == [{"alg": "SHA-256", "content": "d" * 64}]
    assert {"zmanim-host", "zmanim-api", OPENSSL} < depends["zmanim"]


def test_our_python_is_in_it_file_by_file() -> None:
    (file,) = component("zmanim-host")["components"]
    assert (file["type"], file["name"], file["hashes"][0]["content"]) == ("file", HOST, "e" * 64)


def test_equal_inventories_give_equal_bytes_and_others_another_serial_number() -> None:
    assert document.make(inventory(), MADE) == document.make(inventory(), MADE)
    assert made()["metadata"]["timestamp"] == "2026-11-30T05:00:00+00:00"
    assert made()["serialNumber"] != made(units={})["serialNumber"]


@pytest.mark.incident(
    "two builds of one commit had bills of materials of two serial numbers: their builders' addresses"
)
def test_what_a_builder_was_given_for_its_address_changes_no_byte() -> None:
    others = (inventory(listening_on_the_builder=[f"udp 10.0.0.{number}%eth0:68"]) for number in (4, 8))
    assert len({document.make(each, MADE) for each in others}) == 1


@pytest.mark.parametrize("part", ["rpms", "go", "release", "files", "os", "versions"])
def test_an_inventory_without_a_part_gives_no_sbom(part: str) -> None:
    whole = inventory()
    del whole[part]
    with raises("sbom-invalid"):
        document.make(whole, MADE)


def test_a_program_that_no_file_of_ours_is_gives_no_sbom() -> None:
    files = {path: about for path, about in inventory()["files"].items() if path not in {API, RESTIC}}
    with raises("sbom-invalid"):
        document.make(inventory(files=files), MADE)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.update(bomFormat="SPDX"),
        lambda found: found["components"][0].pop("name"),
        lambda found: found["components"].append(found["components"][0]),
        lambda found: found.update(more="of it"),
    ],
)
def test_what_the_schema_does_not_accept_is_no_sbom(spoil: Any) -> None:
    found = made()
    document.check(json.dumps(found))
    spoil(found)
    with raises("sbom-invalid"):
        document.check(json.dumps(found))
