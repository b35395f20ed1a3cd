"""Who has no key of the cloud gets nothing, on no path and by no name."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from localcloud.api.admission import Admission
from localcloud.api.application import Api
from localcloud.journal import Journal
from localcloud.settings import Cloud

CLOUD = Cloud("default", "eu-west-1", Path("/nowhere"), 7, "KEY")
HOST = "10.212.7.2:5000"
SIGNED = "AWS4-HMAC-SHA256 Credential=KEY/20261124/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0"
TOKEN = "Version=2011-06-15&RoleArn=arn:aws:iam::1:role/r&RoleSessionName=me&WebIdentityToken=t"
S3 = "bucket.s3.eu-west-1.amazonaws.com"


class Served:
    """An API whose IAM lets everything on, and which notes what has come so far."""

    def __init__(self, directory: Path) -> None:
        self.came: list[str] = []
        journal, admission = Journal(directory / "api.jsonl"), Admission(CLOUD).refusal
        self._api = Api(journal, str, lambda _environ, _call: None, self._moto, admission=admission)

    def _moto(self, environ: Mapping[str, Any], start: Any) -> Iterable[bytes]:
        self.came.append(environ["PATH_INFO"])
        start("200 OK", [])
        return [b"secret"]

    def status(self, path: str = "/", *, method: str = "GET", host: str = HOST, body: str = "", **extra: str) -> int:
        """Make a request; return its status."""
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "HTTP_HOST": host, "SERVER_NAME": "x",
            "SERVER_PORT": "5000", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body.encode()),
            "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "10.212.7.1",
            "CONTENT_TYPE": "application/x-www-form-urlencoded" if body else "", **extra,
        }  # fmt: skip
        statuses: list[str] = []
        content = b"".join(self._api(environ, lambda status, *_: statuses.append(status)))
        code = int(statuses[0].split()[0])
        assert code == 200 or b"secret" not in content
        return code


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def test_a_caller_s_own_address_is_all_that_is_told_without_a_key(served: Served) -> None:
    assert served.status("/.checkip") == 200
    assert served.status("/.checkip", method="POST") == 403
    assert served.status("/.checkip/more") == 403
    assert served.came == []


@pytest.mark.incident("any user of the host could reset, read and change every cloud by /moto-api, without a key")
@pytest.mark.parametrize("signature", ["", SIGNED])
@pytest.mark.parametrize(
    "path",
    [
        *("/moto-api", "/moto-api/", "/moto-api/data.json", "/moto-api/reset", "/moto-api/recorder/replay-recording"),
        *("/%6doto-api/reset", "/favicon.ico", "/latest/meta-data/iam", "/latest/api/token"),
    ],
)
def test_moto_s_own_pages_are_nobody_s(served: Served, path: str, signature: str) -> None:
    for method in ("GET", "POST", "PUT"):
        assert served.status(path, method=method, HTTP_AUTHORIZATION=signature) == 403
    assert served.came == []


@pytest.mark.parametrize("path", ["/", "/bucket", "/bucket/key", "/v2/email", "/2015-03-31/functions", "/xyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"])
def test_without_a_key_the_host_gets_nothing_on_any_path(served: Served, path: str, method: str) -> None:
    assert served.status(path, method=method) == 403
    assert served.status(path, method=method, HTTP_AUTHORIZATION="AWS KEY:signature") == 403
    assert served.came == []


def test_without_a_key_no_operation_is_done_but_that_which_makes_one_of_a_token(served: Served) -> None:
    assert served.status(method="POST", body="Action=RunInstances&Version=2016-11-15") == 403
    assert served.status(method="POST", body="{}", HTTP_X_AMZ_TARGET="AmazonSSM.GetParameter") == 403
    assert served.status(QUERY_STRING="Action=GetCallerIdentity") == 403
    assert served.came == []
    assert served.status(method="POST", body=f"Action=AssumeRoleWithWebIdentity&{TOKEN}") == 200


def test_without_a_key_iam_decides_what_a_machine_gets_of_a_bucket_and_there_is_nothing_else(served: Served) -> None:
    machine = {"wsgi.url_scheme": "https", "host": S3}
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert served.status("/key", method=method, **machine) == 200
    assert served.came == ["/bucket/key"] * 4, "moto is told the bucket in one way only"
    served.came.clear()
    assert served.status("/key", method="POST", **machine) == 403
    assert served.status("/moto-api/reset", **machine) == 403
    assert served.status("/", **{**machine, "host": "s3.eu-west-1.amazonaws.com"}) == 403
    assert served.status("/2015-03-31/functions", **{**machine, "host": "lambda.eu-west-1.amazonaws.com"}) == 403
    assert served.came == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "localhost:5000", "10.212.7.2.evil.example", ""])
def test_a_name_that_is_not_the_cloud_s_is_refused_with_any_key(served: Served, host: str) -> None:
    """A page in a browser can let a name of its own lead to this address (DNS rebinding)."""
    assert served.status("/bucket", host=host, HTTP_AUTHORIZATION=SIGNED) == 421
    assert served.status("/bucket", host=S3, HTTP_AUTHORIZATION=SIGNED) == 421
    machine = {"wsgi.url_scheme": "https", "HTTP_AUTHORIZATION": SIGNED}
    assert served.status("/bucket", host=host, **machine) == 421
    assert served.status("/bucket", host=f"{S3}.evil.example", **machine) == 421
    assert served.came == []
    assert served.status("/bucket", HTTP_AUTHORIZATION=SIGNED) == 200
    assert served.status("/key", host=S3, **machine) == 200
    assert served.status("/key", host=f"{S3}:443", **machine) == 200


def test_a_good_answer_of_before_is_not_repeated_to_who_has_no_key(served: Served) -> None:
    attempt = {"HTTP_AMZ_SDK_INVOCATION_ID": "one"}
    assert served.status("/b", HTTP_AUTHORIZATION=SIGNED, HTTP_AMZ_SDK_REQUEST="attempt=1; max=10", **attempt) == 200
    assert served.status("/b", HTTP_AMZ_SDK_REQUEST="attempt=2; max=10", **attempt) == 403
