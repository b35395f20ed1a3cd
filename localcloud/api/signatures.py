"""What a request is signed with: in its header, or in an S3 address that was signed before it was handed on.

A signature is calculated again with the secret of the key that it names; who knows that secret is localcloud.iam's
matter, which is handed a Proof to try it on. The rules are those of "AWS Signature Version 4 for API requests" (IAM
User Guide) and, for addresses that boto3 signs by default, of "Signing and authenticating REST requests" (S3).
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from botocore.auth import HmacV1QueryAuth, SigV4Auth
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from localcloud.api.one_form import Environ, RequestRefused, bucket_and_key, query, raw_path

# Says whether a signature was made with this secret.
Proof = Callable[[str], bool]
_ALGORITHM = "AWS4-HMAC-SHA256"
_HEADER = re.compile(
    rf"{_ALGORITHM} Credential=(?P<key>[^/=,\s]+)/(?P<scope>\d{{8}}/[a-z0-9-]+/[A-Za-z0-9-]+/aws4_request)"
    r", ?SignedHeaders=(?P<headers>[A-Za-z0-9;._-]+), ?Signature=(?P<signature>[0-9a-f]+)"
)
_CREDENTIAL = re.compile(r"(?P<key>[^/=,\s]+)/(?P<scope>\d{8}/[a-z0-9-]+/s3/aws4_request)")
_STAMP = "%Y%m%dT%H%M%SZ"
_WEEK = 7 * 24 * 3600
_IN_ADDRESS = {"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"}
_SESSION = "X-Amz-Security-Token"
_HEADERS = {"content-type", "content-md5"}
_OLD = {"AWSAccessKeyId", "Signature", "Expires"}


@dataclass(frozen=True)
class Credential:
    """What a signature names: the access key, the session's token ("" for none), region and service (in lower case).

    `proof` says whether the signature was made with the key's secret.
    """

    key: str
    token: str
    region: str
    service: str
    proof: Proof = field(compare=False)


def in_header(environ: Environ) -> Credential | None:
    """Return what a request is signed with, None when it is not signed. Raises RequestRefused."""
    header = str(environ.get("HTTP_AUTHORIZATION", ""))
    if not header:
        return None
    match = _HEADER.fullmatch(header)
    stamp = str(environ.get("HTTP_X_AMZ_DATE", ""))
    if match is None:
        raise RequestRefused("the signature is not of the one form", "IncompleteSignature", 403)
    payload = str(environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")) or _digest(environ)
    canonical = _canonical(environ, match["scope"], match["headers"], str(environ.get("QUERY_STRING", "")), payload)
    region, service = match["scope"].split("/")[1:3]
    token = str(environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
    proof = proof_of(match["scope"], stamp, match["signature"], canonical=canonical)
    return Credential(match["key"], token, region, service.lower(), proof)


def in_address(environ: Environ) -> Credential | None:
    """Return what an address of S3 is signed with, None when it is not; take the signature out of the address.

    Raises RequestRefused for one that is not whole or has expired.
    """
    named = query(environ)
    if "X-Amz-Signature" in named:
        made = _of_version_4(environ, named)
    elif _OLD & named.keys():
        made = _of_version_2(environ, named)
    else:
        return None
    taken = _IN_ADDRESS | _OLD | {"X-Amz-Signature"}
    rest = {name: value for name, value in named.items() if name not in taken and name.lower() != _SESSION.lower()}
    for name in [name for name in rest if name.lower().startswith("x-amz-")]:
        # SDKs move headers into what they sign, and S3 takes them from there.
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = rest.pop(name)
    for name in _HEADERS & rest.keys():
        del rest[name]  # these it only takes from where they belong
    environ["QUERY_STRING"] = urllib.parse.urlencode(rest, quote_via=urllib.parse.quote)
    return made


def _of_version_4(environ: Environ, named: Mapping[str, str]) -> Credential:
    match = _CREDENTIAL.fullmatch(named.get("X-Amz-Credential", ""))
    try:
        begins = datetime.strptime(named.get("X-Amz-Date", ""), _STAMP).replace(tzinfo=UTC).timestamp()
        seconds = int(named.get("X-Amz-Expires", ""))
    except ValueError:
        match = None
    if match is None or named.get("X-Amz-Algorithm") != _ALGORITHM or not 0 < seconds <= _WEEK:
        raise RequestRefused(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature,"
            " X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            "AuthorizationQueryParametersError",
        )
    _check_expiry(begins + seconds)
    parts = [part for part in str(environ["QUERY_STRING"]).split("&") if not part.startswith("X-Amz-Signature=")]
    headers = named.get("X-Amz-SignedHeaders", "")
    canonical = _canonical(environ, match["scope"], headers, "&".join(parts), "UNSIGNED-PAYLOAD")
    proof = proof_of(match["scope"], named["X-Amz-Date"], named["X-Amz-Signature"], canonical=canonical)
    return Credential(match["key"], named.get(_SESSION, ""), match["scope"].split("/")[1], "s3", proof)


def _of_version_2(environ: Environ, named: Mapping[str, str]) -> Credential:
    if not (named.keys() >= _OLD and named["Expires"].isdigit()):
        raise RequestRefused(
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
            "AccessDenied",
            403,
        )
    _check_expiry(float(named["Expires"]))
    every = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name[:5] == "HTTP_"}
    every["content-type"] = str(environ.get("CONTENT_TYPE", ""))
    every |= {name.lower(): value for name, value in named.items() if name.lower() not in _HEADERS}
    custom: Any = HTTPHeaders.from_dict({name: value for name, value in every.items() if name.startswith("x-amz-")})
    bucket, _ = bucket_and_key(environ)
    path = raw_path(environ)
    path = path if path.startswith(f"/{bucket}/") or path == f"/{bucket}" else f"/{bucket}{path}"

    def fits(secret: str) -> bool:
        auth = HmacV1QueryAuth(Credentials(named["AWSAccessKeyId"], secret))
        standard = [every.get("content-md5", ""), every["content-type"], named["Expires"]]
        listed = [text for text in [auth.canonical_custom_headers(custom)] if text]
        resource = auth.canonical_resource(urllib.parse.urlsplit(f"{path}?{environ_query}"), path)
        text = "\n".join([str(environ["REQUEST_METHOD"]), *standard, *listed, resource])
        return hmac.compare_digest(auth.sign_string(text).encode(), named["Signature"].encode())

    environ_query = str(environ["QUERY_STRING"])
    return Credential(named["AWSAccessKeyId"], every.get(_SESSION.lower(), ""), "", "s3", fits)


def _check_expiry(at: float) -> None:
    if at < time.time():
        raise RequestRefused("Request has expired", "AccessDenied", 403)


def proof_of(scope: str, stamp: str, signature: str, *, canonical: str = "", policy: str = "") -> Proof:
    """Return the proof of a signature (Version 4) of a canonical request, or of a form's policy."""
    date, region, service, _ = scope.split("/")
    request: Any = SimpleNamespace(context={"timestamp": stamp or date})

    def fits(secret: str) -> bool:
        auth = SigV4Auth(Credentials("", secret), service, region)
        text = policy or auth.string_to_sign(request, canonical)
        made = str(auth.signature(text, request))
        return stamp[:8] == date and hmac.compare_digest(made.encode(), signature.encode())

    return fits


