"""The instance metadata service's rules and content, without a socket: what a request is answered with.

IMDSv2 as EC2 has it: a token by PUT with a TTL; the answer to that PUT travels at most the hop limit; without a token
401 where tokens are required; nothing at all where the endpoint is disabled. The tree is what cloud-init's Ec2 data
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
from typing import Any

VERSIONS = ("1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2020-10-27", "2021-03-23", "2021-07-15", "latest")
_MAX_TTL = 21600
Tree = dict[str, "Tree | str | Callable[[], str | None]"]


@dataclass(frozen=True)
class Options:
    """An instance's metadata options, as DescribeInstances shows them."""

    tokens_required: bool
    hop_limit: int
    enabled: bool
    tags_enabled: bool


@dataclass(frozen=True)
class View:
    """What the service knows of an instance. `credentials` gives a role's current credentials."""

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
    options: Options
    public_key: str | None = None
    key_name: str | None = None
    user_data: bytes | None = None
    profile_arn: str | None = None
    profile_id: str | None = None
    role: str | None = None
    credentials: Callable[[], Mapping[str, str]] = field(default=dict)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `hops` is how many routers it may pass (the IP time to live), None for no limit."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hops: int | None = None


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


def answer(view: View, tokens: Tokens, method: str, path: str, headers: Mapping[str, str]) -> Answer:
    """Answer one request of the instance `view` describes. Header names are looked up in lower case."""
    if not view.options.enabled:
        return Answer(403, b"Forbidden")
    path = path.partition("?")[0]
    if path.rstrip("/") == "/latest/api/token":
        return _token(view, tokens, method, headers)
    if method not in {"GET", "HEAD"}:
        return Answer(405, b"Method Not Allowed", {"Allow": "GET, HEAD"})
    token = headers.get("x-aws-ec2-metadata-token")
    if token is None and view.options.tokens_required:
        return Answer(401, b"Unauthorized")
    if token is not None and not tokens.accepts(view.instance_id, token):
        return Answer(401, b"Unauthorized")
    return _look_up(view, path)


def _token(view: View, tokens: Tokens, method: str, headers: Mapping[str, str]) -> Answer:
    if method != "PUT":
        return Answer(405, b"Method Not Allowed", {"Allow": "OPTIONS, PUT"})
    if "x-forwarded-for" in headers:
        return Answer(403, b"Forbidden")  # came through a proxy: exactly what version 2 is there against
    ttl = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
    if not re.fullmatch(r"[0-9]{1,5}", ttl) or not 1 <= int(ttl) <= _MAX_TTL:
        return Answer(400, b"Bad Request")
    token = tokens.issue(view.instance_id, int(ttl))
    headers = {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": ttl}
    return Answer(200, token.encode(), headers, hops=view.options.hop_limit)


def _look_up(view: View, path: str) -> Answer:
    parts = [part for part in path.split("/") if part]
    if not parts:
        return Answer(200, "\n".join(VERSIONS).encode())
    # Any version that ever was gets the newest tree: clients that pin an old one read a subset of it.
    if parts[0] not in VERSIONS and not re.fullmatch(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", parts[0]):
        return _missing()
    if parts[1:] == ["user-data"]:
        return _missing() if view.user_data is None else Answer(200, view.user_data)
    node: Any = tree(view)
    for part in parts[1:]:
        if not isinstance(node, dict) or part not in node:
            return _missing()
        node = node[part]
    if callable(node):
        node = node()
    if node is None:
        return _missing()
    return Answer(200, (_listing(node) if isinstance(node, dict) else str(node)).encode())


def _listing(node: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}/" if isinstance(value, dict) else name for name, value in node.items())


def _missing() -> Answer:
    return Answer(404, b"Not Found")


def tree(view: View) -> Tree:
    """Return everything but the user data, as nested directories; a callable is read when it is asked for."""
    meta: Tree = {
        "ami-id": view.image_id,
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping": dict(view.block_devices),
        "hostname": view.hostname,
        "instance-action": "none",
        "instance-id": view.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": view.instance_type,
        "local-hostname": view.hostname,
        "local-ipv4": view.address,
        "mac": view.mac,
        "network": {"interfaces": {"macs": {view.mac: _interface(view)}}},
        "placement": {
            "availability-zone": view.zone,
            "region": view.region,
        },
        "profile": "default-hvm",
        "public-hostname": view.hostname,
        "public-ipv4": view.address,
        "reservation-id": "r-" + view.instance_id.removeprefix("i-"),
        "security-groups": "\n".join(view.security_groups),
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if view.public_key:
        # The directory's listing is "0=NAME", its entry is called "0": both names lead to the key.
        meta["public-keys"] = _KeyDirectory({"0": {"openssh-key": view.public_key.strip()}}, view.key_name or "key")
    if view.role:
        meta["iam"] = {
            "info": json.dumps(
                {
                    "Code": "Success",
                    "LastUpdated": view.launched,
                    "InstanceProfileArn": view.profile_arn,
                    "InstanceProfileId": view.profile_id,
                },
                indent=2,
            ),
            "security-credentials": {view.role: lambda: json.dumps(dict(view.credentials()), indent=2)},
        }
    if view.options.tags_enabled:
        meta["tags"] = {"instance": dict(view.tags)}
    return {"meta-data": meta, "dynamic": {"instance-identity": {"document": _document(view)}}}


class _KeyDirectory(dict[str, Any]):
    """The public-keys directory, whose listing names the keys."""

    def __init__(self, content: dict[str, Any], key_name: str) -> None:
        super().__init__(content)
        self.key_name = key_name

    def items(self) -> Any:
        return [(f"0={self.key_name}", "")]


def _interface(view: View) -> Tree:
    return {
        "device-number": "0",
        "interface-id": "eni-" + view.instance_id.removeprefix("i-"),
        "local-hostname": view.hostname,
        "local-ipv4s": view.address,
        "mac": view.mac,
        "owner-id": view.account,
        "public-ipv4s": view.address,
        "security-groups": "\n".join(view.security_groups),
        "subnet-id": view.subnet_id,
        "subnet-ipv4-cidr-block": view.address.rpartition(".")[0] + ".0/24",
        "vpc-id": view.vpc_id,
    }


def _document(view: View) -> str:
    architecture = {"amd64": "x86_64"}.get(view.architecture, view.architecture)
    fields = {
        "accountId": view.account,
        "architecture": architecture,
        "availabilityZone": view.zone,
        "billingProducts": None,
        "imageId": view.image_id,
        "instanceId": view.instance_id,
        "instanceType": view.instance_type,
        "kernelId": None,
        "pendingTime": view.launched,
        "privateIp": view.address,
        "ramdiskId": None,
        "region": view.region,
        "version": "2017-09-30",
    }
    return json.dumps(fields, indent=2)
