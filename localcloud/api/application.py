"""The AWS API of the cloud: moto's application behind IAM, with errors that clients understand and a journal of calls.

moto answers an operation it lacks with an HTML page and status 500, which SDKs retry ten times before they fail to
parse it. Here it is UnsupportedOperation, status 400, in the service's own protocol, at once.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from localcloud.api import calls, form_upload
from localcloud.api.calls import ApiCall, for_moto, parse_call
from localcloud.api.checks import check
from localcloud.api.errors import error_response
from localcloud.api.one_form import Environ, RequestRefused, service_named
from localcloud.api.pagination import Pages
from localcloud.api.patches import apply
from localcloud.api.retries import RecentResponses, attempt
from localcloud.journal import Journal
from localcloud.settings import ADDRESS_PATH

log = logging.getLogger(__name__)


def _create_backend_app(service: Any) -> Any:
    if service is None:
        raise NotImplementedError("there is no such service in it")
    return create_backend_app(service)


class Faults(Protocol):
    """What goes wrong though nobody has done wrong (localcloud.faults)."""

    def refusal(self, environ: Environ, call: ApiCall) -> Response | None:
        """Return what a call is refused with, None when it is let on."""

    def carry_out(self, environ: Environ, call: ApiCall, work: Callable[[], Response]) -> Response:
        """Return what `work`, moto's part of a call, answers."""

    def loses(self, environ: Environ, call: ApiCall, response: Response) -> bool:
        """Say whether this answer is not to arrive."""


# S3's operations are told apart by a word of the query or a header, and moto passes over those that it does not know:
# a list of a bucket's metrics is a list of its objects there, and a new annotation a new object.
_CONFIGURATIONS = {
    *("BucketAnalytics", "BucketIntelligentTiering", "BucketMetrics", "BucketMetadata", "BucketMetadataTable"),
}
_TAKEN_FOR_ANOTHER = {
    *(f"{verb}{each}Configuration" for verb in ("Create", "Delete", "Get", "Put") for each in _CONFIGURATIONS),
    *(f"List{each}Configurations" for each in _CONFIGURATIONS),
    *(f"{verb}ObjectAnnotation" for verb in ("Delete", "Get", "Put")),
    *(
        "CreateSession",
        "DeleteBucketInventoryConfiguration",
        "GetBucketAbac",
        "PutBucketAbac",
        "GetBucketRequestPayment",
    ),
    *(
        "PutBucketRequestPayment",
        "GetObjectRetention",
        "GetObjectTorrent",
        "ListDirectoryBuckets",
        "ListObjectAnnotations",
    ),
    *("RenameObject", "UpdateObjectEncryption", "WriteGetObjectResponse"),
}


