"""The cloud's first process: `python -m localcloud.server STATE_DIRECTORY`, started by control.py in new namespaces.

It is process 1 there: when it ends, for whatever reason, the kernel ends everything else.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

from localcloud import groups, mounts, network
from localcloud.faults import CloudFailed
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
        serve(settings, cloud)
    except Fault as fault:
        log.error("%s", fault)
        return 1
    while True:
        signal.pause()


def serve(settings: CloudSettings, cloud: Cloud) -> None:
    """Put everything together, start answering, and say so by writing the file `ready`."""
    wiring = _Background(lambda: _wire(settings, cloud))
    application = _application(settings, cloud)  # importing moto takes longer than the wiring beside it
    wiring.result()
    fleet, call = application()
    _listen(call, cloud.link_address, 5000, None)
    _listen(call, cloud.gateway, 443, _tls(cloud.directory / "server.pem"))
    from localcloud.metadata_server import serve as serve_metadata
    from localcloud.views import Views

    serve_metadata(Views(fleet))
    log.info("ready: %s", cloud.endpoint)
    (cloud.directory / "ready").touch()


def _wire(settings: CloudSettings, cloud: Cloud) -> None:
    architectures = {image.architecture for image in settings.images}
    memory_v1 = groups.host_hierarchies().memory is not None
    mounts.settle(groups.group_name(cloud.directory), architectures, memory_v1)
    network.wait_for_uplink()
    mounts.delegate_memory()
    network.set_up(cloud)
    network.start_dnsmasq(cloud)


def _application(settings: CloudSettings, cloud: Cloud) -> Any:
    # moto reads its settings from the environment when it is imported.
    os.environ.update(
        MOTO_ACCOUNT_ID="123456789012",
        MOTO_ENABLE_AMI_VALIDATION="true",
        MOTO_ENABLE_KEYPAIR_VALIDATION="true",
        MOTO_DISABLE_GLOBAL_CORS="true",
        AWS_ACCESS_KEY_ID="unused",
        AWS_SECRET_ACCESS_KEY="unused",
        AWS_EC2_METADATA_DISABLED="true",
    )
    from localcloud import agent, hooks_image_calls, hooks_images, hooks_instances, hooks_volumes
    from localcloud.api import Api
    from localcloud.audit import Audit
    from localcloud.fleet import Fleet

    def assemble() -> tuple[Any, Any]:
        fleet = Fleet(cloud.directory, network.Interfaces(cloud))
        regions = hooks_images.regions()
        for image in settings.images:
            ids = [hooks_images.base_image_id(image.name, region) for region in regions]
            fleet.layers.add_base(ids, image.root)
        hooks_instances.install(fleet)
        hooks_images.install(fleet, settings.images)
        hooks_image_calls.install(fleet)
        hooks_volumes.install(fleet)
        agent.install(fleet)

        def source_of(address: str) -> str:
            return "host" if address == cloud.host_address else fleet.by_address(address) or address

        return fleet, Api(Audit(cloud.directory / "api.jsonl"), source_of)

    return assemble


class _Background:
    """Work in a thread whose exception is raised where its result is asked for."""

    def __init__(self, work: Any) -> None:
        self._failure: BaseException | None = None

        def body() -> None:
            try:
                work()
            except BaseException as failure:
                self._failure = failure

        self._thread = threading.Thread(target=body)
        self._thread.start()

    def result(self) -> None:
        self._thread.join()
        if self._failure is not None:
            raise self._failure


def _tls(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _listen(application: Any, address: str, port: int, tls: ssl.SSLContext | None) -> None:
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import ThreadedWSGIServer

    class Handler(MotoRequestHandler):  # type: ignore[misc]  # moto's classes are untyped for mypy
        protocol_version = "HTTP/1.1"

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing: audit.py has its own account."""

    try:
        server = ThreadedWSGIServer(address, port, application, handler=Handler, ssl_context=tls)
    except (OSError, SystemExit) as error:
        raise CloudFailed(
            f"port {port} can't be listened on", expected=f"{address}:{port}", found=str(error)
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name=f"api {port}", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
