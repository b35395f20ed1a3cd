"""HTTP listeners in threads."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer

from support.errors import Error


class _Handler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"


def listen(application: Any, address: str, port: int, certificate: Path | None = None) -> None:
    """Serve a WSGI application, by TLS where there is a file with certificate and key. Raises `cloud-failed`."""
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    try:
        server = ThreadedWSGIServer(address, port, application, handler=_Handler, ssl_context=tls)
    except (OSError, SystemExit) as error:
        listener = f"a listener on {address}:{port}"
        raise Error("the API can't be served", code="cloud-failed", expected=listener, found=str(error)) from error
    threading.Thread(target=server.serve_forever, name=f"port {port}", daemon=True).start()
