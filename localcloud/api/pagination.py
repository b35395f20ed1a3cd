"""The tokens by which a list goes on: one that the cloud has not given is refused, as AWS does.

moto decodes what it is given, whatever that is, and fails or begins anew: a client that went on with a broken token
would go in a circle.
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from moto.core.model import OperationModel
from werkzeug.wrappers import Response

from localcloud.api.calls import ApiCall
from localcloud.api.one_form import RequestRefused

_TOKEN = re.compile(r"(?:next_?|continuation|next_?page|page|pagination)_?token", re.IGNORECASE)
# Services whose markers are no names of what is listed.
_MARKED = {"iam", "kms"}
_OUTPUT = rb"(?:[nN]ext\w*[tT]oken|[cC]ontinuationToken|[pP]age\w*Token|[pP]aginationToken|\w*Marker)"
_XML = re.compile(rb"<" + _OUTPUT + rb">([^<]+)<")
_JSON = re.compile(rb'"' + _OUTPUT + rb'"\s*:\s*("(?:[^"\\]|\\.)*")')
# A text of CBOR (RFC 8949): up to 23 bytes, or with a length of one byte or of two.
_CBOR = re.compile(rb"[nN]extToken(?:([\x60-\x77])|\x78(.)|\x79(..))", re.DOTALL)
_MOST = 4096
# How a service calls a token that is none, by the errors of its operation; the first that there is.
_ERRORS = (
    re.compile(r"Invalid\w*(Token|Marker)"),
    re.compile(r"Invalid(Parameter|Argument|Request|Input)|BadRequest"),
    re.compile(r"Validation"),
)
# By the protocol, where the operation's model names none of them.
_DEFAULT = {
    "ec2": ("InvalidNextToken", "The specified value for NextToken is not valid."),
    "query": ("ValidationError", "Invalid Marker."),
    "rest-xml": ("InvalidArgument", "The continuation token provided is incorrect"),
}


class Pages:
    """The tokens that were given of late, each by its service and region."""

    def __init__(self) -> None:
        self._given: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, call: ApiCall, given: Mapping[str, Any], described: OperationModel, protocol: str) -> None:
        """Refuse a call that goes on from what the cloud has not given. Raises RequestRefused."""
        for name in _names(call.service, described):
            token = given.get(name) or given.get("continuation-token" if call.service == "s3" else name)
            if token and (call.service, call.region, str(token)) not in self._given:
                raise _refused(described, protocol, name)

    def note(self, call: ApiCall, response: Response) -> None:
        """Remember the tokens of an answer."""
        if response.status_code != 200 or len(response.get_data()) > 1 << 22:
            return
        for token in _tokens(response.get_data()):
            with self._lock:
                self._given[call.service, call.region, token] = None
                if len(self._given) > _MOST:
                    self._given.popitem(last=False)


def _names(service: str, described: OperationModel) -> Iterator[str]:
    shape = described.input_shape
    for name in shape.members if shape is not None else ():
        if _TOKEN.fullmatch(name) or (name == "Marker" and service in _MARKED):
            yield name


def _refused(described: OperationModel, protocol: str, name: str) -> RequestRefused:
    reason = f"Request parameter {name} is invalid"
    for wanted in _ERRORS:
        for shape in described.error_shapes:
            if wanted.search(shape.name):
                error = shape.metadata.get("error") or {}
                code = str(error.get("code", shape.name))
                return RequestRefused(reason, code, int(error.get("httpStatusCode", 400)))
    code, message = _DEFAULT.get(protocol, ("ValidationException", reason))
    return RequestRefused(message, code)


def _tokens(content: bytes) -> Iterator[str]:
    for text in _XML.findall(content):
        yield html.unescape(text.decode(errors="replace"))
    for text in _JSON.findall(content):
        yield str(json.loads(text))
    for match in _CBOR.finditer(content):
        length = match[1][0] - 0x60 if match[1] else int.from_bytes(match[2] or match[3], "big")
        yield content[match.end() : match.end() + length].decode(errors="replace")
