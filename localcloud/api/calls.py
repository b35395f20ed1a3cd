"""API calls: service, region and operation of an HTTP request, and its parameters by the service's own model.

A body that is read for this is put back. What IAM was asked about is what moto is handed (`for_moto`), and moto's own
idea of the action is compared with it once more.
"""

from __future__ import annotations

import io
import re
import urllib.parse
import xml.etree.ElementTree as Xml
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.model import OperationNotFoundError
from moto.core.model import OperationModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.responses import BaseResponse
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from moto.moto_server.werkzeug_app import SIGNING_ALIASES

from localcloud.api import form_upload, one_form, signatures
from localcloud.api.one_form import FORM, JSON, Environ, RequestRefused, bucket_and_key, bucket_of_host, query
from localcloud.api.patches import patch
from localcloud.api.signatures import Proof

_UNSIGNED = {"AssumeRoleWithWebIdentity", "AssumeRoleWithSAML"}
_TARGET = re.compile(r"[\w.]+\.(\w+)", re.ASCII)
# Headers that make another operation of a request, each with the parameter of those that take it.
_SOURCES = {"HTTP_X_AMZ_COPY_SOURCE": "CopySource", "HTTP_X_AMZ_RENAME_SOURCE": "RenameSource"}
# Where moto finds what was decided, and what it is compared with.
_DECIDED = "localcloud.call"


@dataclass(frozen=True)
class ApiCall:
    """A request's service (by its signing name), operation, region, and the credentials that it was signed with.

    Region, key and token are empty for an unsigned request, and `proof`, which says whether the signature is that of a
    secret, is None. An operation with a space in it is none that AWS has.
    """

    service: str
    operation: str
    region: str = ""
    key: str = ""
    token: str = ""
    proof: Proof | None = field(default=None, compare=False)


def parse_call(environ: Environ) -> ApiCall:
    """Return the call that a request makes, and bring the request to its one form. Raises RequestRefused."""
    signed = signatures.in_header(environ)
    if signed is None and _may_be_s3(environ):
        signed = form_upload.take(environ) or signatures.in_address(environ)
    if signed is None:
        try:
            return _unsigned(environ)
        except RequestRefused as refused:
            raise RequestRefused("the call is not signed", "MissingAuthenticationToken", 403) from refused
    service = SIGNING_ALIASES.get(signed.service, signed.service)
    operation = _operation(environ, service)
    return ApiCall(service, operation, signed.region, signed.key, signed.token, signed.proof)


def _may_be_s3(environ: Environ) -> bool:
    return not environ.get("HTTP_X_AMZ_TARGET") and not (_kind(environ) == FORM and environ["REQUEST_METHOD"] == "POST")


def _unsigned(environ: Environ) -> ApiCall:
    if environ.get("HTTP_X_AMZ_TARGET"):
        raise RequestRefused("only calls that are signed have a target")
    if _kind(environ) == FORM and environ.get("REQUEST_METHOD") == "POST":
        # Who asks for credentials has none to sign with, and an address without a name does not tell the service.
        operation = _operation(environ, "sts")
        if operation not in _UNSIGNED:
            raise RequestRefused("this action has to be signed")
        return ApiCall("sts", operation)
    return ApiCall("s3", _operation(environ, "s3"))


def _operation(environ: Environ, service: str) -> str:
    raw, named = one_form.raw_path(environ), str(environ.get("QUERY_STRING", ""))
    target, method = str(environ.get("HTTP_X_AMZ_TARGET", "")), environ.get("REQUEST_METHOD")
    if service == "s3":
        if target:
            raise RequestRefused("S3 has no targets")
        return _rest(environ, service)
    body = one_form.settle_body(environ)
    if not target and _kind(environ) != FORM:
        if _json(environ):
            one_form.settle_json(environ, body)
        return _rest(environ, service)
    # All in the body: what is in the address as well would be a second word on it.
    if method != "POST" or raw != "/" or named:
        raise RequestRefused("an action is asked for by a POST to / alone")
    if target:
        match = _TARGET.fullmatch(target)
        if match is None or not JSON.fullmatch(_kind(environ)):
            raise RequestRefused("a target goes with a body in JSON")
        one_form.settle_json(environ, body)
        environ["CONTENT_TYPE"] = _kind(environ)
        return match[1]
    action = one_form.settle_form(environ, body).get("Action", "")
    if not re.fullmatch(r"\w+", action, re.ASCII):
        raise RequestRefused("no action is named", "MissingAction")
    return action


def _kind(environ: Environ) -> str:
    return str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()


def _json(environ: Environ) -> bool:
    return _kind(environ) == "application/json" or bool(JSON.fullmatch(_kind(environ)))


def body_of(environ: Environ) -> bytes:
    """Return a request's body, which stays to be read."""
    body: bytes = environ["wsgi.input"].read()
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _is_form(environ: Environ) -> bool:
    return _kind(environ) == FORM


