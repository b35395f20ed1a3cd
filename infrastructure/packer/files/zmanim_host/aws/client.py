"""What the image asks of AWS while it boots: Parameter Store and S3, with the instance's role.

Not the AWS CLI: its process alone takes longer to start than all that is asked here, on the way to every boot's first
answer. It is in the image for people and for scripts that nobody waits for.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from io import BytesIO
from typing import BinaryIO
from urllib.parse import quote

from zmanim_host.aws.imds import Imds
from zmanim_host.host import HostError

EMPTY = hashlib.sha256(b"").hexdigest()
# Of an answer that is held in memory: 10 parameters of 8 KiB each, or an error, is far below.
ANSWER_BYTES = 1 << 20
PAGES = 100
_CHUNK = 1 << 16

# Opens a connection to a host, with a limit in seconds for each of its steps.
Connect = Callable[[str, float], http.client.HTTPConnection]


class AwsRefused(HostError):
    """AWS answered, and said no. `status` is HTTP's, `code` AWS's own word, or "" when there was none."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Credentials:
    """Keys of the instance's role; they end within hours, so that they are asked for when they are needed."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)


def https(host: str, timeout: float) -> http.client.HTTPConnection:
    """Return a connection by TLS that trusts what the system trusts; no proxy of the environment is used."""
    return http.client.HTTPSConnection(host, timeout=timeout, context=ssl.create_default_context())


@dataclass(frozen=True)
class Session:
    """Who asks, and where."""

    region: str
    credentials: Credentials
    connect: Connect = https


def instance_credentials(imds: Imds) -> Credentials:
    """Return the keys of the instance's role; HostError when it has none."""
    base = "meta-data/iam/security-credentials/"
    role = (imds.get(base) or "").strip()
    if not role:
        raise HostError("this instance has no role: launch it with its environment's instance profile")
    answer = imds.get(base + role) or ""
    try:
        keys = json.loads(answer)
        return Credentials(_text(keys["AccessKeyId"]), _text(keys["SecretAccessKey"]), _text(keys["Token"]))
    except (ValueError, KeyError, TypeError):
        raise HostError(f"the metadata service has no usable keys of the role {role}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


# ---- Parameter Store ----


def get_parameters_by_path(session: Session, path: str, *, seconds: float = 20.0) -> dict[str, str]:
    """Return every parameter at `path` (such as /zmanim/prod/), decrypted, by its name without the path.

    It follows every page; one may be empty and yet not the last. `seconds` is for all of them together.
    Raises AwsRefused and HostError; neither holds a value.
    """
    deadline = time.monotonic() + seconds
    values: dict[str, str] = {}
    token = ""
    for _page in range(PAGES):
        query = {"Path": path, "WithDecryption": True, "MaxResults": 10, **({"NextToken": token} if token else {})}
        request = Request(
            method="POST",
            service="ssm",
            host=f"ssm.{session.region}.amazonaws.com",
            path="/",
            headers={"content-type": "application/x-amz-json-1.1", "x-amz-target": "AmazonSSM.GetParametersByPath"},
            body=json.dumps(query).encode(),
        )
        content = BytesIO()
        remaining = deadline - time.monotonic()
        ask(session, request, f"Parameter Store refuses {path}", content, limit=ANSWER_BYTES, seconds=remaining)
        token = read_page(content.getvalue(), path, values)
        if not token:
            return values
    raise HostError(f"Parameter Store's answer for {path} has no end after {PAGES} pages")


def read_page(content: bytes, path: str, values: dict[str, str]) -> str:
    """Add a page's parameters to `values`; return the token of the next page, or nothing after the last one."""
    try:
        page = json.loads(content)
        values.update((_text(item["Name"])[len(path) :], _text(item["Value"])) for item in page["Parameters"])
        return page.get("NextToken") or ""
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HostError(f"Parameter Store's answer for {path} can't be understood") from None


# ---- S3 ----


def get_object(session: Session, bucket: str, key: str, into: BinaryIO, *, limit: int, seconds: float) -> int:
    """Copy an object into a file and return its size in bytes, which is at most `limit`.

    `seconds` is for all of it, however slowly the bytes come. What is in `into` after an error is not to be used.
    Raises AwsRefused (404 when there is none and the role may list the bucket, else 403) and HostError.
    """
    request = Request(
        method="GET",
        service="s3",
        host=f"{bucket}.s3.{session.region}.amazonaws.com",
        path="/" + quote(key, safe="/-._~"),
        headers={"x-amz-content-sha256": EMPTY},
        body=b"",
    )
    return ask(session, request, f"S3 refuses s3://{bucket}/{key}", into, limit=limit, seconds=seconds)


# ---- Requests ----


@dataclass(frozen=True)
class Request:
    """A request that is to be signed. `path` is percent-encoded; `headers` have lower-case names."""

    method: str
    service: str
    host: str
    path: str
    headers: Mapping[str, str]
    body: bytes


def signed_headers(request: Request, credentials: Credentials, region: str, now: datetime) -> dict[str, str]:
    """Return the request's headers with the ones that Signature Version 4 adds; `now` is in UTC."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {
        **request.headers,
        "host": request.host,
        "x-amz-date": stamp,
        "x-amz-security-token": credentials.token,
    }
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [
            request.method,
            request.path,
            "",
            *(f"{name}:{headers[name].strip()}" for name in sorted(headers)),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    scope = f"{stamp[:8]}/{region}/{request.service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


def ask(session: Session, request: Request, refusal: str, into: BinaryIO, *, limit: int, seconds: float) -> int:
    """Send a request, copy its answer into a file and return the size; AwsRefused, which begins with `refusal`."""
    with exchange(session, request, seconds) as answer:
        if answer.status == 200:
            return copy(answer, into, limit)
        error = BytesIO()
        copy(answer, error, ANSWER_BYTES)
        code, message = _code_and_message(error.getvalue())
        raise AwsRefused(f"{refusal}: {code or answer.status} {message}".strip(), answer.status, code)


def _code_and_message(body: bytes) -> tuple[str, str]:
    """Return AWS's word for an error, and its message if there is one: S3 says it in XML, Parameter Store in JSON."""
    code = re.search(rb"<Code>(\w+)</Code>", body)
    if code:
        return code[1].decode("ascii"), ""
    try:
        error = json.loads(body)
        return str(error.get("__type", "")).rpartition("#")[2], str(error.get("message") or error.get("Message") or "")[
            :300
        ]
    except (ValueError, AttributeError):
        return "", ""


@contextmanager
def exchange(session: Session, request: Request, seconds: float) -> Iterator[http.client.HTTPResponse]:
    """Send a request and give its answer, which has to be read within `seconds` from now.

    A time limit of a socket is one for each read: a server that sends a byte now and then would never meet it. So the
    connection is cut at the deadline. Raises HostError: not reached, not in time, or no HTTP.
    """
    deadline = time.monotonic() + seconds
    late = threading.Event()
    timer: threading.Timer | None = None
    connection = session.connect(request.host, max(seconds, 0.001))
    try:
        connection.connect()
        timer = threading.Timer(max(deadline - time.monotonic(), 0), _cut, (connection.sock, late))
        timer.daemon = True
        timer.start()
        headers = signed_headers(request, session.credentials, session.region, datetime.now(timezone.utc))
        connection.request(request.method, request.path, body=request.body or None, headers=headers)
        with closing(connection.getresponse()) as answer:
            yield answer
        if late.is_set():
            raise TimeoutError
    except (OSError, http.client.HTTPException) as error:
        if late.is_set() or isinstance(error, (TimeoutError, socket.timeout)):
            raise HostError(f"{request.host}: no whole answer within {seconds:.3g} s") from error
        raise HostError(f"{request.host}: no answer ({str(error) or type(error).__name__})") from error
    finally:
        if timer is not None:
            timer.cancel()
        connection.close()


def _cut(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    try:
        # Not SSLSocket's own: that takes its TLS state away beneath the thread that reads.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


def copy(answer: http.client.HTTPResponse, into: BinaryIO, limit: int) -> int:
    """Copy an answer's body and return its size in bytes; HostError when it is longer than `limit`, or ends early."""
    promised = answer.length
    if promised is not None and promised > limit:
        raise HostError(f"an answer of {promised} bytes, and {limit} are the limit")
    size = 0
    while chunk := answer.read1(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise HostError(f"an answer of more than {limit} bytes, which are the limit")
        into.write(chunk)
    if promised is not None and size < promised:
        raise http.client.IncompleteRead(b"", promised - size)
    return size
