from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.environment import DEAD_ENDPOINT, environment, exports
from localcloud.settings import Cloud
from tests.support.shell import evaluated

CLOUD = Cloud(name="default", region="eu-west-1", directory=Path("/var/lib/localcloud/default"), index=7, key="KEY")
STRAY = {
    "AWS_PROFILE": "production",
    "AWS_SESSION_TOKEN": "token",
    "AWS_ENDPOINT_URL_S3": "https://s3.amazonaws.com",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/production",
    "AWS_CA_BUNDLE": "/etc/corporate.pem",
    "AWS_SOMETHING_NEW": "from next year",
}


def test_nothing_from_outside_redirects_or_authenticates_a_client() -> None:
    """The incident: AWS_ENDPOINT_URL_<SERVICE> and profiles override a local endpoint."""
    changed = environment(CLOUD, STRAY)
    assert not set(STRAY) & set(changed)
    assert changed["AWS_ENDPOINT_URL"] == "http://10.212.7.2:5000"
    assert changed["AWS_ACCESS_KEY_ID"] == "KEY"
    assert changed["AWS_REGION"] == changed["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert changed["AWS_CONFIG_FILE"] == changed["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"


def test_what_has_nothing_to_do_with_aws_stays() -> None:
    base = {"PATH": "/bin", "HOME": "/root", "AWS_PAGER": "", "ZMANIM_REGION": "eu-west-1"}
    assert base.items() <= environment(CLOUD, base).items()


@pytest.mark.parametrize("cloud", [CLOUD, None])
def test_the_shell_text_does_exactly_what_the_function_does(cloud: Cloud | None) -> None:
    base = {"PATH": os.environ["PATH"], "NO_PROXY": "localhost", **STRAY}
    _, environ = evaluated(exports(cloud, base), base)
    assert environ == environment(cloud, base)


def test_with_no_cloud_the_endpoint_is_dead_and_the_eval_fails() -> None:
    """The incident: under `set -e`, eval "$(failing command)" goes on, and then calls the real AWS."""
    code, environ = evaluated(exports(None, {}), {"PATH": os.environ["PATH"]})
    assert code == 1
    assert environ["AWS_ENDPOINT_URL"] == DEAD_ENDPOINT
    assert environ["AWS_ACCESS_KEY_ID"] == "LOCALCLOUD0000000000"


def test_a_running_cloud_s_eval_succeeds() -> None:
    code, _ = evaluated(exports(CLOUD, {}), {"PATH": os.environ["PATH"]})
    assert code == 0


def test_the_cloud_s_address_never_goes_through_a_proxy() -> None:
    assert environment(CLOUD, {"NO_PROXY": "a.example,b.example"})["NO_PROXY"] == "a.example,b.example,10.212.7.2"
    assert environment(CLOUD, {"no_proxy": "*"})["no_proxy"] == "*"


def test_packer_polls_in_whole_seconds_and_no_client_retries_for_ever() -> None:
    changed = environment(CLOUD, {"AWS_MAX_ATTEMPTS": "600"})
    assert changed["AWS_POLL_DELAY_SECONDS"].isdigit()
    assert "AWS_MAX_ATTEMPTS" not in changed  # it is botocore's number of retries too


# What an environment can hold: any text without NUL that UTF-8 can encode.
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0="), min_size=1).map("AWS_".__add__)


@given(st.dictionaries(NAMES, VALUES, max_size=3), VALUES)
def test_no_name_or_value_in_the_environment_becomes_shell_code(stray: dict[str, str], no_proxy: str) -> None:
    for line in exports(CLOUD, {**stray, "NO_PROXY": no_proxy}).split("\nunset ")[1:]:
        assert line.rstrip("\n").replace("_", "").isalnum()
    assert all(name not in environment(CLOUD, stray) for name in stray if name not in environment(CLOUD, {}))


@pytest.mark.parametrize("hostile", ["$(touch /tmp/pwned)", "'; false; '", "a\nb", "`id`"])
def test_a_hostile_proxy_list_arrives_as_it_was(hostile: str) -> None:
    base = {"PATH": os.environ["PATH"], "NO_PROXY": hostile}
    _, environ = evaluated(exports(CLOUD, base), base)
    assert environ["NO_PROXY"] == f"{hostile},10.212.7.2"
