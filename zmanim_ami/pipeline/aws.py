"""Where AWS is, who we are there, how often we ask whether something has come true, and AWS's refusals as errors.

Nothing here knows what kind of cloud answers: the endpoint, the credentials and the polling delay come from the
environment, as they do for Packer and the AWS CLI.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import boto3
import botocore.exceptions
import botocore.parsers
from botocore.config import Config
from tenacity import RetryCallState, Retrying, retry_if_result, wait_exponential

from support.errors import BadInput, Error
from zmanim_ami.pipeline.visibility import Written

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceTypeDef
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ses import SESClient
    from mypy_boto3_sesv2 import SESV2Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

Result = TypeVar("Result")

# Kind to AWS: its API throttles, and nothing that is waited for here takes less than seconds.
DEFAULT_POLL_SECONDS = 5.0
# The states of an instance that still costs something.
ALIVE: Sequence[str] = ("pending", "running", "stopping", "stopped")


class Unreachable(Error):
    """No answer from where AWS should be."""


class AwsRefused(Error):
    """AWS refused a call for a reason that this project has no special word for."""


_FAILED_CALLS = (
    botocore.exceptions.ClientError,
    botocore.exceptions.BotoCoreError,
    botocore.parsers.ResponseParserError,
)
# What botocore raises, or a code of AWS's: the error that it becomes. {operation} is the refused call. The first that
# matches counts.
_KNOWN: tuple[tuple[set[type[Exception] | str], type[Error], str, str, str, str], ...] = (
    (
        {botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError},
        Error,
        "credentials-missing",
        "no AWS credentials",
        "credentials in the environment, a profile, or an instance's role",
        (
            "aws sso login and AWS_PROFILE, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
            'for the local cloud: ./inv cloud.up and eval "$(./inv cloud.env)"'
        ),
    ),
    (
        {
            botocore.exceptions.ProfileNotFound,
            botocore.exceptions.CredentialRetrievalError,
            botocore.exceptions.TokenRetrievalError,
            botocore.exceptions.SSOError,
            botocore.exceptions.ConfigParseError,
        },
        Error,
        "credentials-wrong",
        "the AWS configuration can't be used",
        "a profile that exists and whose credentials can be fetched",
        "check AWS_PROFILE and ~/.aws/config, then aws sso login",
    ),
    (
        {botocore.exceptions.InvalidRegionError},
        BadInput,
        "region-unknown",
        "that is no name of a region",
        "one that `aws ec2 describe-regions` lists",
        "set ZMANIM_REGION",
    ),
    (
        {
            botocore.exceptions.HTTPClientError,
            botocore.exceptions.ConnectionError,
            # Something else answers there: a proxy, for a local cloud that is gone.
            botocore.parsers.ResponseParserError,
        },
        Unreachable,
        "",
        "AWS does not answer",
        "an answer from the region's endpoint",
        (
            "check the network and the region; when AWS_ENDPOINT_URL is set, that the local cloud is up "
            '(./inv cloud.up; then eval "$(./inv cloud.env)")'
        ),
    ),
    (
        {"ExpiredToken", "ExpiredTokenException", "RequestExpired"},
        Error,
        "credentials-expired",
        "the AWS credentials have expired",
        "credentials that are still good",
        "log in again (aws sso login, or new session keys); check this machine's clock (date)",
    ),
    (
        {
            *("InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure", "UnrecognizedClientException"),
            *("InvalidAccessKeyId", "IncompleteSignature", "InvalidSignatureException"),
        },
        Error,
        "credentials-wrong",
        "AWS does not accept the credentials",
        "keys that AWS knows",
        "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_PROFILE",
    ),
    (
        {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"},
        Error,
        "not-allowed",
        "these credentials may not do this",
        "the right to {operation}",
        "use a role that has it (infrastructure/iam/), or have it granted",
    ),
    (
        {botocore.exceptions.ClientError},
        AwsRefused,
        "",
        "AWS refused {operation}",
        "the call to be accepted",
        "",
    ),
    ({botocore.exceptions.BotoCoreError}, AwsRefused, "", "AWS can't be asked", "a call and its answer", ""),
)


class AutoScaling(Protocol):
    """What is asked of EC2 Auto Scaling's client: its lists, by page."""

    def get_paginator(self, operation_name: str) -> Any:
        """Return botocore's paginator of an operation."""


