from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import botocore.exceptions
import botocore.parsers
import pytest
from botocore.exceptions import ClientError

from support.errors import BadInput, Error
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.aws import Clients


@pytest.fixture
def clients() -> Iterator[Clients]:
    with cloud.account() as made:
        yield made


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("ExpiredToken", "credentials-expired"),
        ("RequestExpired", "credentials-expired"),
        ("InvalidClientTokenId", "credentials-wrong"),
        ("AuthFailure", "credentials-wrong"),
        ("SignatureDoesNotMatch", "credentials-wrong"),
        ("UnauthorizedOperation", "not-allowed"),
        ("AccessDeniedException", "not-allowed"),
        ("InternalError", "aws-refused"),
    ],
)
def test_each_refusal_of_aws_is_an_error_that_says_what_was_being_done(code: str, cause: str) -> None:
    with raises(cause) as error, aws.translate_errors("launching"):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "RunInstances")
    assert "launching" in error.value.summary
    assert error.value.found == f"{code}: no"


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        (botocore.exceptions.NoCredentialsError(), "credentials-missing"),
        (botocore.exceptions.ProfileNotFound(profile="work"), "credentials-wrong"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "unreachable"),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="http://127.0.0.1:1"), "unreachable"),
        (botocore.parsers.ResponseParserError("a proxy's page, for a local cloud that is gone"), "unreachable"),
        (botocore.exceptions.InvalidRegionError(region_name="a b"), "region-unknown"),
        (botocore.exceptions.ParamValidationError(report="odd"), "aws-refused"),
    ],
)
def test_what_never_gets_an_answer_is_an_error_too(raised: Exception, cause: str) -> None:
    with raises(cause) as error, aws.translate_errors("launching"):
        raise raised
    assert error.value.found


def test_what_is_no_matter_of_aws_is_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), aws.translate_errors("launching"):
        raise ZeroDivisionError


def test_the_target_of_real_aws_is_its_account_and_region(clients: Clients) -> None:
    assert aws.target(clients, {}) == f"AWS account {cloud.ACCOUNT}, eu-west-1"


def test_the_target_of_an_endpoint_is_named_without_asking_it(clients: Clients) -> None:
    cloud.answer(clients.sts, "GetCallerIdentity", lambda request: "InternalError")
    assert aws.target(clients, {"AWS_ENDPOINT_URL": "http://10.0.0.1"}) == "local cloud http://10.0.0.1, eu-west-1"


def test_a_region_that_exists_passes(clients: Clients) -> None:
    aws.check_region(clients)


def test_a_region_that_the_account_has_not_enabled_is_refused(clients: Clients) -> None:
    off = {"Regions": [{"RegionName": "eu-west-1", "OptInStatus": "not-opted-in"}]}
    cloud.answer(clients.ec2, "DescribeRegions", lambda request: off)
    with raises("region-unknown"):
        aws.check_region(clients)


def test_a_region_that_is_not_listed_is_refused(clients: Clients) -> None:
    cloud.answer(clients.ec2, "DescribeRegions", lambda request: {"Regions": [{"RegionName": "eu-north-1"}]})
    with raises("region-unknown") as error:
        aws.check_region(clients)
    assert isinstance(error.value, BadInput)


def test_a_region_without_an_endpoint_is_no_broken_network(clients: Clients) -> None:
    elsewhere = replace(clients, region="eu-west-9")

    def unreachable(request: object) -> None:
        raise botocore.exceptions.EndpointConnectionError(endpoint_url="https://ec2.eu-west-9.amazonaws.com")

    cloud.answer(clients.ec2, "DescribeRegions", unreachable)
    cloud.answer(clients.sts, "GetCallerIdentity", unreachable)
    for ask in (aws.check_region, aws.account):
        with raises("region-unknown"):
            ask(elsewhere)
        with pytest.raises(aws.Unreachable):
            ask(clients)


def test_without_credentials_the_error_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch) -> None:
    with cloud.environment():
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with raises("credentials-missing") as error:
            aws.account(aws.connect("eu-west-1"))
        assert "aws sso login" in error.value.fix


def test_a_profile_that_does_not_exist_is_an_error_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with cloud.environment():
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with raises("credentials-wrong"):
            aws.connect("eu-west-1")


def test_packers_number_of_polls_is_not_taken_for_boto3s_number_of_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    with cloud.environment():
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "300")
        assert aws.connect("eu-west-1").ec2.meta.config.retries["total_max_attempts"] == 4  # type: ignore[attr-defined]


def test_polling_is_kind_to_aws_unless_the_environment_says_otherwise() -> None:
    assert aws.poller({}).seconds == 5.0
    assert aws.poller({"AWS_POLL_DELAY_SECONDS": "0.5"}).seconds == 0.5


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "1e9"])
def test_a_delay_that_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        aws.poller({"AWS_POLL_DELAY_SECONDS": text})


def test_what_is_quick_is_seen_at_once_and_a_long_wait_costs_few_looks() -> None:
    times: list[float] = []
    poller = cloud.hurried()
    with raises("late"):
        poller.wait_for(lambda: times.append(poller.clock()), 60, lambda: Error("too late", code="late"))
    assert times[1] - times[0] == pytest.approx(0.1)
    assert times[-2] - times[-3] == pytest.approx(1.0)
    assert len(times) < 75


def test_a_wait_ends_with_its_time_and_looks_once_more_then() -> None:
    poller = cloud.hurried()
    with raises("late"):
        poller.wait_for(lambda: None, 2.5, lambda: Error("too late", code="late"))
    assert poller.clock() == pytest.approx(2.5)
    assert poller.wait_for(lambda: 0, 1, lambda: Error("too late", code="late")) == 0