def _rest(environ: Environ, service: str) -> str:
    """Find a REST operation by method and path, on a copy of the request without its body. Raises RequestRefused."""
    bare = {**environ, "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
    if service == "s3" and (bucket := bucket_of_host(environ)):
        bare["PATH_INFO"] = f"/{bucket}{environ.get('PATH_INFO', '/')}"  # the style that the router knows
    try:
        operation, _ = get_service_router(model_name(service, environ)).match(Request(bare))
    except Exception:
        return f"{environ.get('REQUEST_METHOD', '')} {environ.get('PATH_INFO', '')}"[:200]
    _takes(operation, environ)
    return str(operation.name)


def _takes(operation: OperationModel, environ: Environ) -> None:
    """Refuse what the operation does not take: it would be another operation's, and moto may do that one."""
    members = operation.input_shape.members if operation.input_shape is not None else {}
    inside = [shape for shape in members.values() if shape.serialization.get("location") == "querystring"]
    # A list has its name before each of its members.
    one_form.check_once(environ, {str(each.serialization.get("name")) for each in inside if each.type_name == "list"})
    if any(shape.type_name == "map" for shape in inside):
        return
    fixed = urllib.parse.urlsplit(operation.http["requestUri"]).query
    names = {"x-id", *query({"QUERY_STRING": fixed})}
    names |= {str(shape.serialization.get("name")) for shape in inside}
    if foreign := {name for name, _ in one_form.pairs(environ)} - names:
        raise RequestRefused(f"{operation.name} does not take {sorted(foreign)}")
    if any(environ.get(header) and member not in members for header, member in _SOURCES.items()):
        raise RequestRefused(f"{operation.name} takes no source")


def for_moto(environ: Environ, call: ApiCall) -> Environ:
    """Return a request as moto is to see it: with nothing in it that says otherwise than the call that was decided."""
    handed = {**environ, _DECIDED: call}
    region = call.region or "us-east-1"
    scope = f"{call.key or 'NOBODY'}/20260101/{region}/{call.service}/aws4_request"
    handed["HTTP_AUTHORIZATION"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    handed["RAW_URI"] = one_form.raw_path(environ)
    if call.service == "s3":
        if bucket := bucket_of_host(environ):
            handed["PATH_INFO"] = f"/{bucket}{environ.get('PATH_INFO', '/')}"
            handed["RAW_URI"] = f"/{bucket}{handed['RAW_URI']}"
        if _kind(environ) in {FORM, "multipart/form-data"}:
            handed["CONTENT_TYPE"] = "binary/octet-stream"  # an object's type, and no form to be read
    handed["HTTP_HOST"] = f"{call.service}.{region}.amazonaws.com"
    for other in ("HTTP_X_MOTO_ACCOUNT_ID", "HTTP_X_AMZ_SECURITY_TOKEN"):
        handed.pop(other, None)
    return handed


@patch(BaseResponse._get_action, wraps=True)
def _get_action(original: Any, response: BaseResponse) -> str:
    """Return the action that moto finds; it has to be the one that was decided. Raises RequestRefused."""
    action = original(response)
    call = response.normalized_request.environ.get(_DECIDED)
    if call is not None and call.service != "s3" and action != call.operation:
        raise RequestRefused(f"{call.operation} was asked for, and {action} too")
    return str(action)


def model_name(service: str, environ: Environ) -> str:
    """Return the name of a service's model: SES has two by one signing name, and CloudWatch signs as monitoring."""
    if service == "ses" and not _is_form(environ):
        return "sesv2"
    return {"monitoring": "cloudwatch", "email": "ses"}.get(service, service)


def parameters(environ: Environ, service: str, operation: str) -> dict[str, Any]:
    """Return an operation's parameters by their names in the API; of S3's only what path, query and headers say.

    {} for a service or an operation that no model describes: nothing of it can be allowed by a resource's name. Raises
    RequestRefused when the model can't read them: moto reads more leniently, and would do what IAM has not seen.
    """
    if service == "s3":
        return _s3_parameters(environ, operation)
    name = model_name(service, environ)
    try:
        model = get_service_model(name)
        described = model.operation_model(operation)
    except (UnknownServiceError, OperationNotFoundError):
        return {}
    request = Request({**environ, "wsgi.input": io.BytesIO(body_of(environ))})
    try:
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
    except Exception as error:
        code = "InvalidParameterValue" if service == "ec2" else "SerializationException"
        raise RequestRefused(f"the parameters of {operation} can't be read", code) from error
    return dict(parsed)


def _s3_parameters(environ: Environ, operation: str) -> dict[str, Any]:
    bucket, key = (text.encode("latin-1").decode(errors="replace") for text in bucket_and_key(environ))
    headers = Request(environ).headers
    result: dict[str, Any] = {"Bucket": bucket, "Key": key, **query(environ)}
    result |= {name.lower(): value for name, value in headers if name.lower().startswith("x-amz-")}
    if operation == "DeleteObjects":
        result["Objects"] = _objects(body_of(environ))
    return result


def _objects(body: bytes) -> list[tuple[str, str]]:
    """Return the keys and version ids that a DeleteObjects names; the client is trusted not to send a bomb.

    Raises RequestRefused when they can't be read, or there are none.
    """
    try:
        root = Xml.fromstring(body)  # noqa: S314  # our own machines' SDKs
    except Xml.ParseError as error:
        raise RequestRefused("which objects to delete can't be read", "MalformedXML") from error
    # With the spaces around them, as moto reads them: a key may be one.
    named = [
        (each.findtext("{*}Key") or "", each.findtext("{*}VersionId") or "") for each in root.iterfind("{*}Object")
    ]
    if not named:
        raise RequestRefused("no object is named", "MalformedXML")
    return named
