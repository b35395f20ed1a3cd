"""Where AWS is, who we are there, how long we wait between two looks, and AWS's refusals as faults.

Nothing here knows what kind of cloud answers: the endpoint, the credentials and the pace come from the environment, as
they do for Packer and the AWS CLI.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import boto3
import botocore.exceptions
from botocore.config import Config

from support.errors import BadInput, Error

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ses import SESClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

Found = TypeVar("Found")

# Kind to AWS: its API throttles, and nothing that is waited for here takes less than seconds.
DEFAULT_POLL_SECONDS = 5.0

_MISSING = (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError)
_UNUSABLE = (
    botocore.exceptions.ProfileNotFound,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.TokenRetrievalError,
    botocore.exceptions.SSOError,
    botocore.exceptions.ConfigParseError,
)
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_WRONG = {"InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure", "UnrecognizedClientException"}
_WRONG |= {"InvalidAccessKeyId", "IncompleteSignature", "InvalidSignatureException"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}


class Unreachable(Error):
    """No answer from where AWS should be."""


class AwsRefused(Error):
    """AWS refused a call for a reason that this project has no special word for."""


@dataclass(frozen=True)
class Clients:
    """The boto3 clients of one region, made in one place (`connect`) and passed to whoever needs them."""

    cloudwatch: CloudWatchClient
    ec2: EC2Client
    iam: IAMClient
    kms: KMSClient
    s3: S3Client
    ses: SESClient
    ssm: SSMClient
    sts: STSClient
    region: str


def connect(region: str) -> Clients:
    """Return clients for `region`, with credentials and endpoint as the environment says; makes no call.

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
        return Clients(
            cloudwatch=session.client("cloudwatch", config=config),
            ec2=session.client("ec2", config=config),
            iam=session.client("iam", config=config),
            kms=session.client("kms", config=config),
            s3=session.client("s3", config=config),
            ses=session.client("ses", config=config),
            ssm=session.client("ssm", config=config),
            sts=session.client("sts", config=config),
            region=region,
        )


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


def check_region(clients: Clients) -> None:
    """Raise `region-unknown` unless the clients' region exists and is enabled in this account."""
    region = clients.region
    with _in_region(clients, "listing the regions"):
        regions = {
            item.get("RegionName", ""): item.get("OptInStatus", "")
            for item in clients.ec2.describe_regions(AllRegions=True)["Regions"]
        }
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
        expected="a region of AWS, such as eu-west-1",
        found=found,
        fix="set region in pyproject.toml, ZMANIM_REGION or --region",
    )


@contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Turn what botocore raises into a Error of its own cause; `doing` says what was being done ("launching …").

    Code that can go on after a certain refusal catches botocore's ClientError inside.
    """
    try:
        yield
    except botocore.exceptions.BotoCoreError as error:
        raise _unanswered(doing, error) from error
    except botocore.exceptions.ClientError as error:
        raise _refused(doing, error) from error


def error_code(error: botocore.exceptions.ClientError) -> str:
    """Return AWS's own short code of a refusal, such as `InvalidAMIID.NotFound`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def unless_absent(read: Callable[[], Found], *codes: str) -> Found | None:
    """Return what `read` gets from AWS, or None when AWS answers with one of `codes`: there is no such thing.

    Raises botocore's errors.
    """
    try:
        return read()
    except botocore.exceptions.ClientError as error:
        if error_code(error) not in codes:
            raise
        return None


def _unanswered(doing: str, error: botocore.exceptions.BotoCoreError) -> Error:
    if isinstance(error, _MISSING):
        return Error(
            f"no AWS credentials, while {doing}",
            code="credentials-missing",
            expected="credentials in the environment, a profile, or an instance's role",
            found=str(error),
            fix="aws sso login and AWS_PROFILE, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
            'for the local cloud: ./inv cloud.up and eval "$(./inv cloud.env)"',
        )
    if isinstance(error, _UNUSABLE):
        return Error(
            f"the AWS configuration can't be used, while {doing}",
            code="credentials-wrong",
            expected="a profile that exists and whose credentials can be fetched",
            found=str(error),
            fix="check AWS_PROFILE and ~/.aws/config, then aws sso login",
        )
    if isinstance(error, botocore.exceptions.InvalidRegionError):
        return BadInput(
            "that is no name of a region",
            code="region-unknown",
            expected="such as eu-west-1",
            found=str(error),
            fix="set ZMANIM_REGION",
        )
    if isinstance(error, botocore.exceptions.HTTPClientError | botocore.exceptions.ConnectionError):
        return Unreachable(
            f"AWS does not answer, while {doing}",
            expected="an answer from the region's endpoint",
            found=str(error),
            fix="check the network and the region; when AWS_ENDPOINT_URL is set, that the local cloud is up "
            "(./inv cloud.up)",
        )
    return AwsRefused(f"AWS can't be asked, while {doing}", expected="a call and its answer", found=str(error))


def _refused(doing: str, error: botocore.exceptions.ClientError) -> Error:
    code, message = error_code(error), str(error.response.get("Error", {}).get("Message", ""))
    found = f"{code}: {message}" if message else code
    if code in _EXPIRED:
        return Error(
            f"the AWS credentials have expired, while {doing}",
            code="credentials-expired",
            expected="credentials that are still good",
            found=found,
            fix="log in again (aws sso login, or new session keys); check this machine's clock (date)",
        )
    if code in _WRONG:
        return Error(
            f"AWS does not accept the credentials, while {doing}",
            code="credentials-wrong",
            expected="keys that AWS knows",
            found=found,
            fix="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_PROFILE",
        )
    if code in _DENIED:
        return Error(
            f"these credentials may not do this, while {doing}",
            code="not-allowed",
            expected=f"the right to {error.operation_name}",
            found=found,
            fix="use a role that has it (infrastructure/iam/), or have it granted",
        )
    return AwsRefused(
        f"AWS refused {error.operation_name}, while {doing}", expected="the call to be accepted", found=found
    )


@dataclass(frozen=True)
class Pace:
    """How often we look whether something has come true: soon at first, then every `seconds`.

    `sleep` and `clock` (both in seconds) are there for tests.
    """

    seconds: float = DEFAULT_POLL_SECONDS
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def until(self, look: Callable[[], Found | None], timeout: float) -> Found | None:
        """Call `look` until it returns something, at most `timeout` seconds long; None when time is up.

        The first looks come after a tenth of the pace, then ever later up to the full pace: what is quick is seen at
        once, and a long wait costs few calls.
        """
        end = self.clock() + timeout
        wait = self.seconds / 10
        while (found := look()) is None:
            left = end - self.clock()
            if left <= 0:
                return None
            self.sleep(min(wait, left))
            wait = min(wait * 1.3, self.seconds)
        return found


def pace(environ: Mapping[str, str]) -> Pace:
    """Return the pace that the environment asks for by AWS_POLL_DELAY_SECONDS (Packer's own variable), else AWS's.

    Raises BadInput when that is no number above 0.
    """
    text = environ.get("AWS_POLL_DELAY_SECONDS", "")
    if not text:
        return Pace()
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 3600:
        raise BadInput(
            "AWS_POLL_DELAY_SECONDS is no number of seconds", expected="a number above 0", found=text, fix="unset it"
        )
    return Pace(seconds)
