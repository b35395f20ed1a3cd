"""`python -m tests.clients.server DIRECTORY [--plain]`: the whole local cloud on 127.0.0.1, its machines only records.

DIRECTORY/url and DIRECTORY/key are there once it answers; it serves until its stdin is closed. With --plain it is
moto's own server as it comes. POST /moto-api/reset empties the account for whoever sends the key in the header
X-Localcloud-Key: the local cloud itself has no such path, whoever asks.
"""

from __future__ import annotations

import hmac
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

# moto reads these when it is imported; a cloud's server has them too (localcloud.control).
os.environ |= {"MOTO_ENABLE_AMI_VALIDATION": "true", "MOTO_ENABLE_KEYPAIR_VALIDATION": "true"}

from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response

from localcloud.api.listener import listen
from localcloud.application import emulate
from localcloud.ec2 import amis
from localcloud.settings import BaseImage, Cloud, make_key
from tests.support.localcloud.records import record_fleet

REGION = "us-east-1"  # moto's tests know it so
HEADER = "HTTP_X_LOCALCLOUD_KEY"
# What moto's tests launch: images that they name by id.
NAMED = {
    "ami-12c6146b": "x86_64",
    "ami-03cf127a": "x86_64",
    "ami-fa7cdd89": "x86_64",
    "ami-f4cf1d8d": "x86_64",
}


class Here(Cloud):
    """A cloud at this host's own address instead of one behind a link; `index` is its port."""

    @property
    def link_address(self) -> str:
        """The name that it may be called by."""
        return f"127.0.0.1:{self.index}"

    @property
    def endpoint(self) -> str:
        """The API's address."""
        return f"http://{self.link_address}"

    @property
    def subnet(self) -> str:
        """The machines' subnet."""
        return "10.213.0.0/24"


class Resettable:
    """The API, and the one path that empties the account."""

    def __init__(self, api: Any, key: str) -> None:
        self._api = api
        self._key = key

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve a request."""
        if environ.get("PATH_INFO") != "/moto-api/reset":
            answer: Iterable[bytes] = self._api(environ, start_response)
            return answer
        if not hmac.compare_digest(str(environ.get(HEADER, "")), self._key):
            return Response("the cloud's key is missing\n", 403)(environ, start_response)
        moto_api_backend.reset()
        return Response("{}", 200, mimetype="application/json")(environ, start_response)


def _serve(directory: Path, *, plain: bool) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    cloud = Here("clients", REGION, directory, port, make_key(directory))
    images = tuple(BaseImage(name, Path("/nowhere"), architecture) for name, architecture in NAMED.items())
    with record_fleet(cloud) as fleet, mock.patch.object(amis, "base_image_id", lambda name, _region: name):
        api: Any = DomainDispatcherApplication(create_backend_app) if plain else emulate(images, cloud, fleet).api
        moto_api_backend.reset()
        listen(Resettable(api, cloud.key), "127.0.0.1", port)
        (directory / "url").write_text(cloud.endpoint)
        sys.stdin.read()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), plain="--plain" in sys.argv[2:])
