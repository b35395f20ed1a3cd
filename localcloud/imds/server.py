"""The metadata service's socket: 169.254.169.254:80, where a machine is known by the address it calls from."""

from __future__ import annotations

import socket

from werkzeug.wrappers import Request, Response

from localcloud.api.listener import listen
from localcloud.imds.instance_metadata import MetadataLookup
from localcloud.imds.metadata import Tokens, hop_limit, respond
from localcloud.net import network


def serve(lookup: MetadataLookup) -> None:
    """Start answering machines, in threads. Raises `cloud-failed`."""
    tokens = Tokens()

    @Request.application
    def application(request: Request) -> Response:
        metadata = lookup.by_address(str(request.remote_addr))
        if metadata is None:
            return Response("Not Found", 404)
        # The time to live of the packets that carry a token: a proxy or a container one hop further away never sees
        # them.
        hops = hop_limit(metadata, request.method)
        request.environ["werkzeug.socket"].setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        headers = {name.lower(): value for name, value in request.headers}
        return respond(metadata, tokens, request.method, request.path, headers)

    listen(application, network.METADATA, 80)