class Api:
    """The WSGI application.

    `admission` returns what a call is refused with before anything is made of it, `refusal` what IAM refuses it with,
    each None when it is let on; `moto` is the application behind them, `faults` what goes wrong with it. The
    journal's entries say who called (`source`: "host" or an instance id), what, and how it was answered: `emulated` is
    false for an operation that the cloud lacks or failed at, `error` is AWS's code or "", `attempt` which of its SDK's
    attempts at one call this is, from 1; `lost` that the answer was not sent.
    """

    def __init__(
        self,
        journal: Journal,
        source_of: Callable[[str], str],
        refusal: Callable[[Environ, ApiCall], Response | None],
        moto: Callable[[Environ, Any], Iterable[bytes]] | None = None,
        *,
        admission: Callable[[Environ, ApiCall], Response | None] = lambda _environ, _call: None,
        faults: Faults | None = None,
    ) -> None:
        self._journal = journal
        self._source_of = source_of
        self._refusal = refusal
        self._admission = admission
        apply(calls)
        self._moto = moto or DomainDispatcherApplication(_create_backend_app)
        self._recent = RecentResponses()
        self._pages = Pages()
        self._faults = faults

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Serve one request: moto's response or an error in its stead, and one entry in the journal."""
        if environ.get("PATH_INFO") == ADDRESS_PATH and environ.get("REQUEST_METHOD") == "GET":
            return Response(f"{environ.get('REMOTE_ADDR', '')}\n", mimetype="text/plain")(environ, start_response)
        environ["wsgi.input"] = get_input_stream(environ)
        call = ApiCall("", "")  # what can be read in two ways is no call at all
        lost = False
        try:
            call = parse_call(environ)
            response, emulated = self._respond(environ, call)
            response = form_upload.answer(environ, response)
            lost = self._faults is not None and self._faults.loses(environ, call, response)
            if not lost:
                self._recent.remember(environ, call, response)
        except RequestRefused as refused:
            kind, emulated = str(environ.get("CONTENT_TYPE", "")), True
            service = call.service or service_named(environ)
            response = error_response(service, kind, refused.code, str(refused), refused.status)
        # What nobody has read of the body would be taken for the next request of the connection.
        while environ["wsgi.input"].read(1 << 16):
            pass
        self._journal.append(
            {
                "time": round(time.time(), 3),
                "source": self._source_of(environ.get("REMOTE_ADDR", "")),
                "service": call.service,
                "operation": call.operation,
                "status": response.status_code,
                "emulated": emulated,
                "error": _error_code(response) if response.status_code >= 400 else "",
                "attempt": attempt(environ),
                **({"lost": True} if lost else {}),
            }
        )
        if lost:
            _hang_up(environ)
        return response(environ, start_response)

    def _respond(self, environ: Environ, call: ApiCall) -> tuple[Response, bool]:
        """Return the response to a call, and whether the cloud could do what was asked."""
        name = f"{call.service} {call.operation}"
        if refused := self._admission(environ, call):
            return refused, True
        failure = f"The local cloud does not emulate {name}"
        try:
            if self._faults and (hit := self._faults.refusal(environ, call)):
                return hit, True
            if refused := self._refusal(environ, call):
                return refused, True
            # Whoever asks again is asked for their rights again: the answer is theirs alone while they have them.
            if recent := self._recent.of_earlier_attempt(environ, call):
                log.warning("%s was answered before, but the response was lost: the same again", name)
                return recent, True
            if " " in call.operation:
                raise NotImplementedError("no operation that is known here is asked for so")
            if call.service == "s3" and call.operation in _TAKEN_FOR_ANOTHER:
                raise NotImplementedError("moto would take it for another operation")
            check(environ, call, self._pages)
            response = self._carried_out(environ, call)
            self._pages.note(call, response)
            if not _is_werkzeugs_page(response):
                return response, True
        except RequestRefused:
            raise
        except NotImplementedError as error:  # moto's signal for what it lacks
            failure += f": {error}"
        except Exception:
            log.exception("%s", name)
            failure = f"The local cloud failed at {name}: see {self._journal.path.with_name('server.log')}"
        return error_response(call.service, environ.get("CONTENT_TYPE", ""), "UnsupportedOperation", failure), False

    def _carried_out(self, environ: Environ, call: ApiCall) -> Response:
        def work() -> Response:
            return Response.from_app(self._moto, for_moto(environ, call), buffered=True)

        return self._faults.carry_out(environ, call, work) if self._faults else work()


def _is_werkzeugs_page(response: Response) -> bool:
    """Say whether this is werkzeug's own page for a path that no moto service has."""
    return (
        response.status_code in {404, 405, 500}
        and response.mimetype == "text/html"
        and b"<!doctype html>" in response.get_data()[:100].lower()
    )


def _error_code(response: Response) -> str:
    named = response.headers.get("x-amzn-errortype") or response.headers.get("x-amzn-query-error")
    if named:
        return re.split(r"[;:]", named)[0]
    text = response.get_data()[:2000].decode(errors="replace")
    match = re.search(r"<Code>([^<]+)</Code>", text) or re.search(
        r'"(?:__type|code)"\s*:\s*"(?:[^"#]*#)?([^"]+)"', text
    )
    return match[1] if match else ""


def _hang_up(environ: Environ) -> None:
    """End a request's connection without an answer. Raises ConnectionResetError, which the listener knows."""
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client has gone
    raise ConnectionResetError("the answer is lost on its way")
