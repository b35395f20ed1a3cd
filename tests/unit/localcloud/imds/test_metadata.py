from __future__ import annotations

import dataclasses
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.wrappers import Response

from localcloud.imds.metadata import InstanceMetadata, Tokens, hop_limit, respond

METADATA = InstanceMetadata(
    instance_id="i-0123456789abcdef0", image_id="ami-0123456789abcdef0", instance_type="t4g.small", region="eu-west-1",
    zone="eu-west-1a", architecture="arm64", account="123456789012", address="10.213.0.10", mac="06:ec:0a:d5:00:0a",
    hostname="ip-10-213-0-10.eu-west-1.compute.internal", launched="2026-11-24T00:00:00Z",
    security_groups=("default",), subnet_id="subnet-1", vpc_id="vpc-1", block_devices={"root": "/dev/xvda"},
    tags={"Name": "a name", "zmanim:environment": "verify"},
    tokens_required=True, hop_limit=2, enabled=True, tags_enabled=False,
)  # fmt: skip


class Service:
    """The service as one instance sees it, with a clock that stands still."""

    def __init__(self, metadata: InstanceMetadata) -> None:
        self.metadata = metadata
        self.now = 1000.0
        self.tokens = Tokens(lambda: self.now)

    def ask(self, method: str, path: str, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return respond(self.metadata, self.tokens, method, path, named)

    def token(self, ttl: str = "60") -> str:
        return self.ask("PUT", "/latest/api/token", x_aws_ec2_metadata_token_ttl_seconds=ttl).get_data(as_text=True)

    def read(self, path: str) -> Response:
        return self.ask("GET", path, x_aws_ec2_metadata_token=self.token())


def service(**changes: Any) -> Service:
    return Service(dataclasses.replace(METADATA, **changes))


def test_without_a_token_the_answer_is_401_where_tokens_are_required_and_the_content_where_not() -> None:
    path = "/latest/meta-data/instance-id"
    assert service().ask("GET", path).status_code == 401
    assert service(tokens_required=False).ask("GET", path).data == b"i-0123456789abcdef0"


def test_a_token_opens_the_tree_until_it_expires_and_only_for_its_instance() -> None:
    here, other = service(), service(instance_id="i-other")
    other.tokens = here.tokens
    token = here.token("60")
    ask = {"x_aws_ec2_metadata_token": token}
    assert here.ask("GET", "/latest/meta-data/instance-id", **ask).status_code == 200
    assert other.ask("GET", "/latest/meta-data/instance-id", **ask).status_code == 401
    here.now += 60
    assert here.ask("GET", "/latest/meta-data/instance-id", **ask).status_code == 401


@pytest.mark.incident("a token was lost when two machines asked at once, and a backup found no credentials")
def test_no_token_is_lost_when_many_ask_at_once() -> None:
    one = service()
    lost: list[str] = []

    def ask() -> None:
        for _ in range(200):
            token = one.token("21600")
            if not one.tokens.accepts("i-0123456789abcdef0", token):
                lost.append(token)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(ask) for _ in range(8)]:
                future.result()
    finally:
        sys.setswitchinterval(interval)
    assert lost == []


def test_a_wrong_token_is_refused_even_where_none_is_required() -> None:
    assert (
        service(tokens_required=False).ask("GET", "/latest/meta-data/", x_aws_ec2_metadata_token="x").status_code == 401
    )


@pytest.mark.parametrize("ttl", ["", "0", "21601", "-1", "ten", "1e3", "９"])
def test_a_token_needs_a_time_to_live_of_1_to_21600_seconds(ttl: str) -> None:
    response = service().ask("PUT", "/latest/api/token", x_aws_ec2_metadata_token_ttl_seconds=ttl)
    assert response.status_code == 400
    assert service().ask("PUT", "/latest/api/token").status_code == 400


