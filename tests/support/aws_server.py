"""A small server in the place of AWS, for tests of what the image calls."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from zmanim_host.aws.client import Credentials, Session

KEYS = Credentials("ASIAEXAMPLEEXAMPLE00", "s3cret/key+", "t0ken==")
PATH = "/zmanim/prod/"


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Received], "tuple[int, bytes] | Iterator[bytes]"]


@dataclass
class Server:
    port: int
    requests: list[Received] = field(default_factory=list)

    def connect(self, host: str, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    @property
    def session(self) -> Session:
        return Session("eu-west-1", KEYS, self.connect)


@contextmanager
def answering(answer: Answer) -> Iterator[Server]:
    """Serve `answer`: a status and a body, or the raw bytes of the whole answer, piece by piece."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            server.requests.append(request)
            response = answer(request)
            if isinstance(response, tuple):
                self.send_response(response[0])
                self.send_header("content-length", str(len(response[1])))
                self.end_headers()
                self.wfile.write(response[1])
                return
            try:
                for piece in response:
                    self.wfile.write(piece)
                    self.wfile.flush()
            except OSError:
                return  # the client has had enough

        do_GET = do_POST  # noqa: N815 - the name that the server looks for

        def log_message(self, format: str, *arguments: object) -> None:
            return

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server = Server(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def page(names: dict[str, str], token: str = "") -> tuple[int, bytes]:
    parameters = {"Parameters": [{"Name": PATH + name, "Value": value} for name, value in names.items()]}
    return 200, json.dumps({**parameters, **({"NextToken": token} if token else {})}).encode()
