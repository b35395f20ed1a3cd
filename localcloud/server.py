"""The cloud's server: `python -m localcloud.server STATE_DIRECTORY [LINK]`, started by control.py in new namespaces.

LINK is a socket that was inherited: what leads outside is at its other end (egress.py).

When it ends, for whatever reason, so does process 1 there, and with that the kernel ends everything else.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from localcloud.host import cgroups, mounts
from localcloud.net import egress, network
from localcloud.settings import Cloud, CloudSettings, read_cloud, settings_from_json
from support.errors import Error

log = logging.getLogger("localcloud")


def main(directory: Path, link: socket.socket | None) -> int:
    """Serve until killed. Returns an exit code when the cloud can't be started."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    settings = settings_from_json((directory / "settings.json").read_text())
    cloud = read_cloud(directory)
    assert cloud is not None
    try:
        wiring = _Wiring(settings, cloud, link)
        # Imported here, and so by name, because loading moto takes longer than the wiring, which goes on beside it.
        application = importlib.import_module("localcloud.application")
        wiring.wait()
        application.serve(settings, cloud)
    except Error as fault:
        print(fault, file=sys.stderr, flush=True)
        return 1
    log.info("ready: %s", cloud.endpoint)
    (directory / "ready").touch()
    while True:
        signal.pause()


class _Wiring(threading.Thread):
    """Mounts, network, DHCP and DNS, made in a thread whose failure is raised where it is waited for."""

    def __init__(self, settings: CloudSettings, cloud: Cloud, link: socket.socket | None) -> None:
        super().__init__(name="wiring")
        self._settings, self._cloud, self._link = settings, cloud, link
        self._failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Do the work."""
        try:
            wire(self._settings, self._cloud, self._link)
        except BaseException as failure:
            self._failure = failure

    def wait(self) -> None:
        """Wait for its end. Raises what it raised."""
        self.join()
        if self._failure is not None:
            raise self._failure


def wire(settings: CloudSettings, cloud: Cloud, link: socket.socket | None) -> None:
    """Make the namespaces a place for machines, with a way out at the other end of `link`. Raises Faults."""
    architectures = {image.architecture for image in settings.images}
    memory_v1 = cgroups.host_hierarchies().memory is not None
    mounts.settle(cgroups.group_name(cloud.directory), architectures, memory_v1)
    network.wait_for_uplink()
    mounts.delegate_memory()
    network.set_up(cloud, egress=link is not None)
    name_server = network.start_dnsmasq(cloud, egress=link is not None)
    threading.Thread(target=_end_with, args=(name_server,), name="dnsmasq", daemon=True).start()
    if link is not None:
        egress.hand_over(cloud, link)
        threading.Thread(target=_end_with_egress, args=(link,), name="egress", daemon=True).start()


def _end_with(name_server: subprocess.Popen[bytes]) -> None:
    """End the cloud when dnsmasq ends: dead is seen at once, machines without names and addresses are not."""
    log.error("dnsmasq ended with exit code %s, and the cloud with it", name_server.wait())
    os._exit(1)


def _end_with_egress(link: socket.socket) -> None:
    link.recv(1)  # until the other end is closed: nothing is ever sent
    log.error("the way out ended, and the cloud with it")
    os._exit(1)


def _inherited(handles: list[str]) -> socket.socket | None:
    if not handles:
        return None
    link = socket.socket(fileno=int(handles[0]))
    link.set_inheritable(False)
    return link


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), _inherited(sys.argv[2:])))
