"""The AWS API of the cloud: moto's application behind IAM, with errors that clients understand and an account of calls.

moto answers an operation it lacks with an HTML page and status 500, which SDKs retry ten times before they fail to
parse it. Here it is UnsupportedOperation, status 400, in the service's own protocol, at once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from localcloud.api.answers import ErrorAnswer, error_answer
from localcloud.api.audit import Audit, Call
from localcloud.api.calls import Asked, Environ, asked_for
from localcloud.api.repeats import Answer, Answers, attempt

log = logging.getLogger(__name__)
StartResponse = Callable[..., Any]
_JSON_CODE = re.compile(r'"(?:__type|code)"\s*:\s*"(?:[^"#]*#)?([^"]+)"')


class _NoSuchService(Exception):
    """moto has no service for the address that was asked."""


def _create_backend_app(service: Any) -> Any:
    if service is None:
        raise _NoSuchService("there is no such service in it")
    return create_backend_app(service)


class Api:
    """The WSGI application. `refusal` says what IAM refuses a call with, None when it is allowed."""

    def __init__(
        self,
        audit: Audit,
        source_of: Callable[[str], str],
        refusal: Callable[[Environ, Asked], ErrorAnswer | None],
    ) -> None:
        self._moto = DomainDispatcherApplication(_create_backend_app)
        self._audit = audit
        self._source_of = source_of
        self._refusal = refusal
        self._answers = Answers()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request: moto's answer, or an error in its stead, and one line in the account."""
        asked = asked_for(environ)
        made, failure = self._answer(environ, asked)
        self._answers.keep(environ, made)
        status = int(made.status.split()[0])
        error_code = _error_code(made.headers, made.body) if status >= 400 else ""
        source = self._source_of(environ.get("REMOTE_ADDR", ""))
        self._audit.write(
            Call(source, asked.service, asked.operation, status, not failure, error_code, attempt(environ))
        )
        start_response(made.status, made.headers)
        return [made.body]

    def _answer(self, environ: Environ, asked: Asked) -> tuple[Answer, str]:
        """Return the answer to a request and, when moto could not give one, why."""
        if lost := self._answers.lost(environ):
            log.warning("%s %s was answered before, but not heard: the same again", asked.service, asked.operation)
            return lost, ""
        captured: list[Any] = []

        def capture(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
            captured[:] = [status, headers]
            return lambda _data: None

        failure = ""
        body = b""
        try:
            refused = self._refusal(environ, asked)
            body = _send(refused, environ, capture) if refused else b"".join(self._moto(environ, capture))
            if not refused and _is_no_answer(captured[0], captured[1], body):
                failure = f"The local cloud does not emulate {asked.service} {asked.operation}"
        except (NotImplementedError, _NoSuchService) as error:  # the first is moto's signal for what it lacks
            failure = f"The local cloud does not emulate {asked.service} {asked.operation}: {error}"
        except Exception as error:
            log.exception("%s %s", asked.service, asked.operation)
            failure = f"The local cloud failed at {asked.service} {asked.operation}: {error!r} (see its server.log)"
        if failure:
            answer = error_answer(asked.service, environ.get("CONTENT_TYPE", ""), "UnsupportedOperation", failure)
            body = _send(answer, environ, capture)
        return Answer(captured[0], captured[1], body), failure


def _send(answer: ErrorAnswer, environ: Environ, start_response: StartResponse) -> bytes:
    # What the request's body still holds would be taken for the next request of the connection.
    stream, left = environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0)
    chunked = bool(environ.get("wsgi.input_terminated")) and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "")
    while (chunked or left > 0) and (read := stream.read(1 << 16 if chunked else min(left, 1 << 16))):
        left -= len(read)
    body = b"" if environ.get("REQUEST_METHOD") == "HEAD" else answer.body
    start_response(
        f"{answer.status} {HTTPStatus(answer.status).phrase}",
        [*answer.headers.items(), ("Content-Length", str(len(body)))],
    )
    return body


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
