"""The instance metadata service, version 2."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass

from zmanim_host.host import CLOCK, Clock, HostError, NotYet, retry

# The name that AWS's own clients read, so that a test (or another address family) can point elsewhere.
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
ENDPOINT = "http://169.254.169.254"
TOKEN_SECONDS = 300
# A proxy from the environment must never see a token.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Imds:
    """A session with the metadata service."""

    endpoint: str
    token: str

    def get(self, path: str) -> str | None:
        """Return what is at `path` (such as meta-data/instance-id), or None when there is nothing (404).

        Raises HostError when the service does not answer or refuses.
        """
        try:
            return _ask("GET", f"{self.endpoint}/latest/{path}", {"X-aws-ec2-metadata-token": self.token})
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 404:
                return None
            raise HostError(f"the metadata service gives no answer for {path} ({error})") from error


def connect(
    endpoint: str = "",
    *,
    wait: float = 30.0,
    clock: Clock = CLOCK,
) -> Imds:
    """Return a session, trying for `wait` seconds: early in a boot the network may not be there yet.

    Raises HostError when there is none by then, or at once when the service refuses.
    """
    endpoint = (endpoint or os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT).rstrip("/")
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}

    def attempt() -> Imds:
        try:
            return Imds(endpoint, _ask("PUT", f"{endpoint}/latest/api/token", lifetime))
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise HostError(
                    f"the metadata service refuses a token ({error.code}): launch with the metadata endpoint enabled"
                ) from error
            raise NotYet(f"the metadata service at {endpoint} does not answer: {error}") from error

    return retry(attempt, seconds=wait, pause=0.25, clock=clock)


def instance_tag(imds: Imds, name: str) -> str | None:
    """Return the value of the instance's tag `name`, or None when the instance has no such tag.

    Raises HostError with a message of its own when the launch does not let the instance read its tags.
    """
    value = imds.get(f"meta-data/tags/instance/{name}")
    if value is None and imds.get("meta-data/tags/instance") is None:
        raise HostError(
            f"the tag {name} can't be read: launch with instance tags in metadata enabled"
            " (metadata options, InstanceMetadataTags=enabled)"
        )
    return value


def _ask(method: str, url: str, headers: dict[str, str]) -> str:
    # http by nature, and the address comes from root's unit.
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310
    with _OPENER.open(request, timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode("utf-8")
