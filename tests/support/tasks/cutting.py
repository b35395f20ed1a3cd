"""A task that is killed at one of its calls: kill -9, before AWS hears of the call or while its answer is on its way.

The task is the production one. It reaches the cloud by a proxy, as from a network that has one (HTTP_PROXY), and the
proxy counts what it changes.
"""

from __future__ import annotations

import http.client
import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from tests.support import ROOT

# The first words of operations that change nothing.
_READS = ("Describe", "Get", "List", "Head", "Verify")
_OF_THE_CONNECTION = {"connection", "proxy-connection", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Ended:
    """How a task ended. `changes` are those that it made, and the one that it was `cut` at."""

    changes: Sequence[str]
    cut: bool
    returncode: int
    stdout: str
    stderr: str


class _Proxy(http.server.ThreadingHTTPServer):
    """Passes one task's calls on, and kills it at its change `number` (from 0)."""

    daemon_threads = True

    def __init__(self, number: int, *, after: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.number = number
        self.after = after
        self.changes: list[str] = []
        self.cut = threading.Event()
        self.lock = threading.Lock()
        self.kill: Callable[[], None] = lambda: None

    def count(self, operation: str) -> bool:
        """Count a call; say whether the task is to be killed at it."""
        if operation.startswith(_READS):
            return False
        with self.lock:
            if self.cut.is_set():
                return True
            self.changes.append(operation)
            if len(self.changes) <= self.number:
                return False
            self.cut.set()
            return True


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cut = self.server.count(_operation(self.command, self.headers.get("X-Amz-Target", ""), body))
        if cut and not self.server.after:
            self._end()
            return
        address = urlsplit(self.path)
        upstream = http.client.HTTPConnection(address.netloc, timeout=120)
        upstream.putrequest(
            self.command, f"{address.path or '/'}?{address.query}", skip_host=True, skip_accept_encoding=True
        )
        for name, value in self.headers.items():
            if name.lower() not in _OF_THE_CONNECTION:
                upstream.putheader(name, value)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if cut:
            self._end()
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_THE_CONNECTION:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    def _end(self) -> None:
        self.server.kill()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - http.server's names


def _operation(method: str, target: str, body: bytes) -> str:
    """Return a call's operation; of S3's, which have no name, what says as much of whether it changes something."""
    if target:
        return target.rpartition(".")[2]
    action = parse_qs(body.decode("latin-1")).get("Action")
    return action[0] if action else {"GET": "GetObject", "HEAD": "HeadObject"}.get(method, method)


def run(number: int, task: str, *arguments: str, after: bool, environment: Mapping[str, str]) -> Ended:
    """Run a task and kill it at its change `number` (from 0): before that, or `after` it was carried out."""
    with _proxy(number, after=after) as proxy:
        address = f"http://127.0.0.1:{proxy.server_port}"
        by_proxy = {"HTTP_PROXY": address, "http_proxy": address, "NO_PROXY": "", "no_proxy": ""}
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", task, *arguments],
            cwd=ROOT,
            env={**environment, **by_proxy},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        proxy.kill = lambda: os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return Ended(proxy.changes, proxy.cut.is_set(), process.returncode, stdout, stderr)


@contextmanager
def _proxy(number: int, *, after: bool) -> Iterator[_Proxy]:
    with _Proxy(number, after=after) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
