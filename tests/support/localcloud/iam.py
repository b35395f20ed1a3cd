"""The cloud's API with IAM, in this process: boto3's requests are handed to it without a socket."""

from __future__ import annotations

import io
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest import mock

import boto3
import botocore.exceptions
import botocore.session
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.credentials import Credentials
from moto.core.utils import utcnow
from moto.moto_api._internal.models import moto_api_backend
from moto.sts.models import sts_backends

from localcloud.api.admission import Admission
from localcloud.api.application import Api
from localcloud.api.patches import apply
from localcloud.ec2 import account_settings, image_attributes
from localcloud.faults.injection import Faults
from localcloud.iam import boundaries, resource_policies, temporary
from localcloud.iam.authorization import Authorizer
from localcloud.journal import Journal
from localcloud.services import iam_documents, kms, kms_keys, s3, s3_access
from localcloud.settings import ACCOUNT, KEY_PREFIX, SECRET, Cloud, ended_sessions

REGION = "eu-west-1"
KEY = f"{KEY_PREFIX}00112233445566778899AABBCCDDEEFF"
INSTANCE_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    ],
}
# As botocore takes an answer from a handler: the HTTP response, and what it was parsed to.
_OUT_OF_THE_SANDBOX = SimpleNamespace(status_code=200), {"ResponseMetadata": {}, "ProductionAccessEnabled": True}


