"""image.advisories: the inventory that was kept of an image against the newest release's advisories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.support import bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.image_life import Life, two_regions
from tests.support.images.govulncheck import answer, entry
from tests.support.images.inventories import inventory, rpm
from tests.support.images.updateinfo import MIRRORS, packed, repository, update
from zmanim_ami.pipeline.images import advisories
from zmanim_ami.pipeline.publish import publication
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

SETTINGS = Settings(advisories_url=MIRRORS)
OPENSSL = update("ALAS-1", "Important", rpm("openssl", "3.0.9", epoch="1"))


@pytest.fixture
def life() -> Iterator[Life]:
    with two_regions() as (here, _):
        cloud.prepare_reports(here.clients)
        yield here


def keep(life: Life, ami_id: str, content: Any) -> None:
    bucket = bucket_name("releases", "verify")
    life.clients.s3.put_object(Bucket=bucket, Key=f"inventories/{ami_id}.json", Body=json.dumps(content).encode())


def look(life: Life, *updates: str, vulnerabilities: Sequence[Mapping[str, Any]] = ()) -> advisories.Advisories:
    get = repository(packed(*updates)).__getitem__
    return advisories.look(life.clients, SETTINGS, parse("v1.2.3"), lambda _: answer(*vulnerabilities), get)


def test_what_is_open_today_is_said_with_what_nobody_issues_advisories_for(life: Life) -> None:
    keep(life, life.image(), inventory())
    found = look(life, OPENSSL)
    assert found.counts == {"critical": 0, "important": 1, "medium": 0, "low": 0}
    assert found.grave
    text = advisories.markdown(found)
    assert "| ALAS-1 | important | openssl 1:3.0.8-1.amzn2023 < 1:3.0.9-1.amzn2023 |" in text
    assert "Not covered by anybody's advisories: redis (rpm), restic (2 Go modules)." in text


def test_what_go_s_database_knows_of_the_api_is_open_too_and_should_not_wait(life: Life) -> None:
    keep(life, life.image(), inventory())
    assert not look(life, OPENSSL.replace("Important", "low")).grave
    found = look(life, OPENSSL, vulnerabilities=[entry("GO-1", "github.com/jackc/pgx/v5", "5.9.0")])
    assert found.grave
    assert found.counts["unknown"] == 1
    assert "| GO-1 | unknown | github.com/jackc/pgx/v5 v5.8.0 < v5.9.0 |" in advisories.markdown(found)


def test_what_may_wait_is_not_grave_and_what_nobody_can_rate_is(life: Life) -> None:
    keep(life, life.image(), inventory())
    fix = rpm("openssl", "3.0.9", epoch="1")
    assert not look(life, update("A", "medium", fix), update("B", "low", fix)).grave
    assert look(life, update("A", "", fix)).grave


def test_an_image_whose_inventory_was_not_kept_is_not_called_clean(life: Life) -> None:
    life.image()
    with raises("no-inventory"):
        look(life, OPENSSL)


def test_an_inventory_of_an_older_form_is_not_called_clean(life: Life) -> None:
    keep(life, life.image(), {"packages": {"openssl": "3.0.8"}})
    with raises("inventory-too-old"):
        look(life, OPENSSL)


def test_the_published_version_is_the_one_that_is_asked_about(life: Life) -> None:
    with raises("nothing-published"):
        advisories.published(life.clients, SETTINGS)
    life.image()
    publication.publish(life.clients, SETTINGS, [], version=parse("v1.2.3"))
    assert advisories.published(life.clients, SETTINGS) == parse("v1.2.3")
