"""The image's own client of AWS: signed as botocore signs, bounded in time and size, and silent about secrets."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.aws_server import KEYS, PATH, Server, answering, page
from zmanim_host.aws.client import (
    AwsRefused,
    Credentials,
    Request,
    Session,
    get_object,
    get_parameters_by_path,
    instance_credentials,
    signed_headers,
)
from zmanim_host.aws.imds import Imds
from zmanim_host.host import HostError

# ---- Signatures ----


def botocore_signs(request: Request) -> dict[str, str]:
    credentials = botocore.credentials.Credentials(KEYS.access_key, KEYS.secret_key, KEYS.token)
    signer = {"s3": botocore.auth.S3SigV4Auth, "ssm": botocore.auth.SigV4Auth}[request.service]
    signed = botocore.awsrequest.AWSRequest(
        method=request.method,
        url=f"https://{request.host}{request.path}",
        headers={name: value for name, value in request.headers.items() if name != "x-amz-content-sha256"},
        data=request.body,
    )
    signer(credentials, request.service, "eu-west-1").add_auth(signed)
    return {name.lower(): value for name, value in signed.headers.items()}


def agree(request: Request) -> None:
    theirs = botocore_signs(request)
    now = datetime.strptime(theirs["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = signed_headers(request, KEYS, "eu-west-1", now)
    assert ours["authorization"] == theirs["authorization"]
    assert {name: ours[name] for name in theirs} == theirs


@given(st.binary(max_size=50))
def test_a_call_of_parameter_store_is_signed_as_botocore_signs_it(body: bytes) -> None:
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "AmazonSSM.GetParametersByPath"}
    agree(Request("POST", "ssm", "ssm.eu-west-1.amazonaws.com", "/", headers, body))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_an_object_of_any_name_is_asked_for_as_botocore_signs_it(key: str) -> None:
    signed: list[Request] = []
    with answering(lambda request: (200, b"x")) as server:

        def connect(host: str, timeout: float) -> http.client.HTTPConnection:
            assert host == "zmanim-releases-prod.s3.eu-west-1.amazonaws.com"
            return server.connect(host, timeout)

        get_object(Session("eu-west-1", KEYS, connect), "zmanim-releases-prod", key, BytesIO(), limit=9, seconds=9)
        got = server.requests[0]
        headers = {"x-amz-content-sha256": got.headers["x-amz-content-sha256"]}
        signed.append(Request("GET", "s3", got.headers["host"], got.path, headers, b""))
    agree(signed[0])


def test_keys_are_in_no_text_of_the_credentials() -> None:
    assert "s3cret" not in repr(Session("eu-west-1", KEYS))
    assert "t0ken" not in repr(Session("eu-west-1", KEYS))


def test_a_server_with_a_certificate_that_nobody_signed_is_not_asked() -> None:
    session = Session("eu-west-1", KEYS)
    connection = session.connect("ssm.eu-west-1.amazonaws.com", 5)
    assert isinstance(connection, http.client.HTTPSConnection)
    context = connection._context  # type: ignore[attr-defined]  # what it verifies with has no public name
    assert (context.check_hostname, context.verify_mode.name) == (True, "CERT_REQUIRED")


# ---- Parameter Store ----


def test_every_page_is_read_an_empty_one_with_a_token_too() -> None:
    pages = {None: page({"one": "1"}, "a"), "a": page({}, "b"), "b": page({}, "c"), "c": page({"two": "2\n'"})}
    with answering(lambda request: pages[json.loads(request.body).get("NextToken")]) as server:
        assert get_parameters_by_path(server.session, PATH) == {"one": "1", "two": "2\n'"}
    assert [json.loads(request.body)["Path"] for request in server.requests] == [PATH] * 4
    assert all(json.loads(request.body)["WithDecryption"] for request in server.requests)


def test_pages_without_end_come_to_an_end() -> None:
    with (
        answering(lambda request: page({}, "again")) as server,
        pytest.raises(HostError, match="no end after 100 pages"),
    ):
        get_parameters_by_path(server.session, PATH)


@pytest.mark.incident("SSM errors were taken for an optional secret that is missing")
@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"__type":"ThrottlingException","message":"Rate exceeded"}', "ThrottlingException Rate exceeded"),
        (400, b'{"__type":"com.amazon#AccessDeniedException","Message":"not authorized"}', "AccessDeniedException not"),
        (403, b"<Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
        (500, b"", "500"),
    ],
)
def test_a_refusal_names_the_path_and_aws_s_own_reason(status: int, body: bytes, message: str) -> None:
    with (
        answering(lambda request: (status, body)) as server,
        pytest.raises(AwsRefused, match=f"{PATH}: {message}") as raised,
    ):
        get_parameters_by_path(server.session, PATH)
    assert raised.value.status == status


@pytest.mark.incident("a boot script printed secrets into logs")
@pytest.mark.parametrize("body", [b"{half s3cret", b'{"Parameters": [{"Value": "s3cret"}]}', b'["s3cret"]', b""])
def test_an_answer_that_makes_no_sense_is_refused_without_being_repeated(body: bytes) -> None:
    with (
        answering(lambda request: (200, body)) as server,
        pytest.raises(HostError, match="can't be understood") as raised,
    ):
        get_parameters_by_path(server.session, PATH)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def slowly(*pieces: bytes, pause: float = 0.05) -> Iterator[bytes]:
    """Yield the pieces, and then a byte now and then for ten seconds."""
    for piece in (*pieces, *[b"x"] * int(10 / pause)):
        yield piece
        time.sleep(pause)


@pytest.mark.parametrize(
    "start",
    [(), (b"HTTP/1.1 200 OK\r\n",), (b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n",)],
    ids=["status", "headers", "body"],
)
def test_a_server_that_drips_is_left_at_the_deadline(start: tuple[bytes, ...]) -> None:
    began = time.monotonic()
    with answering(lambda request: slowly(*start)) as server:
        with pytest.raises(HostError, match=r"no whole answer within|no answer"):
            get_parameters_by_path(server.session, PATH, seconds=0.5)
        # Far less than the server would go on for: this is a bound, not a measurement.
        assert time.monotonic() - began < 8


def test_nobody_listening_is_a_reason_and_no_traceback() -> None:
    with answering(lambda request: (200, b"")) as server:
        pass
    with pytest.raises(HostError, match=r"ssm\.eu-west-1\.amazonaws\.com: no answer \(.*refused"):
        get_parameters_by_path(server.session, PATH)


# ---- S3 ----


def fetch(server: Server, *, limit: int = 100, seconds: float = 5.0) -> bytes:
    into = BytesIO()
    size = get_object(server.session, "zmanim-releases-prod", "channel.json", into, limit=limit, seconds=seconds)
    assert size == len(into.getvalue())
    return into.getvalue()


def test_an_object_comes_whole() -> None:
    with answering(lambda request: (200, b"y" * 100)) as server:
        assert fetch(server) == b"y" * 100
    assert server.requests[0].path == "/channel.json"
    assert server.requests[0].headers["host"] == "zmanim-releases-prod.s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (403, "AccessDenied"), (301, "PermanentRedirect")])
def test_a_refused_object_is_told_by_its_name_and_code(status: int, code: str) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    with answering(lambda request: (status, body)) as server, pytest.raises(AwsRefused) as raised:
        fetch(server)
    assert (raised.value.status, raised.value.code) == (status, code)
    assert f"S3 refuses s3://zmanim-releases-prod/channel.json: {code}" in str(raised.value)


def test_an_object_that_is_larger_than_the_limit_is_not_read() -> None:
    with answering(lambda request: (200, b"y" * 101)) as server, pytest.raises(HostError, match="100 are the limit"):
        fetch(server)


def test_a_body_without_end_is_left_at_the_limit() -> None:
    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            yield b"y" * 65536

    with answering(lambda request: endless()) as server, pytest.raises(HostError, match="more than 100 bytes"):
        fetch(server)


def test_a_body_that_ends_early_is_no_object() -> None:
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\nconnection: close\r\n\r\nhalf"
    with (
        answering(lambda request: iter([half])) as server,
        pytest.raises(HostError, match=r"no answer .*86 more expected"),
    ):
        fetch(server)


def test_an_object_that_drips_is_left_at_the_deadline() -> None:
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"
    with answering(lambda request: slowly(start)) as server, pytest.raises(HostError, match="no whole answer within"):
        fetch(server, seconds=0.5)


# ---- The role's keys ----


class Metadata(Imds):
    def get(self, path: str) -> str | None:
        return METADATA.get(path)


METADATA: dict[str, str] = {}
BASE = "meta-data/iam/security-credentials/"


def test_keys_come_from_the_instance_s_role() -> None:
    METADATA.clear()
    keys = {"Code": "Success", "AccessKeyId": "ASIA", "SecretAccessKey": "s3cret", "Token": "t0ken"}
    METADATA.update({BASE: "zmanim-prod-instance\n", BASE + "zmanim-prod-instance": json.dumps(keys)})
    assert instance_credentials(Metadata("", "")) == Credentials("ASIA", "s3cret", "t0ken")


def test_an_instance_without_a_role_is_told_so() -> None:
    METADATA.clear()
    with pytest.raises(HostError, match="has no role"):
        instance_credentials(Metadata("", ""))


def test_unusable_keys_are_named_by_their_role_and_not_repeated() -> None:
    METADATA.clear()
    METADATA.update({BASE: "mine", BASE + "mine": '{"SecretAccessKey": "s3cret"}'})
    with pytest.raises(HostError, match="no usable keys of the role mine") as raised:
        instance_credentials(Metadata("", ""))
    assert "s3cret" not in str(raised.value)
