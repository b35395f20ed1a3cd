"""Which environment a machine belongs to comes from its launch, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from zmanim_host.aws.imds import ENDPOINT_VARIABLE, Imds, connect
from zmanim_host.environment import environment_file
from zmanim_host.host import Clock, HostError

PLACES = {"placement/region": "eu-west-1", "instance-id": "i-0123456789abcdef0"}
TAGS = {"tags/instance": "zmanim:environment", "tags/instance/zmanim:environment": "verify"}


@contextmanager
def metadata_service(answers: Mapping[str, str], *, tokens: bool = True) -> Iterator[str]:
    """A metadata service on the loopback that, like the real one, answers nothing without a token."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            wanted = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
            self.answer(403 if not tokens else 200 if wanted else 400, "TOKEN")

        def do_GET(self) -> None:
            body = answers.get(self.path.removeprefix("/latest/meta-data/"))
            known = self.headers["X-aws-ec2-metadata-token"] == "TOKEN"
            self.answer(401 if not known else 404 if body is None else 200, body or "")

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_launchs_tag_names_the_environment() -> None:
    with metadata_service({**PLACES, **TAGS}) as endpoint:
        lines = environment_file(connect(endpoint)).splitlines()
    assert lines == [
        "ZMANIM_ENVIRONMENT=verify",
        "AWS_REGION=eu-west-1",
        "INSTANCE_ID=i-0123456789abcdef0",
        "ZMANIM_REPOSITORY=i-0123456789abcdef0",
        "AWS_DEFAULT_REGION=eu-west-1",
    ]


@pytest.mark.parametrize("environment", ["verify", "prod"])
def test_only_machines_of_verification_share_their_backups_by_a_tag(environment: str) -> None:
    shared = "tags/instance/zmanim:repository"
    tags = {**TAGS, "tags/instance/zmanim:environment": environment, shared: "ab" * 16}
    with metadata_service({**PLACES, **tags}) as endpoint:
        lines = environment_file(connect(endpoint)).splitlines()
    assert [line for line in lines if "REPOSITORY" in line] == (
        [f"ZMANIM_REPOSITORY={'ab' * 16}"] if environment == "verify" else []
    )


@pytest.mark.parametrize("name", ["", "../prod", "AB" * 16, "ab" * 15])
def test_a_repository_s_tag_that_is_no_random_id_is_refused(name: str) -> None:
    tags = {**TAGS, "tags/instance/zmanim:repository": name}
    with (
        metadata_service({**PLACES, **tags}) as endpoint,
        pytest.raises(HostError, match="has to be 32 hexadecimal digits"),
    ):
        environment_file(connect(endpoint))


def test_the_endpoint_may_be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with metadata_service({**PLACES, **TAGS}) as endpoint:
        monkeypatch.setenv(ENDPOINT_VARIABLE, endpoint + "/")
        assert connect().get("meta-data/instance-id") == PLACES["instance-id"]


def test_an_instance_without_the_tag_belongs_to_no_environment() -> None:
    with (
        metadata_service({**PLACES, "tags/instance": "Name"}) as endpoint,
        pytest.raises(HostError, match="has no tag zmanim:environment"),
    ):
        environment_file(connect(endpoint))


def test_a_launch_that_hides_its_tags_has_a_message_of_its_own() -> None:
    with metadata_service(PLACES) as endpoint, pytest.raises(HostError, match="InstanceMetadataTags=enabled"):
        environment_file(connect(endpoint))


@pytest.mark.parametrize("name", ["", "Prod", "prod/../verify", "prod\nX=1", "-prod", "p" * 32])
def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    answers = {**PLACES, **TAGS, "tags/instance/zmanim:environment": name}
    with metadata_service(answers) as endpoint, pytest.raises(HostError):
        environment_file(connect(endpoint))


def test_a_service_that_refuses_is_not_asked_again() -> None:
    with metadata_service({}, tokens=False) as endpoint, pytest.raises(HostError, match="refuses a token"):
        connect(endpoint, clock=Clock(sleep=lambda _: pytest.fail("waited for a refusal to change")))


def test_a_network_that_comes_late_is_waited_for_and_one_that_never_comes_is_not() -> None:
    now = [0.0]
    sleep: Callable[[float], None] = lambda seconds: now.__setitem__(0, now[0] + seconds)  # noqa: E731 - one line reads best
    with metadata_service({}) as endpoint:
        pass  # it is gone now, and its port refuses
    with pytest.raises(HostError, match="does not answer"):
        connect(endpoint, wait=3, clock=Clock(lambda: now[0], sleep))
    assert now[0] >= 3


def test_a_path_that_can_not_be_had_is_named() -> None:
    with metadata_service({}) as endpoint, pytest.raises(HostError, match=r"meta-data/instance-id \(HTTP Error 401"):
        Imds(endpoint, "another token").get("meta-data/instance-id")
