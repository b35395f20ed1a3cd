"""What parses untrusted input answers any of it with a result or an error, never with a traceback.

A few minutes of examples: `nox -s faults -- -k untrusted`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.errors import BadInput
from tests.support import ROOT
from tests.support.release_files import OTHER_KEY, envelope, payload, write_key
from zmanim_ami.gate.image import versions
from zmanim_ami.pipeline.ami import provenance
from zmanim_ami.pipeline.pins.versions import VERSIONS as VERSIONS_FILE
from zmanim_ami.pipeline.settings import Settings
from zmanim_host import environment
from zmanim_host.aws import client, imds
from zmanim_host.host import HostError
from zmanim_host.release import pointer as release_pointer
from zmanim_host.secrets.escaping import environment_line

LONG = settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
anything = st.recursive(
    plain, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4)
)
# JSON, what JSON is cut from, and bytes that are no text at all.
words = (
    st.binary(max_size=200)
    | anything.map(lambda value: json.dumps(value).encode())
    | st.text(max_size=50).map(str.encode)
)
keys = st.fixed_dictionaries(dict.fromkeys(("AccessKeyId", "SecretAccessKey", "Token"), st.text(max_size=9) | anything))
parameters = st.fixed_dictionaries(
    {"Parameters": st.lists(st.fixed_dictionaries({"Name": plain, "Value": plain}) | anything, max_size=3)},
    optional={"NextToken": plain},
)
# A whole pointer in which some fields are something else.
pointers = st.builds(
    lambda changes: payload(**changes),
    st.dictionaries(st.sampled_from(sorted(payload())), plain | anything, max_size=3),
)
VERSIONS = json.loads((ROOT / VERSIONS_FILE).read_text())


@contextmanager
def metadata_says(say: Callable[[str], bytes]) -> Iterator[imds.Imds]:
    def answer(request: Any, timeout: float) -> BytesIO:
        return BytesIO(say(request.full_url.partition("/latest/")[2]))

    with mock.patch.object(imds._OPENER, "open", answer):
        yield imds.Imds("http://metadata", "token")


@LONG
@given(words | keys.map(lambda value: json.dumps(value).encode()))
def test_whatever_the_metadata_service_says_there_are_credentials_or_an_error(answer: bytes) -> None:
    with metadata_says(lambda path: b"role" if path.endswith("security-credentials/") else answer) as session:
        try:
            result = client.instance_credentials(session)
        except HostError:
            return
        assert {type(each) for each in (result.access_key, result.secret_key, result.token)} == {str}


@LONG
@given(words, words)
def test_whatever_the_launch_s_tag_holds_it_is_a_name_or_an_error(tag: bytes, place: bytes) -> None:
    with metadata_says(lambda path: tag if "/tags/" in path else place) as session:
        try:
            text = environment.environment_file(session)
        except HostError:
            return
    # Nothing of the answer may have become a line of its own.
    assert [line.partition("=")[0] for line in text.splitlines()] == [
        *("ZMANIM_ENVIRONMENT", "AWS_REGION", "INSTANCE_ID", "AWS_DEFAULT_REGION")
    ]


@LONG
@given(words | parameters.map(lambda value: json.dumps(value).encode()))
def test_whatever_parameter_store_answers_there_are_values_by_name_or_an_error(answer: bytes) -> None:
    values: dict[str, str] = {}
    reason = ""
    try:
        client.read_page(answer, "/zmanim/prod/", values)
    except HostError as error:
        reason = str(error)
    # No value is repeated.
    assert reason in {"", "Parameter Store's answer for /zmanim/prod/ can't be understood"}
    assert {type(each) for each in (*values, *values.values())} <= {str}


@LONG
@given(st.text())
def test_whatever_a_parameter_holds_it_stays_one_variable(value: str) -> None:
    try:
        line = environment_line("NAME", value)
    except HostError:
        assert "\0" in value
    else:
        assert line.startswith('NAME="')
        assert line.endswith('"\n')


@LONG
@given(
    words,
    st.lists(
        st.sampled_from(["base", "packages", "artifacts", "redis", "sha256", "review_by"]), min_size=1, max_size=3
    ),
    anything,
)
def test_whatever_stands_in_the_versions_file_is_refused_with_words(
    tmp_path: Path, answer: bytes, way: list[str], value: object
) -> None:
    path = tmp_path / VERSIONS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / versions.SCHEMA).write_text((ROOT / versions.SCHEMA).read_text())
    changed = json.loads(json.dumps(VERSIONS))
    at = changed
    for key in way[:-1]:
        at = at[key] if isinstance(at.get(key), dict) else at
    at[way[-1]] = value
    for content in (answer, json.dumps(changed).encode()):
        path.write_bytes(content)
        assert all(finding.words for finding in versions.check(tmp_path))
        try:
            provenance.versions_sha256(tmp_path, Settings())
        except BadInput:
            continue
        assert json.loads(path.read_bytes()) is not None or answer == b"null"


def read_pointer(keys: Path, answer: bytes) -> release_pointer.Pointer | None:
    try:
        return release_pointer.read(answer, "prod", keys)
    except HostError:
        return None


@LONG
@given(
    words | pointers.map(lambda each: envelope(each, OTHER_KEY)),
    st.integers(0),
    st.binary(min_size=1, max_size=3),
)
def test_whatever_lies_in_the_release_channel_unsigned_it_is_an_error(
    tmp_path: Path, answer: bytes, at: int, other: bytes
) -> None:
    keys = write_key(tmp_path / "keys")
    assert read_pointer(keys, answer) is None
    # One that was signed, with a few bytes that were not.
    signed = envelope(payload())
    at %= len(signed)
    changed = signed[:at] + other + signed[at + len(other) :]
    result = read_pointer(keys, changed)
    assert result is None or json.loads(changed) == json.loads(signed)


@LONG
@given(pointers | anything)
def test_whatever_the_release_channel_s_key_signed_it_is_a_pointer_of_one_form_or_an_error(
    tmp_path: Path, answer: Any
) -> None:
    pointer = read_pointer(write_key(tmp_path / "keys"), envelope(answer))
    if pointer is None:
        return
    assert pointer.environment == "prod"
    assert pointer.serial >= 1
    assert 1 <= pointer.size <= release_pointer.LARGEST_BUNDLE
    # It becomes the name of an object and of a directory.
    assert release_pointer.is_release(pointer.version)
    assert len(pointer.sha256) == 64
    assert set(pointer.sha256) <= set("0123456789abcdef")
    assert {type(pointer.expires), type(pointer.rollback), type(pointer.architecture)} == {float, bool, str}
