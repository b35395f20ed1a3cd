from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser
from botocore.session import get_session

from localcloud.api.application import Api
from localcloud.api.calls import ApiCall, parse_call
from localcloud.api.errors import error_response
from localcloud.journal import Journal


def request(service: str, body: str = "", *, method: str = "POST", path: str = "/", **extra: str) -> dict[str, Any]:
    credential = f"LOCALCLOUD0000000000/20261124/eu-west-1/{service}/aws4_request"
    scope = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"
    return {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "HTTP_AUTHORIZATION": scope,
        "HTTP_HOST": f"{service}.eu-west-1.amazonaws.com", "SERVER_NAME": "x", "SERVER_PORT": "443",
        "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(body.encode()), "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8" if body else "", **extra,
    }  # fmt: skip


def form(action: str) -> str:
    return f"Action={action}&Version=2016-11-15"


def json_call(service: str, target: str, kind: str = "application/x-amz-json-1.1") -> dict[str, Any]:
    return request(service, "{}", HTTP_X_AMZ_TARGET=target, CONTENT_TYPE=kind)


def test_service_and_operation_are_told_from_every_kind_of_request() -> None:
    def call(service: str, operation: str) -> ApiCall:
        return ApiCall(service, operation, "eu-west-1", "LOCALCLOUD0000000000")

    assert parse_call(request("ec2", form("RunInstances"))) == call("ec2", "RunInstances")
    assert parse_call(json_call("ssm", "AmazonSSM.GetParameter")) == call("ssm", "GetParameter")
    assert parse_call(request("s3", method="PUT", path="/bucket/some/key")) == call("s3", "PutObject")
    virtual = request("s3", method="GET", path="/key", HTTP_HOST="bucket.s3.eu-west-1.amazonaws.com")
    assert parse_call(virtual) == call("s3", "GetObject")


def test_looking_at_a_form_leaves_it_to_be_read() -> None:
    environ = request("ec2", form("RunInstances"))
    parse_call(environ)
    assert environ["wsgi.input"].read() == form("RunInstances").encode()


@pytest.mark.parametrize(
    ("service", "operation", "content_type"),
    [
        ("ec2", "DescribeFastLaunchImages", "application/x-www-form-urlencoded"),
        ("sts", "GetCallerIdentity", "application/x-www-form-urlencoded"),
        ("iam", "GetUser", "application/x-www-form-urlencoded"),
        ("ssm", "GetParameter", "application/x-amz-json-1.1"),
        ("kms", "Decrypt", "application/x-amz-json-1.1"),
        ("s3", "GetObject", ""),
        ("lambda", "ListFunctions", "application/json"),
        ("cloudwatch", "ListMetrics", "application/cbor"),
    ],
)
def test_an_error_is_understood_by_the_service_s_own_client(service: str, operation: str, content_type: str) -> None:
    """The incident: moto's HTML page made botocore retry ten times and then fail to parse it."""
    made = error_response(service, content_type, "UnsupportedOperation", "a <b> & c")
    model = get_session().get_service_model(service)
    shape = model.operation_model(operation).output_shape
    assert shape is not None
    answer = {"status_code": made.status_code, "headers": HeadersDict(made.headers), "body": made.get_data()}
    protocol = "smithy-rpc-v2-cbor" if "cbor" in content_type else model.resolved_protocol
    parsed = create_parser(protocol).parse(answer, shape)
    assert made.status_code == 400
    assert parsed["Error"]["Code"] == "UnsupportedOperation"
    assert parsed["Error"]["Message"] == "a <b> & c"


@pytest.mark.parametrize(("version", "content_type"), [("ses", "application/x-www-form-urlencoded"), ("sesv2", "")])
def test_both_versions_of_ses_sign_alike_and_each_reads_its_own_errors(version: str, content_type: str) -> None:
    made = error_response("ses", content_type, "AccessDeniedException", "no", 403)
    answer = {"status_code": made.status_code, "headers": HeadersDict(made.headers), "body": made.get_data()}
    service = get_session().get_service_model(version)
    parsed = create_parser(service.resolved_protocol).parse(answer, service.shape_for("SendEmailResponse"))
    assert parsed["Error"] == {"Code": "AccessDeniedException", "Message": "no"} | (
        {"Type": "Sender"} if version == "ses" else {}
    )


def test_a_service_that_no_sdk_knows_still_gets_an_error_and_no_traceback() -> None:
    made = error_response("nonsense", "", "UnsupportedOperation", "no <such> thing")
    assert made.status_code == 400
    assert b"no <such> thing" in made.get_data()


