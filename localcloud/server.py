"""The cloud's server: `python -m localcloud.server STATE_DIRECTORY`, started by control.py in new namespaces.

When it ends, for whatever reason, so does process 1 there, and with that the kernel ends everything else.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from localcloud import groups, mounts, network
from localcloud.settings import Cloud, CloudSettings, read_cloud, settings_from_json
from support.errors import Fault

log = logging.getLogger("localcloud")


def main(directory: Path) -> int:
    """Serve until killed. Returns an exit code when the cloud can't be started."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    settings = settings_from_json((directory / "settings.json").read_text())
    cloud = read_cloud(directory)
    assert cloud is not None
    try:
        wiring = _Wiring(settings, cloud)
        # Imported here, and so by name, because loading moto takes longer than the wiring, which goes on beside it.
        application = importlib.import_module("localcloud.application")
        wiring.wait()
        application.serve(settings, cloud)
    except Fault as fault:
        print(fault, file=sys.stderr, flush=True)
        return 1
    log.info("ready: %s", cloud.endpoint)
    (directory / "ready").touch()
    while True:
        signal.pause()


class _Wiring(threading.Thread):
    """Mounts, network, DHCP and DNS, made in a thread whose failure is raised where it is waited for."""

    def __init__(self, settings: CloudSettings, cloud: Cloud) -> None:
        super().__init__(name="wiring")
        self._settings, self._cloud = settings, cloud
        self._failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Do the work."""
        try:
            wire(self._settings, self._cloud)
        except BaseException as failure:
            self._failure = failure

    def wait(self) -> None:
        """Wait for its end. Raises what it raised."""
        self.join()
        if self._failure is not None:
            raise self._failure


def wire(settings: CloudSettings, cloud: Cloud) -> None:
    """Make the namespaces a place for machines. Raises Faults."""
    architectures = {image.architecture for image in settings.images}
    memory_v1 = groups.host_hierarchies().memory is not None
    mounts.settle(groups.group_name(cloud.directory), architectures, memory_v1)
    network.wait_for_uplink()
    mounts.delegate_memory()
    network.set_up(cloud)
    name_server = network.start_dnsmasq(cloud)
    threading.Thread(target=_end_with, args=(name_server,), name="dnsmasq", daemon=True).start()


def _end_with(name_server: subprocess.Popen[bytes]) -> None:
    """End the cloud when dnsmasq ends: dead is seen at once, machines without names and addresses are not."""
    log.error("dnsmasq ended with exit code %s, and the cloud with it", name_server.wait())
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