@dataclass(frozen=True)
class IamLab:
    """The API, the clients of whoever owns the cloud, and those of roles; `whole` when the API is that of a cloud."""

    api: Api
    directory: Path
    whole: bool = False

    def client(
        self,
        service: str,
        credentials: Mapping[str, str] | None = None,
        region: str = REGION,
        config: Config | None = None,
    ) -> Any:
        """Return a client; without `credentials` the owner's."""
        session = boto3.session.Session(
            botocore_session=_session(),
            aws_access_key_id=credentials["AccessKeyId"] if credentials else KEY,
            aws_secret_access_key=credentials["SecretAccessKey"] if credentials else SECRET,
            aws_session_token=credentials.get("SessionToken") if credentials else None,
            region_name=region,
        )
        client = session.client(service, config=config)  # type: ignore[call-overload]  # its overloads want a literal
        client.meta.events.register("before-send", self._send)
        if service == "sesv2" and not self.whole:
            # The cloud's SES is not part of this lab, and moto lacks the operation.
            client.meta.events.register("before-call.sesv2.GetAccount", lambda **_: _OUT_OF_THE_SANDBOX)
        return client

    def role(self, name: str, *statements: Mapping[str, Any], trust: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Make a role with one inline policy `p` and return credentials of a session of it."""
        iam = self.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust or INSTANCE_TRUST))
        self.policy(name, *statements)
        return self.session(name)

    def policy(self, role: str, *statements: Mapping[str, Any]) -> None:
        """Give a role these statements and no others."""
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        self.client("iam").put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=document)

    def session(self, role: str) -> dict[str, str]:
        """Return credentials of a session of a role."""
        credentials: dict[str, str] = self.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName="i-0123456789abcdef0"
        )["Credentials"]
        return credentials

    def session_of_instance(self, role: str) -> dict[str, str]:
        """Return credentials as an instance with this role gets them from its metadata service."""
        made = sts_backends[ACCOUNT]["aws"].assume_role(
            region_name=REGION,
            role_session_name="i-0123456789abcdef0",
            role_arn=f"arn:aws:iam::{ACCOUNT}:role/{role}",
            policy="",
            duration=3600,
            external_id="",
        )
        return {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret_access_key,
            "SessionToken": made.session_token,
        }

    def decisions(self) -> list[dict[str, Any]]:
        """Return what the record of decisions holds."""
        path = self.directory / "authorization.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def send(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Make a request as a machine does, whatever is in it; return status, headers and content of the answer."""
        parts = urllib.parse.urlsplit(url)
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": urllib.parse.unquote(parts.path, "latin-1"),
            "RAW_URI": f"{parts.path}?{parts.query}" if parts.query else parts.path,
            "QUERY_STRING": parts.query,
            "SERVER_NAME": "x",
            "SERVER_PORT": "443",
            "HTTP_HOST": parts.netloc,
            "REMOTE_ADDR": "10.0.0.1",
            "wsgi.url_scheme": "https",
            "wsgi.input": _Connection(body),
            "CONTENT_LENGTH": str(len(body)),
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
        if environ.get("HTTP_TRANSFER_ENCODING") == "chunked":  # as the server has it: its end is known
            environ |= {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
        started: list[Any] = []
        content = b"".join(self.api(environ, lambda status, headers, *_: started.extend((status, headers))))
        return int(started[0].split()[0]), HTTPHeaders.from_dict(dict(started[1])), content

    def _send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        source: Any = request.body or b""
        body = source.read() if hasattr(source, "read") else source
        body = body.encode() if isinstance(body, str) else body
        raw: dict[str, Any] = dict(request.headers.items())
        headers = {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in raw.items()}
        try:
            status, answered, content = self.send(request.method, request.url, body, headers)
        except ConnectionResetError as error:
            raise botocore.exceptions.ConnectionClosedError(endpoint_url=request.url) from error
        return AWSResponse(request.url, status, answered, _Raw(content))


def signed(
    credentials: Mapping[str, str],
    service: str,
    request: tuple[str, str, bytes],
    headers: Mapping[str, str] = MappingProxyType({}),
    region: str = REGION,
) -> dict[str, str]:
    """Return the headers of a request (method, address, body) with its signature, which covers them all."""
    method, url, body = request
    keys = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials.get("SessionToken"))
    version_4: Any = SigV4Auth
    auth: Any = (S3SigV4Auth if service == "s3" else SigV4Auth)(keys, service, region)
    made = AWSRequest(method, url, headers=dict(headers), data=body)
    made.context["timestamp"] = utcnow().strftime("%Y%m%dT%H%M%SZ")
    version_4._modify_request_before_signing(auth, made)
    if service == "s3" and "X-Amz-Content-SHA256" not in made.headers:
        made.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    signature = auth.signature(auth.string_to_sign(made, auth.canonical_request(made)), made)
    auth._inject_signature_to_request(made, signature)
    return {name: str(value) for name, value in made.headers.items()}


@cache
def _loader() -> Any:
    return botocore.session.get_session().get_component("data_loader")


def _session() -> Any:
    # One loader for all clients: to parse a service's model anew for each would take most of the tests' time.
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    return session


class _Connection(io.BytesIO):
    """A connection that stays open: who reads more than the request has would wait for ever, and fails here."""

    def read(self, size: int | None = -1, /) -> bytes:
        self._expect(size if size is not None else -1)
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        self._expect(len(buffer))
        return super().readinto(buffer)

    def _expect(self, size: int) -> None:
        if not 0 <= size <= len(self.getbuffer()) - self.tell():
            raise AssertionError("this would wait for what nobody sends")


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@contextmanager
def iam_lab(directory: Path, clock: Callable[[], float] = time.monotonic) -> Iterator[IamLab]:
    """Start with an empty account, and the day that bad_day.write(directory, …) gives it."""
    # Not moto's hundreds of images, which no test is about.
    with mock.patch.dict(os.environ, {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}):
        moto_api_backend.reset()
        faults = Faults(directory, clock)
        apply(resource_policies, boundaries, temporary, account_settings, image_attributes, faults.late)
        apply(iam_documents, kms, kms_keys, s3, s3_access)
        authorizer = Authorizer(Journal(directory / "authorization.jsonl"), REGION, KEY, ended_sessions(directory))
        admission = Admission(Cloud("default", REGION, directory, 7, KEY))
        journal = Journal(directory / "api.jsonl")
        api = Api(journal, str, authorizer.refusal, admission=admission.refusal, faults=faults)
        yield IamLab(api, directory)
        moto_api_backend.reset()


def refused(call: Any, *arguments: Any, **parameters: Any) -> str:
    """Make a call that has to be refused; return AWS's code."""
    try:
        call(*arguments, **parameters)
    except botocore.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    raise AssertionError("it was allowed")
