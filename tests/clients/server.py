"""`python -m tests.clients.server DIRECTORY [--plain]`: the whole local cloud on 127.0.0.1, its machines only records.

DIRECTORY/url and DIRECTORY/key are there once it answers; it serves until its stdin is closed. With --plain it is
moto's own server as it comes. POST /moto-api/reset empties the account for whoever sends the key in the header
X-Localcloud-Key: the local cloud itself has no such path, whoever asks.

What happens to a machine happens at once here, before the call that causes it is answered: moto's tests do not wait.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.ec2.models import amis as moto_amis
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.wrappers import Response

from localcloud.api.listener import listen
from localcloud.application import emulate
from localcloud.ec2 import amis, instances, volumes
from localcloud.services import ssm
from localcloud.settings import BaseImage, Cloud, make_key
from tests.support.localcloud.records import record_fleet

REGION = "us-east-1"  # moto's tests know it so
# What moto's tests launch: images that they name by id. Both servers offer these and no others.
NAMED = ("ami-12c6146b", "ami-03cf127a", "ami-fa7cdd89", "ami-f4cf1d8d")
# And those that its tests find by AWS's public parameters.
NEWEST = tuple(
    f"al2023-ami-2023.12.20260930.0-kernel-{kernel}-{architecture}"
    for kernel in ("6.1", "6.12")
    for architecture in ("x86_64", "arm64")
)
HEADER = "HTTP_X_LOCALCLOUD_KEY"


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
    """An API, and the one path that empties its account by `reset`."""

    def __init__(self, api: Any, key: str, reset: Callable[[], None]) -> None:
        self._api = api
        self._key = key
        self._reset = reset

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve a request."""
        if environ.get("PATH_INFO") != "/moto-api/reset":
            answer: Iterable[bytes] = self._api(environ, start_response)
            return answer
        if not hmac.compare_digest(str(environ.get(HEADER, "")), self._key):
            return Response("the cloud's key is missing\n", 403)(environ, start_response)
        self._reset()
        return Response("{}", 200, mimetype="application/json")(environ, start_response)


def _empty() -> None:
    """Drop all that moto has. Its own reset makes every service of every region anew first, and then drops that."""
    services: Any = BackendDict
    for service in services._instances:
        if service is s3_backends:  # its objects are files
            for account in service.values():
                account.reset()
        service.clear()
    services._instances.clear()
    reset_model_data()


def _at_once(_name: str, work: Callable[[], None]) -> None:
    work()


@contextmanager
def local_cloud(cloud: Cloud) -> Iterator[Resettable]:
    """The API of a local cloud whose machines are records."""
    nowhere = Path("/nowhere")
    images = [BaseImage(name, nowhere, name.rpartition("-")[2]) for name in NEWEST]
    images += [BaseImage(name, nowhere, "x86_64", root_device="/dev/sda1") for name in NAMED]
    ids = amis.base_image_id
    with ExitStack() as changes:
        fleet = changes.enter_context(record_fleet(cloud))
        changes.enter_context(
            mock.patch.object(amis, "base_image_id", lambda name, region: name if name in NAMED else ids(name, region))
        )
        for module in (amis, instances, ssm, volumes):
            changes.enter_context(mock.patch.object(module, "in_background", _at_once))

        def reset() -> None:
            _empty()
            for each in json.loads((cloud.directory / "machines.json").read_text()):
                fleet.discard(each["instance_id"])

        (cloud.directory / "machines.json").write_text("[]")
        yield Resettable(emulate(tuple(images), cloud, fleet).api, cloud.key, reset)


@contextmanager
def plain_moto(cloud: Cloud) -> Iterator[Resettable]:
    """moto's own server, as it comes but for most of its images, which take longer to make than most tests."""
    named = [each for each in moto_amis.AMIS if each["ami_id"] in NAMED]
    # The variable names a file of images; that it is set keeps moto from the images of its other files.
    with mock.patch.object(moto_amis, "AMIS", named), mock.patch.dict(os.environ, {"MOTO_AMIS_PATH": os.devnull}):
        yield Resettable(DomainDispatcherApplication(create_backend_app), cloud.key, _empty)


def _serve(directory: Path, *, plain: bool) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    cloud = Here("clients", REGION, directory, port, make_key(directory))
    with plain_moto(cloud) if plain else local_cloud(cloud) as api:
        listen(api, "127.0.0.1", port)
        (directory / "url").write_text(cloud.endpoint)
        sys.stdin.read()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), plain="--plain" in sys.argv[2:])
