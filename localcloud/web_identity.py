"""OpenID Connect tokens that a cloud believes, signed with its owner's key (HS256, RFC 7515).

Its owner stands for every issuer: nobody else can make one. Apart from IAM, because whoever only asks for a token needs
nothing of moto, which takes a second to load.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any


def sign(claims: Mapping[str, object], key: str) -> str:
    """Return a token that the cloud with this owner's key believes."""
    parts: list[Mapping[str, object]] = [{"alg": "HS256", "typ": "JWT"}, claims]
    content = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{content}.{_signature(content, key)}"


def claims_of(token: str, key: str) -> dict[str, Any]:
    """Return what a token claims. Raises ValueError when it is none, or is not signed as `sign` does."""
    content, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(content, key).encode()):
        raise ValueError("not signed with this key")
    try:
        # Its padding is left off, and more than is needed does no harm.
        return dict(json.loads(base64.urlsafe_b64decode(content.split(".")[1] + "==")))
    except (IndexError, TypeError) as error:
        raise ValueError("no claims in it") from error


def _signature(content: str, key: str) -> str:
    mac = hmac.digest(key.encode(), content.encode(), "sha256")
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")
