"""What is fetched of a channel: only what was signed, and a bundle only when this machine would adopt it."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.release_files import NOW, OTHER_KEY, Site, envelope, files, packed, payload, site
from zmanim_host.aws.client import Credentials, Session
from zmanim_host.host import HostError
from zmanim_host.release.adopt import Channel, Machine, adopt
from zmanim_host.release.fetch import fetch, from_s3, within

NEW = packed(files())
SHA = hashlib.sha256(NEW).hexdigest()


@pytest.fixture
def machine(tmp_path: Path) -> Site:
    return site(tmp_path)


def objects(**changes: Any) -> dict[str, bytes]:
    pointer = envelope(payload(**{"sha256": SHA, "size": len(NEW), **changes}))
    return {"channel.json": pointer, f"bundles/{SHA}.tar.gz": NEW}


def run(machine: Site, stored: dict[str, bytes], requested: list[str] | None = None) -> str:
    def get(key: str, limit: int) -> bytes | None:
        if requested is not None:
            requested.append(key)
        content = stored.get(key)
        assert content is None or len(content) <= limit
        return content

    return fetch(get, machine.fetched, machine.store, "prod", keys=machine.keys, now=NOW)


def fetched_files(machine: Site) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in machine.fetched.iterdir()}


def test_what_is_fetched_is_adopted(machine: Site) -> None:
    assert run(machine, objects()) == "the channel of prod names v1.2.3 (serial 7)"
    around = Machine(lambda: 0, lambda: True, lambda: NOW)
    assert adopt(machine.store, Channel("prod", machine.fetched, machine.keys), around).version == "v1.2.3"
    # And what is there is not fetched again.
    calls: list[str] = []
    run(machine, objects(), calls)
    assert calls == ["channel.json"]


@pytest.mark.parametrize("changes", [{"version": "v1.0.0"}, {"version": "v0.9.0"}])
def test_no_bundle_is_fetched_where_the_image_s_own_release_wins(machine: Site, changes: dict[str, str]) -> None:
    calls: list[str] = []
    run(machine, objects(**changes), calls)
    assert (calls, set(fetched_files(machine))) == (["channel.json"], {"pointer.json"})


def test_an_empty_channel_takes_away_what_was_fetched_of_it(machine: Site) -> None:
    run(machine, objects())
    assert run(machine, {}) == "the channel of prod is empty"
    assert "pointer.json" not in fetched_files(machine)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channel.json": b"garbage"}, "not JSON"),
        ({"channel.json": envelope(payload(serial=9), OTHER_KEY)}, "not that of prod.pem"),
        ({f"bundles/{SHA}.tar.gz": NEW[:-1]}, "bytes, and should have"),
        ({f"bundles/{SHA}.tar.gz": NEW[:-1] + b"x"}, "the bundle's SHA-256 is"),
        ({f"bundles/{SHA}.tar.gz": None}, "is not there"),
        (objects(expires="2026-01-01T00:00:00Z"), "expired"),
        (objects(architecture="x86_64"), "is for 'x86_64'"),
    ],
)
def test_what_is_wrong_replaces_nothing_that_is_good(machine: Site, changes: dict[str, Any], reason: str) -> None:
    before = objects(version="v1.0.0")
    run(machine, before)
    with pytest.raises(HostError) as raised:
        run(machine, {**objects(), **changes})
    assert reason in str(raised.value)
    assert fetched_files(machine) == {"pointer.json": before["channel.json"]}


def test_a_replayed_pointer_is_not_kept(machine: Site) -> None:
    run(machine, objects())
    adopt(machine.store, Channel("prod", machine.fetched, machine.keys), Machine(lambda: 0, lambda: True, lambda: NOW))
    with pytest.raises(HostError, match="replayed"):
        run(machine, objects(serial=6))


# ---- S3, by a real server on this machine that does what the test wants ----


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[Session]:
    """Answer every connection with `answer` once its request was read; yield a session that leads there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(4096)
                        answer(connection)
                    except OSError:
                        pass  # the client has left

        thread = threading.Thread(target=serve)
        thread.start()
        keys = Credentials("AKID", "secret", "token")
        try:
            yield Session("eu-west-1", keys, lambda host, timeout: http.client.HTTPConnection("127.0.0.1", port))
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def response(head: str, body: str = "") -> Callable[[socket.socket], None]:
    whole = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    return lambda connection: connection.sendall(whole.encode())


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"), "AccessDenied"),
        (response("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>"), "NoSuchBucket"),
        (response("503 Slow Down"), "503"),
        (endless, "16384 are the limit|more than 16384 bytes"),
        (drip, "no end after"),
        (lambda connection: None, "no answer"),
    ],
)
def test_whatever_s3_does_the_error_says_it_in_time_and_nothing_is_kept(
    machine: Site, answer: Callable[[socket.socket], None], reason: str
) -> None:
    with serving(answer) as session:
        get = from_s3("zmanim-releases-prod", lambda: session)
        with pytest.raises(HostError, match=reason):
            within(0.5, lambda: fetch(get, machine.fetched, machine.store, "prod", keys=machine.keys, now=NOW))
    assert fetched_files(machine) == {}


def test_an_object_that_is_not_there_is_an_empty_channel(machine: Site) -> None:
    with serving(response("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>")) as session:
        get = from_s3("zmanim-releases-prod", lambda: session)
        assert "is empty" in fetch(get, machine.fetched, machine.store, "prod", keys=machine.keys, now=NOW)


def test_within_hands_over_results_and_failures() -> None:
    assert within(5, lambda: 42) == 42

    def fail() -> None:
        raise HostError("a reason")

    with pytest.raises(HostError, match="a reason"):
        within(5, fail)