def test_the_answer_with_the_token_travels_only_as_far_as_the_hop_limit() -> None:
    metadata = service(hop_limit=1).metadata
    assert hop_limit(metadata, "PUT") == 1
    assert hop_limit(metadata, "GET") == 64


def test_a_token_is_not_given_through_a_proxy() -> None:
    response = service().ask(
        "PUT", "/latest/api/token", x_aws_ec2_metadata_token_ttl_seconds="60", x_forwarded_for="10.0.0.1"
    )
    assert response.status_code == 403


def test_a_disabled_endpoint_answers_nothing_but_403() -> None:
    assert service(enabled=False).ask("GET", "/latest/meta-data/").status_code == 403
    assert (
        service(enabled=False).ask("PUT", "/latest/api/token", x_aws_ec2_metadata_token_ttl_seconds="60").status_code
        == 403
    )


def test_tags_are_there_only_when_the_launch_asked_for_them() -> None:
    assert service().read("/latest/meta-data/tags/instance/Name").status_code == 404
    assert "tags/" not in service().read("/latest/meta-data/").data.decode().split("\n")
    shown = service(tags_enabled=True)
    assert shown.read("/latest/meta-data/tags/instance/").data == b"Name\nzmanim:environment"
    assert shown.read("/latest/meta-data/tags/instance/zmanim:environment").data == b"verify"


def test_user_data_is_404_when_there_is_none_and_else_the_bytes_that_were_sent() -> None:
    assert service().read("/latest/user-data").status_code == 404
    assert service(user_data=b"\x1f\x8b\x00").read("/latest/user-data").data == b"\x1f\x8b\x00"


def test_a_role_s_credentials_are_asked_for_only_when_they_are_read() -> None:
    requested: list[bool] = []

    def credentials() -> dict[str, str]:
        requested.append(True)
        return {"AccessKeyId": "key"}

    here = service(role="reader", profile_arn="arn", credentials=credentials)
    assert here.read("/latest/meta-data/iam/security-credentials/").data == b"reader"
    assert requested == []
    assert json.loads(here.read("/latest/meta-data/iam/security-credentials/reader").data) == {"AccessKeyId": "key"}
    assert json.loads(here.read("/latest/meta-data/iam/info").data)["InstanceProfileArn"] == "arn"


def test_without_a_role_there_is_no_iam_directory() -> None:
    assert service().read("/latest/meta-data/iam/security-credentials/").status_code == 404


def test_keys_are_listed_with_their_names_and_read_by_their_numbers() -> None:
    here = service(public_key="ssh-ed25519 AAAA someone\n", key_name="someone")
    assert here.read("/2021-03-23/meta-data/public-keys/").data == b"0=someone"
    assert here.read("/2021-03-23/meta-data/public-keys/0/openssh-key").data == b"ssh-ed25519 AAAA someone"


def test_any_version_that_ever_was_has_the_tree_and_nothing_else_has() -> None:
    for version in ("latest", "1.0", "2009-04-04", "2021-03-23"):
        assert service().read(f"/{version}/meta-data/local-ipv4").data == b"10.213.0.10"
    assert service().read("/newest/meta-data/local-ipv4").status_code == 404
    assert b"latest" in service().read("/").data


def test_what_is_not_there_is_404_as_for_spot_instances() -> None:
    for path in ("spot/instance-action", "nothing", "instance-id/deeper", "../../etc/passwd"):
        assert service().read(f"/latest/meta-data/{path}").status_code == 404


def test_directories_are_listed_with_a_slash_as_cloud_init_walks_them() -> None:
    listed = service().read("/latest/meta-data/").data.decode().split("\n")
    assert {"instance-id", "placement/", "network/"} <= set(listed)
    document = json.loads(service().read("/latest/dynamic/instance-identity/document").data)
    assert (document["region"], document["accountId"]) == ("eu-west-1", "123456789012")


def test_only_reading_is_allowed() -> None:
    assert service().ask("POST", "/latest/meta-data/").status_code == 405
    assert service().ask("GET", "/latest/api/token").status_code == 405
