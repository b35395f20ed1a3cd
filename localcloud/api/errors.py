"""AWS's error responses, in the protocol that the client of a service reads.

moto's own serializers were rejected: they look errors up in the service's model, and UnsupportedOperation is in few.
"""

from __future__ import annotations

import html
import json

from werkzeug.wrappers import Response

# The services in XML by paths, as they sign; every other one that goes by paths speaks JSON.
_REST_XML = {"s3", "s3express", "cloudfront", "route53"}


def protocol_of(service: str, content_type: str) -> str:
    """Return the name of the protocol that a request of this service (by its signing name) and content type speaks.

    Its content type tells all but those that go by paths, and has to: services of several protocols sign by one name
    (ses, cloudsearch, sagemaker, …).
    """
    if content_type.startswith("application/x-amz-json"):
        return "json"
    if content_type.startswith("application/cbor"):
        return "smithy-rpc-v2-cbor"
    if content_type.startswith("application/x-www-form-urlencoded"):
        return "ec2" if service == "ec2" else "query"
    return "rest-xml" if service in _REST_XML else "rest-json"


def error_response(service: str, content_type: str, code: str, message: str, status: int = 400) -> Response:
    """Return an error of the caller's making in the service's own protocol."""
    protocol = protocol_of(service, content_type)
    if protocol in {"json", "rest-json"}:
        body = json.dumps({"__type": code, "message": message})
        headers = {"x-amzn-ErrorType": code}
        kind = "application/json" if protocol == "rest-json" else "application/x-amz-json-1.1"
        return Response(body, status, headers, content_type=kind)
    if protocol == "smithy-rpc-v2-cbor":
        # RFC 8949: a map of two pairs, and text strings with a length of four bytes.
        texts = [text.encode() for text in ("__type", code, "message", message)]
        content = b"\xa2" + b"".join(b"\x7a" + len(text).to_bytes(4, "big") + text for text in texts)
        return Response(content, status, {"smithy-protocol": "rpc-v2-cbor"}, content_type="application/cbor")
    fields = f"<Code>{html.escape(code)}</Code><Message>{html.escape(message)}</Message>"
    return Response(_XML.get(protocol, _XML["ec2"]).format(fields=fields), status, content_type="text/xml")


_XML = {
    "ec2": "<Response><Errors><Error>{fields}</Error></Errors><RequestID>local</RequestID></Response>",
    "query": "<ErrorResponse><Error><Type>Sender</Type>{fields}</Error><RequestId>local</RequestId></ErrorResponse>",
    "rest-xml": "<Error>{fields}<RequestId>local</RequestId></Error>",
}
