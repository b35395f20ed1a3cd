"""Programs for other processors than what ships are never built, published or released on AWS."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.errors import raises
from zmanim_ami.pipeline import attestation, aws, programs
from zmanim_ami.pipeline.ami import image, provenance
from zmanim_ami.pipeline.settings import Settings

HERE = "http://10.212.0.2:5000"
AMAZON = ("https://ec2.eu-west-1.amazonaws.com", "https://vpce-1.ec2.eu-west-1.vpce.amazonaws.com", "http://proxy:80")


def clients_of(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> aws.Clients:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    return aws.connect("eu-west-1")


@pytest.mark.parametrize("endpoint", AMAZON)
def test_what_does_not_ship_is_refused_wherever_aws_could_answer(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = clients_of(endpoint, monkeypatch)
    with raises("programs-not-shipped", match="ZMANIM_VERSIONS_FILE") as caught:
        programs.check(clients, "x86_64", "v1.2.3")
    assert caught.value.exit_code == 2
    programs.check(clients, programs.SHIPPED, "v1.2.3")


@pytest.mark.parametrize("endpoint", [HERE, "http://127.0.0.1:5000"])
def test_a_cloud_of_one_s_own_may_have_it(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.check(clients_of(endpoint, monkeypatch), "x86_64", "v1.2.3")


def test_what_programs_are_for_is_said_by_the_versions_file_that_the_settings_name(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"programs": {"architecture": "x86_64"}}))
    assert programs.architecture(provenance.versions(tmp_path, Settings(versions_file="other.json"))) == "x86_64"


def test_the_signed_statement_says_what_the_programs_of_an_image_are_for() -> None:
    """Else who takes the tag away would have the image pass for one that ships."""
    tags = {"zmanim:version": "v1.2.3", programs.TAG: "x86_64"}
    made = image.Image("ami-12345678", "zmanim-v1.2.3", "1" * 12, "available", (), tags)
    without = replace(made, tags={"zmanim:version": "v1.2.3"})
    said: list[Any] = [attestation.statement(each, "eu-west-1", "d" * 64) for each in (made, without)]
    assert said[0]["predicate"]["image"]["tags"]["programs"] == "x86_64"
    assert said[0] != said[1]
