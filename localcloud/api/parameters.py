"""The parameters of an API call, read by the service's own model. A body that is read is put back."""

from __future__ import annotations

import io
import re
import urllib.parse
import xml.etree.ElementTree as Xml
from typing import Any

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model

from localcloud.api.calls import Environ


def parameters(environ: Environ, service: str, operation: str) -> dict[str, Any]:
    """Return an operation's parameters by their names in the API; of S3's only what path, query and headers say.

    {} for a service or an operation that no model describes, and for a protocol that moto can't read.
    """
    if service == "s3":
        return _of_s3(environ, operation)
    name = "sesv2" if service == "ses" and _is_json(environ) else service
    try:
        model = get_service_model(name)
        described = model.operation_model(operation)
        request = Request(_with_body(environ))
        protocol = determine_request_protocol(model, environ.get("CONTENT_TYPE"))
        labels = get_service_router(name).match(request)[1] if protocol.startswith("rest-") else {}
        parsed = PROTOCOL_PARSERS[protocol](described).parse(
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
    finally:
        if "localcloud.body" in environ:
            environ["wsgi.input"] = io.BytesIO(environ.pop("localcloud.body"))
    return dict(parsed)


def _with_body(environ: Environ) -> Environ:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["localcloud.body"] = body
    return {**environ, "wsgi.input": io.BytesIO(body)}


def _is_json(environ: Environ) -> bool:
    return not str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded")


def _of_s3(environ: Environ, operation: str) -> dict[str, Any]:
    host = str(environ.get("HTTP_HOST", "")).partition(":")[0]
    path = str(environ.get("PATH_INFO", "/")).encode("latin-1").decode(errors="replace").removeprefix("/")
    found = re.match(r"(.+)\.s3[.-](?:[a-z0-9.-]+\.)?amazonaws\.com$", host)
    bucket, _, key = (found[1], "", path) if found else path.partition("/")
    query = urllib.parse.parse_qs(str(environ.get("QUERY_STRING", "")), keep_blank_values=True)
    read: dict[str, Any] = {"Bucket": bucket, "Key": key, **{name: values[0] for name, values in query.items()}}
    read |= {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_X_AMZ_")
    }
    if operation == "DeleteObjects":
        body = _with_body(environ)["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(environ.pop("localcloud.body"))
        read["Objects"] = _objects(body)
    return read


def _objects(body: bytes) -> list[tuple[str, str]]:
    """Return the keys and version ids that a DeleteObjects names; the client is trusted not to send a bomb."""
    try:
        root = Xml.fromstring(body)  # noqa: S314  # our own machines' SDKs
    except Xml.ParseError:
        return []
    return [(each.findtext("{*}Key") or "", each.findtext("{*}VersionId") or "") for each in root.iterfind("{*}Object")]
