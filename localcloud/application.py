"""Everything that serves: moto with its hooks over the fleet, the API's two listeners, the metadata service."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer

from localcloud.api.application import Api
from localcloud.api.audit import Audit
from localcloud.ec2 import amis, image_operations, instances, volumes
from localcloud.ec2.fleet import Fleet
from localcloud.iam import bucket_policies
from localcloud.iam.authorization import Authorizer, Record
from localcloud.imds import server as metadata_server
from localcloud.imds.instance_metadata import Views
from localcloud.net.network import Interfaces
from localcloud.services import ses, ssm
from localcloud.settings import Cloud, CloudSettings
from support.errors import Error


def serve(settings: CloudSettings, cloud: Cloud) -> None:
    """Start serving, in threads. Raises `layer-failed` or `cloud-failed`."""
    fleet = Fleet(cloud.directory, Interfaces(cloud))
    regions = amis.regions()
    for image in settings.images:
        fleet.layers.add_base([amis.base_image_id(image.name, region) for region in regions], image.root)
    amis.install(fleet, settings.images)
    image_operations.install(fleet)
    instances.install(fleet)
    volumes.install(fleet)
    ssm.install(fleet)

    def source_of(address: str) -> str:
        return "host" if address == cloud.host_address else fleet.by_address(address) or address

    ses.install(cloud.directory / "mails.jsonl")
    bucket_policies.install()
    authorizer = Authorizer(Record(cloud.directory / "authorization.jsonl"), cloud.region)
    api = Api(Audit(cloud.directory / "api.jsonl"), source_of, authorizer.refusal)
    _listen(api, cloud.link_address, 5000, None)
    _listen(api, cloud.gateway, 443, _tls(cloud.directory / "server.pem"))
    metadata_server.serve(Views(fleet))


class _Handler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: audit.py has its own account."""


def _tls(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def _listen(application: Api, address: str, port: int, tls: ssl.SSLContext | None) -> None:
    try:
        server = ThreadedWSGIServer(address, port, application, handler=_Handler, ssl_context=tls)
    except (OSError, SystemExit) as error:
        wanted = f"a listener on {address}:{port}"
        raise Error("the API can't be served", code="cloud-failed", expected=wanted, found=str(error)) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name=f"api {port}", daemon=True).start()