@dataclass(frozen=True)
class Clients:
    """The boto3 clients of one region, made in one place (`connect`) and passed to whoever needs them."""

    autoscaling: AutoScaling
    cloudwatch: CloudWatchClient
    ec2: EC2Client
    iam: IAMClient
    kms: KMSClient
    s3: S3Client
    ses: SESClient
    sesv2: SESV2Client
    sns: SNSClient
    ssm: SSMClient
    sts: STSClient
    region: str
    written: Written


def connect(region: str, written: Written | None = None) -> Clients:
    """Return clients for `region`, with credentials and endpoint as the environment says; makes no call.

    What they write is remembered in `written`, by default from nothing.

    Raises `credentials-wrong` when a profile that is asked for does not exist, `region-unknown` for an impossible name.
    """
    with translate_errors("reading the AWS configuration"):
        session = boto3.session.Session(region_name=region)
        # The retries are given here because boto3 would read AWS_MAX_ATTEMPTS, which for Packer is how often to poll.
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=5,
            read_timeout=60,
            user_agent_extra="zmanim-ami",
        )
        clients = Clients(
            autoscaling=session.client("autoscaling", config=config),
            cloudwatch=session.client("cloudwatch", config=config),
            ec2=session.client("ec2", config=config),
            iam=session.client("iam", config=config),
            kms=session.client("kms", config=config),
            s3=session.client("s3", config=config),
            ses=session.client("ses", config=config),
            sesv2=session.client("sesv2", config=config),
            sns=session.client("sns", config=config),
            ssm=session.client("ssm", config=config),
            sts=session.client("sts", config=config),
            region=region,
            written=written or Written(),
        )
        for each in (clients.ec2, clients.iam, clients.kms, clients.s3, clients.ssm):
            clients.written.watch(each)
        return clients


def account(clients: Clients) -> str:
    """Return the 12 digits of the account that the credentials belong to (sts:GetCallerIdentity)."""
    with _in_region(clients, "asking who we are"):
        return clients.sts.get_caller_identity()["Account"]


def target(clients: Clients, environ: Mapping[str, str]) -> str:
    """Name what a task is about to talk to, for its first line.

    An endpoint in the environment is named as it stands, without a call: what is there may not answer at all.
    """
    endpoint = environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        return f"local cloud {endpoint}, {clients.region}"
    return f"AWS account {account(clients)}, {clients.region}"


def check_region(clients: Clients, *others: str) -> None:
    """Raise `region-unknown` unless the clients' region, and these others, exist and are enabled in this account."""
    with _in_region(clients, "listing the regions"):
        regions = {
            item.get("RegionName", ""): item.get("OptInStatus", "")
            for item in clients.ec2.describe_regions(AllRegions=True)["Regions"]
        }
    for region in (clients.region, *others):
        if region not in regions:
            raise _no_region(region, f"not among {', '.join(sorted(regions))}")
        if regions[region] == "not-opted-in":
            raise _no_region(region, "it is not enabled in this account")


@contextmanager
def _in_region(clients: Clients, doing: str) -> Iterator[None]:
    # A region that does not exist has no endpoint, so it looks as if the network were down.
    try:
        with translate_errors(doing):
            yield
    except (Unreachable, AwsRefused) as error:
        session = boto3.session.Session()
        partitions = session.get_available_partitions()
        known = {name for partition in partitions for name in session.get_available_regions("ec2", partition)}
        if clients.region in known:
            raise
        raise _no_region(clients.region, error.found) from error


def _no_region(region: str, found: str) -> BadInput:
    return BadInput(
        f"there is no region {region} for this account",
        code="region-unknown",
        expected="a region of AWS, as `aws ec2 describe-regions` lists them",
        found=found,
        fix="set region (and ami_regions) in pyproject.toml, ZMANIM_REGION or --region",
    )


@contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Turn what botocore raises into an Error of its own cause; `doing` says what was being done ("launching …").

    Code that can go on after a certain refusal says so inside, by `unless_refused` or `ignoring`.
    """
    try:
        yield
    except _FAILED_CALLS as error:
        raise _translated(doing, error) from error


def error_code(error: botocore.exceptions.ClientError) -> str:
    """Return AWS's own short code of a refusal, such as `InvalidAMIID.NotFound`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def unless_refused(read: Callable[[], Result], *codes: str) -> Result | None:
    """Return what `read` gets from AWS, or None when AWS refuses with one of `codes`: there is no such thing.

    Raises botocore's errors.
    """
    try:
        return read()
    except botocore.exceptions.ClientError as error:
        if error_code(error) not in codes:
            raise
        return None


@contextmanager
def ignoring(*codes: str) -> Iterator[None]:
    """Let a call be refused with a code that ends like one of these: what it would take away is gone already.

    Raises botocore's other errors.
    """
    try:
        yield
    except botocore.exceptions.ClientError as error:
        if not error_code(error).endswith(codes):
            raise


def instances(clients: Clients, filters: Mapping[str, Sequence[str]]) -> list[InstanceTypeDef]:
    """Return the instances that the filters of DescribeInstances let through, each a list of values by its name.

    Raises botocore's errors.
    """
    pages = clients.ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": name, "Values": list(values)} for name, values in filters.items()]
    )
    return [instance for page in pages for item in page["Reservations"] for instance in item["Instances"]]


def _translated(doing: str, error: Exception) -> Error:
    operation, found = getattr(error, "operation_name", ""), str(error)
    causes: set[type | str] = {*type(error).__mro__}
    if isinstance(error, botocore.exceptions.ClientError):
        causes.add(error_code(error))
        found = f"{error_code(error)}: {error.response.get('Error', {}).get('Message', '')}".removesuffix(": ")
    _, kind, code, summary, expected, fix = next(row for row in _KNOWN if row[0] & causes)
    summary = f"{summary.format(operation=operation)}, while {doing}"
    return kind(summary, code=code, expected=expected.format(operation=operation), found=found, fix=fix)


@dataclass(frozen=True)
class Poller:
    """How often we look whether something has come true: soon at first, then every `seconds`.

    `sleep` and `clock` (both in seconds) are there for tests.
    """

    seconds: float = DEFAULT_POLL_SECONDS
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def wait_for(self, look: Callable[[], Result | None], timeout: float, late: Callable[[], Error]) -> Result:
        """Call `look` until it returns something, and return that; raise what `late` gives after `timeout` seconds.

        The first pause is a tenth of the delay, and each is longer than the last up to the full delay: what is quick is
        seen at once, and a long wait costs few calls.
        """
        end = self.clock() + timeout

        def give_up(_state: RetryCallState) -> None:
            raise late()

        looking = Retrying(
            retry=retry_if_result(lambda result: result is None),
            wait=wait_exponential(multiplier=self.seconds / 10, exp_base=1.3, max=self.seconds),
            stop=lambda _state: self.clock() >= end,
            sleep=lambda pause: self.sleep(max(0.0, min(pause, end - self.clock()))),
            retry_error_callback=give_up,
        )
        return cast(Result, looking(look))


def poller(environ: Mapping[str, str]) -> Poller:
    """Return a poller with the delay of AWS_POLL_DELAY_SECONDS (Packer's own variable), where there is one.

    Raises BadInput when that is no number above 0.
    """
    text = environ.get("AWS_POLL_DELAY_SECONDS") or str(DEFAULT_POLL_SECONDS)
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text, re.ASCII) or not 0 < float(text) < 3600:
        raise BadInput(
            "AWS_POLL_DELAY_SECONDS is no number of seconds", expected="a number above 0", found=text, fix="unset it"
        )
    return Poller(float(text))
