"""The AWS API of the cloud: moto's application, with errors that clients understand and an account of every call.

moto answers an operation it lacks with an HTML page and status 500, which SDKs retry ten times before they fail to
parse it. Here it is UnsupportedOperation, status 400, in the service's own protocol, at once.
"""

from __future__ import annotations

import io
import logging
import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.moto_server.werkzeug_app import SIGNING_ALIASES, DomainDispatcherApplication, create_backend_app

from localcloud.audit import Audit, Call
from localcloud.errors import error_answer

log = logging.getLogger(__name__)
Environ = dict[str, Any]
StartResponse = Callable[..., Any]
_JSON_CODE = re.compile(r'"(?:__type|code)"\s*:\s*"(?:[^"#]*#)?([^"]+)"')
# Bodies that may name the operation are short; everything else is streamed through untouched.
_LONGEST_FORM = 4 << 20


@dataclass(frozen=True)
class Asked:
    """What a request asks for: the service's signing name and the operation, as far as can be told."""

    service: str
    operation: str


def asked_for(environ: Environ) -> Asked:
    """Tell service and operation from a request. A form body is read and put back."""
    service = _service(environ)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return Asked(service, target.rpartition(".")[2])
    if action := _action(environ):
        return Asked(service, action)
    return Asked(service, _routed_operation(service, environ))


def _service(environ: Environ) -> str:
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    scope = environ.get("HTTP_AUTHORIZATION", "") or query.get("X-Amz-Credential", [""])[0]
    # Credential=KEY/20260930/eu-west-1/ec2/aws4_request
    if found := re.search(r"[^/\s]+/\d{8}/[^/]+/([^/]+)/aws4_request", scope):
        name = str(found[1]).lower()
        return str(SIGNING_ALIASES.get(name, name))
    host = str(environ.get("HTTP_HOST", "")).partition(":")[0]
    if found := re.search(r"(?:^|\.)(s3)[.-]", host):
        return "s3"
    if found := re.match(r"([a-z0-9-]+)\.(?:[a-z0-9-]+\.)?amazonaws\.com$", host):
        return str(found[1])
    return "s3"  # moto's own guess for an unsigned request


def _action(environ: Environ) -> str:
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    if "Action" in query:
        return str(query["Action"][0])
    if not environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return ""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if not 0 < length <= _LONGEST_FORM:
        return ""
    body = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    form = urllib.parse.parse_qs(body.decode(errors="replace"))
    return str(form.get("Action", [""])[0])


def _routed_operation(service: str, environ: Environ) -> str:
    """Find a REST operation by method and path, on a copy of the request without its body."""
    bare = {**environ, "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
    if service == "s3":
        bare = _path_style(bare)
    try:
        operation, _ = get_service_router(service).match(Request(bare))
    except Exception:
        return f"{environ.get('REQUEST_METHOD', '')} {environ.get('PATH_INFO', '')}"[:200]
    return str(operation.name)


def _path_style(environ: Environ) -> Environ:
    """Rewrite a virtual-host request (BUCKET.s3.…) to the path style that the router knows."""
    host = environ.get("HTTP_HOST", "").partition(":")[0]
    if found := re.match(r"(.+)\.s3[.-](?:[a-z0-9.-]+\.)?amazonaws\.com$", host):
        return {**environ, "PATH_INFO": f"/{found[1]}{environ.get('PATH_INFO', '/')}"}
    return environ


def _create_backend_app(service: Any) -> Any:
    if service is None:
        raise NotImplementedError("there is no such service in it")
    return create_backend_app(service)


class Api:
    """The WSGI application."""

    def __init__(self, audit: Audit, source_of: Callable[[str], str]) -> None:
        self._moto = DomainDispatcherApplication(_create_backend_app)
        self._audit = audit
        self._source_of = source_of

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request: moto's answer, or an error in its stead, and one line in the account."""
        asked = asked_for(environ)
        captured: list[Any] = []

        def capture(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
            captured[:] = [status, headers]
            return lambda _data: None

        failure = ""
        try:
            body = b"".join(self._moto(environ, capture))
            if _is_no_answer(captured[0], captured[1], body):
                failure = f"The local cloud does not emulate {asked.service} {asked.operation}"
        except NotImplementedError as error:
            failure = f"The local cloud does not emulate {asked.service} {asked.operation}: {error}"
        except Exception as error:
            log.exception("%s %s", asked.service, asked.operation)
            failure = f"The local cloud failed at {asked.service} {asked.operation}: {error!r} (see its server.log)"
        if failure:
            refusal = error_answer(asked.service, environ.get("CONTENT_TYPE", ""), "UnsupportedOperation", failure)
            body = refusal.body
            length = ("Content-Length", str(len(body)))
            captured[:] = [f"{refusal.status} Bad Request", [*refusal.headers.items(), length]]
        status = int(captured[0].split()[0])
        error_code = _error_code(captured[1], body) if status >= 400 else ""
        source = self._source_of(environ.get("REMOTE_ADDR", ""))
        self._audit.write(Call(source, asked.service, asked.operation, status, not failure, error_code))
        start_response(captured[0], captured[1])
        return [body]


def _is_no_answer(status: str, headers: list[tuple[str, str]], body: bytes) -> bool:
    """Say whether this is werkzeug's own page for a path that no moto service has."""
    kind = next((value for name, value in headers if name.lower() == "content-type"), "")
    return (
        status[:3] in {"404", "405", "500"}
        and kind.startswith("text/html")
        and b"<!doctype html>" in body[:100].lower()
    )


def _error_code(headers: list[tuple[str, str]], body: bytes) -> str:
    named = next((value for name, value in headers if name.lower() in {"x-amzn-errortype", "x-amzn-query-error"}), "")
    if named:
        return re.split(r"[;:]", named)[0]
    text = body[:2000].decode(errors="replace")
    found = re.search(r"<Code>([^<]+)</Code>", text) or re.search(
        r'"(?:__type|code)"\s*:\s*"(?:[^"#]*#)?([^"]+)"', text
    )
    return found[1] if found else ""
