"""An object that a browser's form uploads to S3: it becomes the PutObject that it stands for, if its policy lets it.

"Browser-based uploads using POST" and "POST policy" (S3's API reference). A form without a policy is nobody's, and
what a bucket's own policy lets everybody do.
"""

from __future__ import annotations

import base64
import binascii
import html
import io
import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import HTTPException
from werkzeug.formparser import parse_form_data
from werkzeug.wrappers import Response

from localcloud.api.one_form import LONGEST_BODY, Environ, RequestRefused, bucket_and_key, bucket_of_host, query
from localcloud.api.signatures import Credential, old_proof_of, proof_of

_CREDENTIAL = re.compile(r"(?P<key>[^/=,\s]+)/(?P<scope>\d{8}/[a-z0-9-]+/s3/aws4_request)")
_ANSWER = "localcloud.form"
# Fields that no condition has to name.
_FREE = {"x-amz-signature", "signature", "awsaccesskeyid", "policy", "file"}
_SIGNING = {"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token"}
_HEADERS = {"cache-control", "content-disposition", "content-encoding", "expires"}


def take(environ: Environ) -> Credential | None:
    """Make a form's upload a PutObject and return what its policy is signed with; None for any other request.

    Raises RequestRefused when it is no form that S3 takes, and when its policy does not let it.
    """
    kind = str(environ.get("CONTENT_TYPE", "")).lower()
    bucket, key = bucket_and_key(environ)
    if environ.get("REQUEST_METHOD") != "POST" or not kind.startswith("multipart/form-data") or key or query(environ):
        return None
    fields, file = _read(environ)
    size = file.stream.seek(0, 2)
    file.stream.seek(0)
    made = _signed(fields)
    if "policy" in fields:
        _check(fields, bucket, size)
    name = fields["key"].replace("${filename}", file.filename or "")
    path = f"/{name}" if bucket_of_host(environ) else f"/{bucket}/{name}"
    headers = {field: value for field, value in fields.items() if field in _HEADERS or field.startswith("x-amz-")}
    headers |= {"x-amz-acl": fields["acl"]} if "acl" in fields else {}
    for field, value in headers.items():
        if field not in _SIGNING:
            environ[f"HTTP_{field.upper().replace('-', '_')}"] = value.encode().decode("latin-1")
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ |= {
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": path.encode().decode("latin-1"),
        "RAW_URI": urllib.parse.quote(path, safe="/~"),
        "CONTENT_TYPE": fields.get("content-type", "binary/octet-stream"),
        "CONTENT_LENGTH": str(size),
        "wsgi.input": file.stream,
        _ANSWER: (fields.get("success_action_status", ""), fields.get("success_action_redirect", ""), bucket, name),
    }
    return made


def answer(environ: Environ, response: Response) -> Response:
    """Return what a form is answered with instead of what its PutObject was; any other response as it is."""
    if _ANSWER not in environ or response.status_code != 200:
        return response
    status, redirect, bucket, name = environ[_ANSWER]
    etag = response.headers.get("ETag", "")
    if redirect.startswith(("http://", "https://")):
        said = urllib.parse.urlencode({"bucket": bucket, "key": name, "etag": etag})
        return Response("", 303, {"Location": f"{redirect}{'&' if '?' in redirect else '?'}{said}"})
    if status == "201":
        rows = {"Location": f"/{bucket}/{urllib.parse.quote(name)}", "Bucket": bucket, "Key": name, "ETag": etag}
        text = "".join(f"<{row}>{html.escape(value)}</{row}>" for row, value in rows.items())
        return Response(f"<PostResponse>{text}</PostResponse>", 201, {"ETag": etag}, content_type="application/xml")
    return Response("", 200 if status == "200" else 204, {"ETag": etag})


def _read(environ: Environ) -> tuple[dict[str, str], FileStorage]:
    try:
        _, form, files = parse_form_data(
            environ, lambda *_, **__: io.BytesIO(), max_content_length=LONGEST_BODY, silent=False
        )
    except (HTTPException, ValueError) as error:
        text = "The body of your POST request is not well-formed multipart/form-data."
        raise RequestRefused(text, "MalformedPOSTRequest") from error
    fields = {name.lower(): value for name, value in form.items()}
    file = files.get("file")
    if file is None:
        raise RequestRefused("POST requires exactly one file upload per request.", "InvalidArgument")
    if not fields.get("key"):
        raise RequestRefused("Bucket POST must contain a field named 'key'.", "InvalidArgument")
    return fields, file


def _signed(fields: Mapping[str, str]) -> Credential | None:
    policy, token = fields.get("policy", ""), fields.get("x-amz-security-token", "")
    if match := _CREDENTIAL.fullmatch(fields.get("x-amz-credential", "")):
        proof = proof_of(
            match["scope"], fields.get("x-amz-date", ""), fields.get("x-amz-signature", ""), policy=policy or "none"
        )
        return Credential(match["key"], token, match["scope"].split("/")[1], "s3", proof)
    if key := fields.get("awsaccesskeyid", ""):
        return Credential(key, token, "", "s3", old_proof_of(policy, fields.get("signature", "")))
    return None


def _check(fields: Mapping[str, str], bucket: str, size: int) -> None:
    """Raise RequestRefused unless the policy is one, has not expired, and its conditions name and fit all fields."""
    try:
        policy = json.loads(base64.b64decode(fields["policy"], validate=True))
        expires = datetime.fromisoformat(policy["expiration"])
        conditions = [each for raw in policy["conditions"] for each in _conditions(raw)]
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestRefused("Invalid Policy: Invalid JSON.", "InvalidPolicyDocument") from error
    if expires.timestamp() < time.time():
        raise _against("Policy expired.")
    said, named = {**fields, "bucket": bucket}, set()
    for how, field, wanted in conditions:
        named.add(field)
        if how == "content-length-range":
            least, most = wanted
            if not least <= size <= most:
                code = "EntityTooSmall" if size < least else "EntityTooLarge"
                raise RequestRefused("Your proposed upload is not of the size that its policy allows", code)
        elif not (said.get(field, "").startswith(wanted) if how == "starts-with" else said.get(field, "") == wanted):
            raise _against(f'Policy Condition failed: ["{how}", "${field}", "{wanted}"]')
    extra = {field for field in fields if not field.startswith("x-ignore-")} - named - _FREE
    if extra:
        raise _against(f"Extra input fields: {', '.join(sorted(extra))}")


def _conditions(raw: Any) -> list[tuple[str, str, Any]]:
    """Return conditions as (how, field, value). Raises ValueError for what is none."""
    if isinstance(raw, dict):
        return [("eq", str(field).lower(), str(value)) for field, value in raw.items()]
    how, field, value = raw
    if str(how).lower() == "content-length-range":
        return [("content-length-range", "", (int(field), int(value)))]
    if str(how).lower() not in {"eq", "starts-with"} or not str(field).startswith("$"):
        raise ValueError("there is no such condition")
    return [(str(how).lower(), str(field)[1:].lower(), str(value))]


def _against(why: str) -> RequestRefused:
    return RequestRefused(f"Invalid according to Policy: {why}", "AccessDenied", 403)
