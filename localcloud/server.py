"""The cloud's server: `python -m localcloud.server STATE_DIRECTORY [LINK]`, started by control.py in new namespaces.

LINK is a socket that was inherited: the egress proxy is at its other end (egress.py).

When it ends, for whatever reason, so does process 1 there, and with that the kernel ends everything else.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localcloud.host import cgroups, mounts
from localcloud.net import egress, network
from localcloud.settings import Cloud, CloudSettings, read_cloud, settings_from_json
from support.cache import entry_of, hold
from support.errors import Error
from support.parallel import side_by_side

log = logging.getLogger("localcloud")


def main(directory: Path, link: socket.socket | None) -> int:
    """Serve until killed. Returns an exit code when the cloud can't be started."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    settings = settings_from_json((directory / "settings.json").read_text())
    cloud = read_cloud(directory)
    assert cloud is not None
    hold_bases(settings)
    try:
        # The application is imported here, and so by name, because loading moto takes longer than the wiring.
        works: list[Callable[[], Any]] = [
            lambda: wire(settings, cloud, link),
            lambda: importlib.import_module("localcloud.application"),
        ]
        side_by_side(works)[1].serve(settings, cloud)
    except Error as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    log.info("ready: %s", cloud.endpoint)
    (directory / "ready").touch()
    while True:
        signal.pause()


def hold_bases(settings: CloudSettings) -> None:
    """Keep what of a cache the cloud's images are from being taken away while it lives: it outlives who started it."""
    for image in settings.images:
        for path in (image.root, image.disk):
            if path and (entry := entry_of(path)):
                hold(entry)


def wire(settings: CloudSettings, cloud: Cloud, link: socket.socket | None) -> None:
    """Make the namespaces a place for machines, with egress at the other end of `link`. Raises Error."""
    architectures = {image.architecture for image in settings.images}
    memory_v1 = cgroups.host_hierarchies().memory is not None
    mounts.settle(cgroups.group_name(cloud.directory), architectures, memory_v1)
    network.wait_for_uplink()
    mounts.delegate_memory()
    network.set_up(cloud, egress=link is not None)
    name_server = network.start_dnsmasq(cloud, egress=link is not None)
    _end_after("dnsmasq", name_server.wait)
    if link is not None:
        egress.hand_over(cloud.egress_address, link)
        _end_after("the egress proxy", lambda: link.recv(1))  # until its end is closed: nothing is ever sent


def _end_after(name: str, wait: Callable[[], object]) -> None:
    """End the cloud when a part of it has ended: dead is seen at once, machines without names and addresses are not."""

    def end() -> None:
        log.error("%s ended (%r), and the cloud with it", name, wait())
        os._exit(1)

    threading.Thread(target=end, name=name, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])) if sys.argv[2:] else None))
