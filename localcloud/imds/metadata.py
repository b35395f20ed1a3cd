"""The instance metadata service's rules and content, without a socket.

IMDSv2 as EC2 has it: a token by PUT with a TTL; the response to that PUT travels at most the hop limit; without a token
401 where tokens are required; 403 to everything where the endpoint is disabled. The tree is what cloud-init's Ec2 data
source, boto3 and amazon-ec2-utils read.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from werkzeug.wrappers import Response

VERSIONS = ("1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2020-10-27", "2021-03-23", "2021-07-15", "latest")
_MAX_TTL = 21600
_UNLIMITED_HOPS = 64
Tree = dict[str, "Tree | str | Callable[[], str | None]"]


@dataclass(frozen=True)
class InstanceMetadata:
    """What the service knows of an instance. `credentials` gives a role's current credentials.

    `tokens_required` to `tags_enabled` are its metadata options.
    """

    instance_id: str
    image_id: str
    instance_type: str
    region: str
    zone: str
    architecture: str
    account: str
    address: str
    mac: str
    hostname: str
    launched: str
    security_groups: tuple[str, ...]
    subnet_id: str
    vpc_id: str
    block_devices: Mapping[str, str]
    tags: Mapping[str, str]
    tokens_required: bool
    hop_limit: int
    enabled: bool
    tags_enabled: bool
    public_key: str | None = None
    key_name: str | None = None
    user_data: bytes | None = None
    profile_arn: str | None = None
    profile_id: str | None = None
    role: str | None = None
    credentials: Callable[[], Mapping[str, str]] = field(default=dict)


class Tokens:
    """Session tokens: each is for one instance and one time span."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._valid: dict[str, tuple[str, float]] = {}

    def issue(self, instance_id: str, ttl_seconds: int) -> str:
        """Return a new token."""
        now = self._clock()
        token = secrets.token_urlsafe(40) + "=="
        # Requests come in threads: without the lock, one that sweeps loses the token that another has just issued.
        with self._lock:
            self._valid = {token: value for token, value in self._valid.items() if value[1] > now}
            self._valid[token] = (instance_id, now + ttl_seconds)
        return token

    def accepts(self, instance_id: str, token: str) -> bool:
        """Say whether the token is this instance's and has not expired."""
        owner, end = self._valid.get(token, ("", 0.0))
        return owner == instance_id and self._clock() < end


def respond(metadata: InstanceMetadata, tokens: Tokens, method: str, path: str, headers: Mapping[str, str]) -> Response:
    """Respond to one request of the instance that `metadata` describes; the names of `headers` are in lower case."""
    if not metadata.enabled:
        return _error(HTTPStatus.FORBIDDEN)
    if path.rstrip("/") == "/latest/api/token":
        return _token(metadata, tokens, method, headers)
    if method not in {"GET", "HEAD"}:
        return _error(HTTPStatus.METHOD_NOT_ALLOWED, "GET, HEAD")
    token = headers.get("x-aws-ec2-metadata-token")
    refused = metadata.tokens_required if token is None else not tokens.accepts(metadata.instance_id, token)
    if refused:
        return _error(HTTPStatus.UNAUTHORIZED)
    content = _look_up(metadata, path)
    return _error(HTTPStatus.NOT_FOUND) if content is None else Response(content)


def hop_limit(metadata: InstanceMetadata, method: str) -> int:
    """Return how many routers a response may pass (the IP time to live): those to a PUT few, others any number."""
    return metadata.hop_limit if method == "PUT" else _UNLIMITED_HOPS


def _error(status: HTTPStatus, allow: str = "") -> Response:
    return Response(status.phrase, status, {"Allow": allow} if allow else {})


def _token(metadata: InstanceMetadata, tokens: Tokens, method: str, headers: Mapping[str, str]) -> Response:
    if method != "PUT":
        return _error(HTTPStatus.METHOD_NOT_ALLOWED, "OPTIONS, PUT")
    if "x-forwarded-for" in headers:
        return _error(HTTPStatus.FORBIDDEN)  # came through a proxy: exactly what version 2 is there against
    ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
    if not re.fullmatch(r"[0-9]{1,5}", ttl) or not 1 <= int(ttl) <= _MAX_TTL:
        return _error(HTTPStatus.BAD_REQUEST)
    token = tokens.issue(metadata.instance_id, int(ttl))
    return Response(token, headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl})