class Call:
    """One call of the application, with what it answered and what the journal says of it."""

    def __init__(self, tmp_path: Path, environ: dict[str, Any], moto: Any = None) -> None:
        api = Api(
            Journal(tmp_path / "api.jsonl"),
            lambda address: "host" if address == "10.212.0.1" else address,
            lambda _environ, _call: None,
            moto,
        )
        self.status = ""
        self.body = b"".join(api({**environ, "REMOTE_ADDR": "10.212.0.1"}, self._start))
        self.entry = json.loads((tmp_path / "api.jsonl").read_text())

    def _start(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status = status


def test_an_operation_that_moto_lacks_is_refused_at_once_and_recorded(tmp_path: Path) -> None:
    call = Call(tmp_path, request("ec2", form("DescribeFastLaunchImages")))
    assert call.status.startswith("400")
    assert b"<Code>UnsupportedOperation</Code>" in call.body
    expected = {"source": "host", "service": "ec2", "operation": "DescribeFastLaunchImages", "status": 400}
    assert expected.items() <= call.entry.items()
    assert (call.entry["emulated"], call.entry["error"]) == (False, "UnsupportedOperation")


def test_a_service_that_moto_lacks_is_refused_too(tmp_path: Path) -> None:
    call = Call(tmp_path, json_call("nosuchservice", "Nothing.DoIt"))
    assert call.status.startswith("400")
    assert b"there is no such service" in call.body
    assert call.entry["emulated"] is False


def test_a_bug_in_the_emulation_is_refused_at_once_and_not_retried_as_an_outage(tmp_path: Path) -> None:
    def broken(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        raise KeyError("inside")

    call = Call(tmp_path, request("ec2", form("DescribeInstances")), broken)
    assert call.status.startswith("400")
    assert b"server.log" in call.body
    assert b"KeyError" not in call.body


def test_an_ordinary_call_is_moto_s_own_answer(tmp_path: Path) -> None:
    call = Call(tmp_path, request("sts", "Action=GetCallerIdentity&Version=2011-06-15"))
    assert call.status.startswith("200")
    assert b"<Account>123456789012</Account>" in call.body
    assert (call.entry["emulated"], call.entry["error"]) == (True, "")
    assert call.entry["operation"] == "GetCallerIdentity"


def test_aws_s_own_errors_are_recorded_as_emulated(tmp_path: Path) -> None:
    environ = json_call("ssm", "AmazonSSM.GetParameter")
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(b'{"Name": "/none"}'), "17"
    call = Call(tmp_path, environ)
    assert (call.entry["emulated"], call.entry["error"]) == (True, "ParameterNotFound")


@pytest.mark.incident("an answer was lost, Packer asked again, and its security group was refused as a duplicate")
def test_a_call_whose_answer_was_lost_gets_it_when_it_is_made_again_and_does_nothing_twice(tmp_path: Path) -> None:
    done: list[str] = []

    def create(_environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        done.append("created")
        start("200 OK", [("Content-Type", "text/xml")])
        return [b"<groupId>sg-%d</groupId>" % len(done)]

    api = Api(Journal(tmp_path / "api.jsonl"), str, lambda _environ, _call: None, create)

    def call(invocation: str, attempt: int) -> bytes:
        environ = request("ec2", f"{form('CreateSecurityGroup')}&GroupName=g&GroupDescription=d")
        environ["HTTP_AMZ_SDK_INVOCATION_ID"] = invocation
        environ["HTTP_AMZ_SDK_REQUEST"] = f"attempt={attempt}; max=10"
        return b"".join(api(environ, lambda _status, _headers: None))

    assert call("one", 1) == call("one", 2) == b"<groupId>sg-1</groupId>"
    assert call("two", 1) == b"<groupId>sg-2</groupId>"
    # What was never answered, or refused, is done when it is asked for again.
    assert call("three", 2) == b"<groupId>sg-3</groupId>"
    attempts = [json.loads(line)["attempt"] for line in (tmp_path / "api.jsonl").read_text().splitlines()]
    assert attempts == [1, 2, 1, 2]


def test_a_call_that_was_refused_is_decided_anew_when_it_is_made_again(tmp_path: Path) -> None:
    statuses = iter(["503 Slow Down", "200 OK"])

    def moto(_environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        start(next(statuses), [])
        return [b""]

    api = Api(Journal(tmp_path / "api.jsonl"), str, lambda _environ, _call: None, moto)
    seen: list[str] = []
    for attempt in (1, 2):
        environ = request("ec2", f"{form('CreateSecurityGroup')}&GroupName=g&GroupDescription=d")
        environ["HTTP_AMZ_SDK_INVOCATION_ID"], environ["HTTP_AMZ_SDK_REQUEST"] = "one", f"attempt={attempt}"
        b"".join(api(environ, lambda status, _headers: seen.append(status)))
    assert seen == ["503 Slow Down", "200 OK"]
