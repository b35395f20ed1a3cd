"""The channel's pointer: what is not exactly what was signed is refused, whatever it is."""

from __future__ import annotations

import base64
import json
import string
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.version_order import version_key
from tests.support.release_files import OTHER_KEY, envelope, payload, write_key
from zmanim_host.host import HostError
from zmanim_host.release.pointer import LONGEST, open_envelope, order, read, read_payload

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NUMBER = st.integers(0, 10**12)
VERSIONS = st.builds(
    lambda parts, candidate: "v" + ".".join(map(str, parts)) + (f"-rc.{candidate}" if candidate else ""),
    st.tuples(NUMBER, NUMBER, NUMBER),
    NUMBER,
)


def encoded(content: object) -> bytes:
    return json.dumps(content).encode()


def test_what_was_signed_is_read(tmp_path: Path) -> None:
    pointer = read(envelope(payload(rollback=True)), "prod", write_key(tmp_path))
    assert (pointer.version, pointer.serial, pointer.rollback) == ("v1.2.3", 7, True)
    assert pointer.expires == 1_811_808_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded({"payload": "e30="}), "is not signed"),
        (encoded({"payload": "e30=", "signature": ""}), "signature is not Base64"),
        (encoded({"payload": "e30=", "signature": "bm8="}), "not that of prod.pem"),
        (envelope(payload(), OTHER_KEY), "not that of prod.pem"),
        (envelope(payload())[:-20], "not JSON"),
        (b"", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b'{"payload": "", "payload": "", "signature": ""}', "not JSON"),
        (b" " * (LONGEST + 1), "longer than"),
        (envelope(payload(environment="verify")), "is for 'verify', and this machine is prod"),
        (envelope(payload(format=2)), "format is 2"),
        (envelope(payload(serial=True)), "serial is not of the right kind"),
        (envelope(payload(size=1 << 40)), "size is not"),
        (envelope(payload(more=1)), "other fields than it should: more"),
        (envelope(payload(expires=None)), "other fields than it should: expires"),
        (envelope(payload(expires="2027-02-31T00:00:00Z")), "expires is not a time"),
        (envelope(payload(version="test-mine")), "not a release's version"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(HostError, match=reason):
        read(content, "prod", write_key(tmp_path))


def test_a_payload_that_was_changed_after_signing_is_refused(tmp_path: Path) -> None:
    output = json.loads(envelope(payload()))
    output["payload"] = base64.b64encode(encoded(payload(serial=8))).decode()
    with pytest.raises(HostError, match="signature"):
        read(encoded(output), "prod", write_key(tmp_path))


def test_an_environment_without_a_key_follows_no_channel(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no key for the channel of verify"):
        read(envelope(payload(environment="verify")), "verify", write_key(tmp_path))


def test_a_key_that_is_none_verifies_nothing(tmp_path: Path) -> None:
    (tmp_path / "prod.pem").write_text("not a key\n")
    with pytest.raises(HostError, match=r"not that of prod\.pem"):
        open_envelope(envelope(payload()), tmp_path / "prod.pem")


@given(st.binary(max_size=300) | JSON.map(encoded))
def test_any_bytes_end_in_an_error_and_never_in_anything_else(content: bytes) -> None:
    with suppress(HostError):
        read_payload(content)
    with pytest.raises(HostError):
        open_envelope(content, Path("/nowhere.pem"))


@given(st.sampled_from(sorted(payload())), JSON)
def test_any_value_in_any_field_is_read_as_it_is_or_refused(name: str, value: Any) -> None:
    output = payload(**{name: value})
    try:
        pointer = read_payload(encoded(output))
    except HostError:
        return
    assert type(value) is type(payload()[name])
    assert name in {"format", "expires"} or getattr(pointer, name) == value


@given(VERSIONS, VERSIONS)
def test_versions_are_ordered_as_the_publisher_orders_them(one: str, other: str) -> None:
    assert (order(one) < order(other)) == (version_key(one) < version_key(other))


@given(st.text(alphabet=string.printable, max_size=20))
def test_what_is_no_version_is_refused(text: str) -> None:
    try:
        order(text)
    except HostError:
        return
    assert text == text.strip()
    assert text[0] == "v"


def test_a_candidate_is_older_than_its_release() -> None:
    assert order("v1.2.2") < order("v1.2.3-rc.2") < order("v1.2.3-rc.10") < order("v1.2.3") < order("v1.10.0")
    assert order(f"v1.2.3-rc.{10**20}") < order("v1.2.3")
