"""The cloud's first process: `python -m localcloud.server STATE_DIRECTORY`, started by control.py in new namespaces.

It is process 1 there: when it ends, for whatever reason, the kernel ends everything else.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
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
    # Process 1 has no default action for signals.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
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
    network.start_dnsmasq(cloud)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