def old_proof_of(policy: str, signature: str) -> Proof:
    """Return the proof of a form's policy that was signed by Version 2."""
    return lambda secret: hmac.compare_digest(
        str(HmacV1QueryAuth(Credentials("", secret)).sign_string(policy)).encode(), signature.encode()
    )


def _canonical(environ: Environ, scope: str, headers: str, sent: str, payload: str) -> str:
    _, region, service, _ = scope.split("/")
    path = raw_path(environ)
    if service != "s3":  # whose names may have dots and slashes in them
        auth: Any = SigV4Auth(Credentials("", ""), service, region)
        path = auth._normalize_url_path(path)
    pairs = [
        tuple(urllib.parse.quote(urllib.parse.unquote_to_bytes(text), safe="-_.~") for text in (name, value))
        for name, _, value in (part.partition("=") for part in sent.split("&") if part)
    ]
    named = sorted(headers.lower().split(";"))
    shown = "".join(f"{name}:{_header(environ, name)}\n" for name in named)
    parameters = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    return "\n".join([str(environ["REQUEST_METHOD"]), path, parameters, shown, ";".join(named), payload])


def _header(environ: Environ, name: str) -> str:
    key = name.upper().replace("-", "_")
    value = environ.get(key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}", "")
    return " ".join(str(value).encode("latin-1").decode(errors="replace").split())


def _digest(environ: Environ) -> str:
    """Return the digest of a body that the request does not give itself, and put the body back."""
    body: bytes = environ["wsgi.input"].read()
    environ["wsgi.input"] = io.BytesIO(body)
    return hashlib.sha256(body).hexdigest()