def _look_up(metadata: InstanceMetadata, path: str) -> str | bytes | None:
    version, *parts = [part for part in path.split("/") if part] or [""]
    if not version:
        return "\n".join(VERSIONS)
    # Any version that ever was gets the newest tree: clients that pin an old one read a subset of it.
    if version not in VERSIONS and not re.fullmatch(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", version):
        return None
    if parts == ["user-data"]:
        return metadata.user_data
    node: Any = tree(metadata)
    for part in parts:
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    content: str | None = node() if callable(node) else _listing(node) if isinstance(node, dict) else node
    return content


def _listing(node: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}/" if isinstance(value, dict) else name for name, value in node.items())


def tree(metadata: InstanceMetadata) -> Tree:
    """Return everything but the user data, as nested directories; a callable is read when it is asked for."""
    meta: Tree = {
        "ami-id": metadata.image_id,
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping": dict(metadata.block_devices),
        "hostname": metadata.hostname,
        "instance-action": "none",
        "instance-id": metadata.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": metadata.instance_type,
        "local-hostname": metadata.hostname,
        "local-ipv4": metadata.address,
        "mac": metadata.mac,
        "network": {"interfaces": {"macs": {metadata.mac: _interface(metadata)}}},
        "placement": {
            "availability-zone": metadata.zone,
            "region": metadata.region,
        },
        "profile": "default-hvm",
        "public-hostname": metadata.hostname,
        "public-ipv4": metadata.address,
        "reservation-id": "r-" + metadata.instance_id.removeprefix("i-"),
        "security-groups": "\n".join(metadata.security_groups),
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if metadata.public_key:
        # The directory's listing is "0=NAME", its entry is called "0": both names lead to the key.
        keys = {"0": {"openssh-key": metadata.public_key.strip()}}
        meta["public-keys"] = _KeyDirectory(keys, metadata.key_name or "key")
    if metadata.role:
        meta["iam"] = {
            "info": json.dumps(
                {
                    "Code": "Success",
                    "LastUpdated": metadata.launched,
                    "InstanceProfileArn": metadata.profile_arn,
                    "InstanceProfileId": metadata.profile_id,
                },
                indent=2,
            ),
            "security-credentials": {metadata.role: lambda: json.dumps(dict(metadata.credentials()), indent=2)},
        }
    if metadata.tags_enabled:
        meta["tags"] = {"instance": dict(metadata.tags)}
    return {"meta-data": meta, "dynamic": {"instance-identity": {"document": _document(metadata)}}}


class _KeyDirectory(dict[str, Any]):
    """The public-keys directory, whose listing names the keys."""

    def __init__(self, content: dict[str, Any], key_name: str) -> None:
        super().__init__(content)
        self.key_name = key_name

    def items(self) -> Any:
        return [(f"0={self.key_name}", "")]


def _interface(metadata: InstanceMetadata) -> Tree:
    return {
        "device-number": "0",
        "interface-id": "eni-" + metadata.instance_id.removeprefix("i-"),
        "local-hostname": metadata.hostname,
        "local-ipv4s": metadata.address,
        "mac": metadata.mac,
        "owner-id": metadata.account,
        "public-ipv4s": metadata.address,
        "security-groups": "\n".join(metadata.security_groups),
        "subnet-id": metadata.subnet_id,
        "subnet-ipv4-cidr-block": metadata.address.rpartition(".")[0] + ".0/24",
        "vpc-id": metadata.vpc_id,
    }


def _document(metadata: InstanceMetadata) -> str:
    architecture = {"amd64": "x86_64"}.get(metadata.architecture, metadata.architecture)
    fields = {
        "accountId": metadata.account,
        "architecture": architecture,
        "availabilityZone": metadata.zone,
        "billingProducts": None,
        "imageId": metadata.image_id,
        "instanceId": metadata.instance_id,
        "instanceType": metadata.instance_type,
        "kernelId": None,
        "pendingTime": metadata.launched,
        "privateIp": metadata.address,
        "ramdiskId": None,
        "region": metadata.region,
        "version": "2017-09-30",
    }
    return json.dumps(fields, indent=2)
