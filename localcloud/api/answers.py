"""AWS's error answers, in the protocol that the client of a service reads.

moto's own serializers were rejected: they look errors up in the service's model, and UnsupportedOperation is in few.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass

from botocore.exceptions import UnknownServiceError
from moto.core.utils import get_service_model


@dataclass(frozen=True)
class ErrorAnswer:
    """An HTTP answer to be sent in place of the one that was asked for."""

    status: int
    headers: dict[str, str]
    body: bytes


def protocol_of(service: str, content_type: str) -> str:
    """Return the name of the protocol that a request of this service and content type speaks.

    A service that no SDK knows gets EC2's: as good as any.
    """
    if content_type.startswith("application/x-amz-json"):
        return "json"
    if content_type.startswith("application/cbor"):
        return "smithy-rpc-v2-cbor"
    if content_type.startswith("application/x-www-form-urlencoded"):
        return "ec2" if service == "ec2" else "query"
    try:
        return str(get_service_model(service).metadata["protocol"])
    except UnknownServiceError:
        return "ec2"


def error_answer(service: str, content_type: str, code: str, message: str, status: int = 400) -> ErrorAnswer:
    """Return an error of the caller's making in the service's own protocol."""
    protocol = protocol_of(service, content_type)
    if protocol in {"json", "rest-json"}:
        body = json.dumps({"__type": code, "message": message}).encode()
        kind = "application/json" if protocol == "rest-json" else "application/x-amz-json-1.1"
        return ErrorAnswer(status, {"Content-Type": kind, "x-amzn-ErrorType": code}, body)
    if protocol == "smithy-rpc-v2-cbor":
        body = b"\xa2" + b"".join(_cbor_text(text) for text in ("__type", code, "message", message))
        return ErrorAnswer(status, {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}, body)
    fields = f"<Code>{html.escape(code)}</Code><Message>{html.escape(message)}</Message>"
    body = _XML.get(protocol, _XML["ec2"]).format(fields=fields).encode()
    return ErrorAnswer(status, {"Content-Type": "text/xml"}, body)


_XML = {
    "ec2": "<Response><Errors><Error>{fields}</Error></Errors><RequestID>local</RequestID></Response>",
    "query": "<ErrorResponse><Error><Type>Sender</Type>{fields}</Error><RequestId>local</RequestId></ErrorResponse>",
    "rest-xml": "<Error>{fields}<RequestId>local</RequestId></Error>",
}


def _cbor_text(text: str) -> bytes:
    """Encode one text string (RFC 8949, major type 3)."""
    data = text.encode()
    if len(data) < 24:
        return bytes([0x60 + len(data)]) + data
    return b"\x7a" + len(data).to_bytes(4, "big") + data
