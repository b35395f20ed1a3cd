from __future__ import annotations

import pytest

from tests.support import ROOT
from tests.support.aws_server import answering
from tests.support.errors import raises
from zmanim_ami.pipeline import settings
from zmanim_ami.pipeline.ami import ssh_source


def test_the_address_that_is_answered_is_let_in_and_no_other() -> None:
    with answering(lambda _request: (200, b"192.0.2.7\n")) as server:
        assert ssh_source.cidr(f"http://127.0.0.1:{server.port}/.checkip") == "192.0.2.7/32"
    assert [request.path for request in server.requests] == ["/.checkip"]


def test_a_range_is_taken_as_it_stands_and_nobody_is_asked() -> None:
    assert ssh_source.cidr("198.51.100.0/24") == "198.51.100.0/24"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b""),
        (200, b"0.0.0.0"),
        (200, b"127.0.0.1"),
        (200, b"0.0.0.0/0"),
        (200, b"<html>who are you?</html>"),
        (200, b"2001:db8::1"),
        (403, b"192.0.2.7"),
        (500, b""),
    ],
)
def test_without_an_address_as_its_answer_nobody_is_let_in(status: int, answer: bytes) -> None:
    with answering(lambda _request: (status, answer)) as server, raises("address-unknown") as error:
        ssh_source.cidr(f"http://127.0.0.1:{server.port}")
    assert "setting ssh_source" in error.value.expected
    assert "set ssh_source" in error.value.fix


def test_nobody_that_answers_is_told_with_the_setting_s_name() -> None:
    with answering(lambda _request: (200, b"")) as server:
        gone = f"http://127.0.0.1:{server.port}"
    with raises("address-unknown") as error:
        ssh_source.cidr(gone)
    assert "set ssh_source" in error.value.fix


@pytest.mark.parametrize("wrong", ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.7", "ftp://x", "file:///etc/hostname", "::/0"])
def test_a_setting_that_lets_everybody_in_or_is_no_place_to_ask_is_refused(wrong: str) -> None:
    with raises("setting-invalid"):
        settings.load(ROOT, {"ZMANIM_SSH_SOURCE": wrong})
