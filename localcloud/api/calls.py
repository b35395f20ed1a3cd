"""API calls: service, region and operation of an HTTP request, and its parameters by the service's own model.

A body that is read for this is put back.
"""

from __future__ import annotations

import io
import re
import urllib.parse
import xml.etree.ElementTree as Xml
from dataclasses import dataclass
from typing import Any

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from moto.moto_server.werkzeug_app import SIGNING_ALIASES

Environ = dict[str, Any]
# Bodies that may name the operation are short; everything else is streamed through untouched.
_LONGEST_FORM = 4 << 20
_FORM = "application/x-www-form-urlencoded"
_UNSIGNED = {"AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"}
# KEY/20260930/eu-west-1/ec2/aws4_request
_SCOPE = re.compile(r"(?P<key>[^/=,\s]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")
_BUCKET_HOST = re.compile(r"(.+)\.s3[.-](?:[a-z0-9.-]+\.)?amazonaws\.com")


@dataclass(frozen=True)
class ApiCall:
    """A request's service (by its signing name), operation, and the region that it was signed for.

    The region is empty for an unsigned request.
    """

    service: str
    operation: str
    region: str = ""


def credential_scope(environ: Environ) -> re.Match[str] | None:
    """Return the `key`, `region` and `service` that a signature names, in a header or (presigned) in the query."""
    return _SCOPE.search(environ.get("HTTP_AUTHORIZATION") or query(environ).get("X-Amz-Credential", ""))


def query(environ: Environ) -> dict[str, str]:
    """Return the parameters of a request's query string, of each the first value."""
    values = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    return {name: listed[0] for name, listed in values.items()}


def parse_call(environ: Environ) -> ApiCall:
    """Return the call that a request makes."""
    service, region = _service(environ)
    if target := environ.get("HTTP_X_AMZ_TARGET", ""):
        return ApiCall(service, target.rpartition(".")[2], region)
    if action := _action(environ):
        # Who asks for credentials has none to sign with, and an address without a name does not tell the service.
        return ApiCall("sts" if action in _UNSIGNED else service, action, region)
    return ApiCall(service, _routed_operation(service, environ), region)


def _service(environ: Environ) -> tuple[str, str]:
    if scope := credential_scope(environ):
        name = scope["service"].lower()
        return SIGNING_ALIASES.get(name, name), scope["region"]
    match = re.match(r"([a-z0-9-]+)\.(?:[a-z0-9-]+\.)?amazonaws\.com$", _host(environ))
    # S3 is moto's own guess for an unsigned request, too.
    return (match[1] if match and not re.search(r"(?:^|\.)s3[.-]", _host(environ)) else "s3"), ""


def _host(environ: Environ) -> str:
    return str(environ.get("HTTP_HOST", "")).partition(":")[0]


def _body(environ: Environ) -> bytes:
    body: bytes = environ["wsgi.input"].read()
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _is_form(environ: Environ) -> bool:
    return str(environ.get("CONTENT_TYPE", "")).startswith(_FORM)


def _action(environ: Environ) -> str:
    if action := query(environ).get("Action"):
        return action
    if not _is_form(environ) or int(environ.get("CONTENT_LENGTH") or 0) > _LONGEST_FORM:
        return ""
    return urllib.parse.parse_qs(_body(environ).decode(errors="replace")).get("Action", [""])[0]


def _bucket_and_key(environ: Environ) -> tuple[str, str]:
    """Return S3's bucket and key, whichever of its two styles names the bucket: the host's name or the path."""
    path = str(environ.get("PATH_INFO", "/")).removeprefix("/")
    if match := _BUCKET_HOST.fullmatch(_host(environ)):
        return match[1], path
    bucket, _, key = path.partition("/")
    return bucket, key


def _routed_operation(service: str, environ: Environ) -> str:
    """Find a REST operation by method and path, on a copy of the request without its body."""
    bare = {**environ, "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
    if service == "s3" and (match := _BUCKET_HOST.fullmatch(_host(environ))):
        bare["PATH_INFO"] = f"/{match[1]}{environ.get('PATH_INFO', '/')}"  # the style that the router knows
    try:
        operation, _ = get_service_router(service).match(Request(bare))
    except Exception:
        return f"{environ.get('REQUEST_METHOD', '')} {environ.get('PATH_INFO', '')}"[:200]
    return str(operation.name)


def parameters(environ: Environ, service: str, operation: str) -> dict[str, Any]:
    """Return an operation's parameters by their names in the API; of S3's only what path, query and headers say.

    {} for a service or an operation that no model describes, and for a protocol that moto can't read.
    """
    if service == "s3":
        return _s3_parameters(environ, operation)
    name = "sesv2" if service == "ses" and not _is_form(environ) else service
    try:
        model = get_service_model(name)
        request = Request({**environ, "wsgi.input": io.BytesIO(_body(environ))})
        protocol = determine_request_protocol(model, environ.get("CONTENT_TYPE"))
        labels = get_service_router(name).match(request)[1] if protocol.startswith("rest-") else {}
        parsed = PROTOCOL_PARSERS[protocol](model.operation_model(operation)).parse(
            {
                "method": request.method,
                "values": request.values,
                "headers": request.headers,
                "body": request.data,
                "url_path": request.path,
                "url_params": labels,
            }
        )
    except Exception:
        # Whatever is wrong with the request, the service itself says it better.
        return {}
    return dict(parsed)


def _s3_parameters(environ: Environ, operation: str) -> dict[str, Any]:
    bucket, key = (text.encode("latin-1").decode(errors="replace") for text in _bucket_and_key(environ))
    headers = Request(environ).headers
    result: dict[str, Any] = {"Bucket": bucket, "Key": key, **query(environ)}
    result |= {name.lower(): value for name, value in headers if name.lower().startswith("x-amz-")}
    if operation == "DeleteObjects":
        result["Objects"] = _objects(_body(environ))
    return result


def _objects(body: bytes) -> list[tuple[str, str]]:
    """Return the keys and version ids that a DeleteObjects names; the client is trusted not to send a bomb."""
    try:
        root = Xml.fromstring(body)  # noqa: S314  # our own machines' SDKs
    except Xml.ParseError:
        return []
    return [(each.findtext("{*}Key") or "", each.findtext("{*}VersionId") or "") for each in root.iterfind("{*}Object")]
