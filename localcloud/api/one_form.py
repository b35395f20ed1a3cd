"""The one form that a request may have, so that IAM and moto can't read it differently.

moto guesses: it looks for the action in form, query, headers and even a JSON body's text, takes any URL that has
`Signature=` in it for a signed one, and the region from whichever of host, user agent and signature it meets first. So
a request is brought to one form before anybody reads it, and what could be meant in two ways is refused.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import urllib.parse
from typing import Any

from moto.core.request import Request

Environ = dict[str, Any]
FORM = "application/x-www-form-urlencoded"
JSON = re.compile(r"application/x-amz-json-1\.[01]")
# Calls but for S3's, whose bodies are streamed through untouched: a mail with its attachments at most.
LONGEST_BODY = 64 << 20
_SCOPE = re.compile(r"Credential=[^/\s]*/\d+/[^/\s]*/(?P<service>[A-Za-z0-9-]+)/aws4_request")
_BUCKET_HOST = re.compile(r"(.+)\.s3[.-](?:[a-z0-9.-]+\.)?amazonaws\.com")
_HOST = re.compile(
    r"(?:.+?\.)??(?P<service>[a-z0-9-]+?)(?:\.dualstack)?(?:[.-][a-z]{2}(?:-[a-z]+)+-\d)?\.amazonaws\.com"
)


class RequestRefused(Exception):
    """A request has not the one form; AWS's `code` and the HTTP `status` say what it is answered with."""

    def __init__(self, message: str, code: str = "InvalidRequest", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


def service_named(environ: Environ) -> str:
    """Return the service that a request means, whatever else is wrong with it: whose words its client reads.

    By the scope of its signature, of whatever form, else by its host's name; S3 where neither says.
    """
    said = urllib.parse.unquote(f"{environ.get('HTTP_AUTHORIZATION', '')} {environ.get('QUERY_STRING', '')}")
    scope = _SCOPE.search(said)
    host = str(environ.get("HTTP_HOST", "")).partition(":")[0].lower()
    named = _HOST.fullmatch(host)
    return (scope or named or {"service": "s3"})["service"].lower()


def raw_path(environ: Environ) -> str:
    """Return the path as it was sent. Raises RequestRefused when PATH_INFO is not that very path."""
    raw = str(Request({**environ, "wsgi.input": io.BytesIO()}).raw_path) if "RAW_URI" in environ else ""
    path = str(environ.get("PATH_INFO", "/"))
    raw = raw or urllib.parse.quote(path, safe="/~", encoding="latin-1")
    if urllib.parse.unquote(raw, "latin-1") != path:
        raise RequestRefused("the path can be read in two ways")
    return raw


def bucket_of_host(environ: Environ) -> str:
    """Return the bucket that the host's name says, "" when it says none."""
    match = _BUCKET_HOST.fullmatch(str(environ.get("HTTP_HOST", "")).partition(":")[0])
    return match[1] if match else ""


def bucket_and_key(environ: Environ) -> tuple[str, str]:
    """Return S3's bucket and key, whichever of its two styles names the bucket: the host's name or the path."""
    path = str(environ.get("PATH_INFO", "/")).removeprefix("/")
    if bucket := bucket_of_host(environ):
        return bucket, path
    bucket, _, key = path.partition("/")
    return bucket, key


def pairs(environ: Environ) -> list[tuple[str, str]]:
    """Return the names and values of the query string, in order."""
    return urllib.parse.parse_qsl(str(environ.get("QUERY_STRING", "")), keep_blank_values=True)


def query(environ: Environ) -> dict[str, str]:
    """Return the parameters of the query string. Raises RequestRefused when one is there twice."""
    return _once(pairs(environ))


def check_once(environ: Environ, lists: set[str]) -> None:
    """Raise RequestRefused for a parameter that is there twice, but for those in `lists`."""
    _once([pair for pair in pairs(environ) if pair[0] not in lists])


def _once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise RequestRefused("a parameter is there twice")
    return values


def settle_body(environ: Environ) -> bytes:
    """Read a body, put it back as it is meant (no longer compressed), and return it. Raises RequestRefused."""
    body: bytes = environ["wsgi.input"].read(LONGEST_BODY + 1)
    encoding = str(environ.pop("HTTP_CONTENT_ENCODING", "")).strip().lower()
    if encoding == "gzip":
        try:
            body = gzip.GzipFile(fileobj=io.BytesIO(body)).read(LONGEST_BODY + 1)
        except (OSError, EOFError) as error:
            raise RequestRefused("the body is not what its Content-Encoding says") from error
    elif encoding not in {"", "identity"}:
        raise RequestRefused("the body's Content-Encoding is not known")
    if len(body) > LONGEST_BODY:
        raise RequestRefused("the body is too long", "RequestEntityTooLarge", 413)
    return put_back(environ, body)


def put_back(environ: Environ, body: bytes) -> bytes:
    """Make a request's body this one, and return it."""
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
    return body


def settle_json(environ: Environ, body: bytes) -> None:
    """Put a JSON object back in a spelling that can't be taken for a form. Raises RequestRefused."""
    try:
        said = json.loads(body or b"{}", object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise RequestRefused("the body is no JSON", "SerializationException") from error
    if not isinstance(said, dict):
        raise RequestRefused("the body is no JSON object", "SerializationException")
    text = json.dumps(said).replace("&", r"\u0026").replace("=", r"\u003d")
    put_back(environ, text.encode())


def settle_form(environ: Environ, body: bytes) -> dict[str, str]:
    """Put a form back in its plainest spelling and return what it says. Raises RequestRefused."""
    try:
        pairs = urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise RequestRefused("the body is no form in UTF-8") from error
    values = _once(pairs)
    put_back(environ, urllib.parse.urlencode(values).encode())
    environ["CONTENT_TYPE"] = FORM
    return values
