"""The metadata service's socket: 169.254.169.254:80, where a machine is known by the address it calls from."""

from __future__ import annotations

import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from localcloud.imds.instance_metadata import Views
from localcloud.imds.metadata import Answer, Tokens, answer
from localcloud.net import network

log = logging.getLogger(__name__)
_UNLIMITED_HOPS = 64


def serve(views: Views) -> None:
    """Start answering machines, in threads."""
    tokens = Tokens()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "EC2ws"
        sys_version = ""

        def _serve(self) -> None:
            view = views.by_address(str(self.client_address[0]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if length := int(headers.get("content-length") or 0):
                self.rfile.read(min(length, 1 << 16))
            if view is None:
                self._write(Answer(404, b"Not Found"))
            else:
                self._write(answer(view, tokens, self.command, self.path, headers))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - http.server's names

        def _write(self, reply: Answer) -> None:
            # The hop limit is the time to live of the packets that carry a token: a proxy or a container one hop
            # further away never sees them.
            hops = _UNLIMITED_HOPS if reply.hops is None else reply.hops
            self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server((network.METADATA, 80), Handler)
    threading.Thread(target=server.serve_forever, name="metadata", daemon=True).start()
