"""What an HTTP request asks for: service, region and operation, as far as can be told without its parameters."""

from __future__ import annotations

import io
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.moto_server.werkzeug_app import SIGNING_ALIASES

Environ = dict[str, Any]
# Bodies that may name the operation are short; everything else is streamed through untouched.
_LONGEST_FORM = 4 << 20
_UNSIGNED = {"AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"}


@dataclass(frozen=True)
class Asked:
    """What a request asks for: the service's signing name and the operation, as far as can be told.

    `region` is the one that it was signed for, empty for an unsigned request.
    """

    service: str
    operation: str
    region: str = ""


def asked_for(environ: Environ) -> Asked:
    """Tell service and operation from a request. A form body is read and put back."""
    service, region = _service(environ)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return Asked(service, target.rpartition(".")[2], region)
    if action := _action(environ):
        # Whoever asks for credentials has none to sign with, and an address without a name tells no service.
        return Asked("sts" if action in _UNSIGNED else service, action, region)
    return Asked(service, _routed_operation(service, environ), region)


def _service(environ: Environ) -> tuple[str, str]:
    query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
    scope = environ.get("HTTP_AUTHORIZATION", "") or query.get("X-Amz-Credential", [""])[0]
    # Credential=KEY/20260930/eu-west-1/ec2/aws4_request
    if found := re.search(r"[^/\s]+/\d{8}/([^/]+)/([^/]+)/aws4_request", scope):
        name = str(found[2]).lower()
        return str(SIGNING_ALIASES.get(name, name)), str(found[1])
    host = str(environ.get("HTTP_HOST", "")).partition(":")[0]
    if re.search(r"(?:^|\.)(s3)[.-]", host):
        return "s3", ""
    if found := re.match(r"([a-z0-9-]+)\.(?:[a-z0-9-]+\.)?amazonaws\.com$", host):
        return str(found[1]), ""
    return "s3", ""  # moto's own guess for an unsigned request


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
