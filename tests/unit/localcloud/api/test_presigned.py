"""What somebody with rights has signed and handed on: an address of S3, or a form. It gives that, and no more.

"Sharing objects with presigned URLs" (S3 User Guide) and "POST policy" (S3 API Reference).
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from botocore.config import Config

from tests.support.localcloud.iam import REGION, IamLab, iam_lab

VERSIONS = {"s3v4": Config(signature_version="s3v4"), "s3": Config(signature_version="s3")}
STYLES = ("path", "virtual")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    with iam_lab(tmp_path) as made:
        s3 = made.client("s3")
        s3.create_bucket(Bucket="box", CreateBucketConfiguration={"LocationConstraint": REGION})
        for key in ("mine", "other", "a name/ü +&.txt"):
            s3.put_object(Bucket="box", Key=key, Body=key.encode())
        yield made


def signer(lab: IamLab, version: str, style: str = "virtual", credentials: Mapping[str, str] | None = None) -> Any:
    addressing: Any = {"addressing_style": style}
    return lab.client("s3", credentials, config=VERSIONS[version].merge(Config(s3=addressing)))


def user(lab: IamLab) -> dict[str, str]:
    iam = lab.client("iam")
    iam.create_user(UserName="u")
    allow = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::box/mine*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=policy)
    return {**iam.create_access_key(UserName="u")["AccessKey"], "SessionToken": ""}


def error(answer: tuple[int, Any, bytes]) -> tuple[int, str]:
    status, _, content = answer
    found = re.search(rb"<Code>([^<]+)</Code>", content)
    return status, found[1].decode() if found else ""


@pytest.mark.incident("a presigned PUT was refused as anonymous")
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_presigned_address_does_what_its_signer_may(lab: IamLab, version: str, style: str) -> None:
    session = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    for credentials in (None, user(lab), lab.role("r", session)):
        s3 = signer(lab, version, style, credentials)
        put = s3.generate_presigned_url("put_object", {"Bucket": "box", "Key": "mine", "ContentType": "text/x"})
        assert lab.send("PUT", put, b"new", {"Content-Type": "text/x"})[0] == 200
        get = s3.generate_presigned_url(
            "get_object", {"Bucket": "box", "Key": "mine", "ResponseContentDisposition": "attachment; filename=x"}
        )
        status, headers, content = lab.send("GET", get)
        assert (status, content, headers["Content-Type"]) == (200, b"new", "text/x")
        assert headers["Content-Disposition"] == "attachment; filename=x"
    for other in ({}, {"Content-Type": "text/y"}):
        assert error(lab.send("PUT", put, b"new", other)) == (403, "SignatureDoesNotMatch")
    odd = s3.generate_presigned_url("get_object", {"Bucket": "box", "Key": "a name/ü +&.txt"})
    assert lab.send("GET", odd)[2].decode() == "a name/ü +&.txt"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_presigned_address_gives_nothing_that_its_signer_may_not(lab: IamLab, version: str) -> None:
    s3 = signer(lab, version, credentials=user(lab))
    for operation in ("get_object", "put_object", "delete_object"):
        address = s3.generate_presigned_url(operation, {"Bucket": "box", "Key": "other"})
        method = operation.partition("_")[0].upper()
        assert error(lab.send(method, address, b"new" if method == "PUT" else b"")) == (403, "AccessDenied")
    assert lab.client("s3").get_object(Bucket="box", Key="other")["Body"].read() == b"other"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("style", STYLES)
def test_a_presigned_address_is_for_what_was_signed_alone(lab: IamLab, version: str, style: str) -> None:
    s3 = signer(lab, version, style)
    address = s3.generate_presigned_url("get_object", {"Bucket": "box", "Key": "mine"})
    wrong = (403, "SignatureDoesNotMatch")
    assert error(lab.send("GET", address.replace("mine", "other"))) == wrong
    assert error(lab.send("PUT", address, b"new")) == wrong
    assert error(lab.send("DELETE", address)) == wrong
    if version == "s3v4":
        assert error(lab.send("GET", address.replace("X-Amz-Expires=3600", "X-Amz-Expires=36000"))) == wrong
        assert error(lab.send("GET", f"{address}&versionId=null")) == wrong
    else:
        assert error(lab.send("GET", re.sub(r"Expires=\d+", "Expires=99999999999", address))) == wrong
    forged = re.sub(r"Signature=[^&]+", "Signature=zz", address)
    assert error(lab.send("GET", forged)) == wrong
    assert lab.send("GET", address)[0] == 200


@pytest.mark.parametrize("version", VERSIONS)
def test_a_presigned_address_expires(lab: IamLab, version: str) -> None:
    address = signer(lab, version).generate_presigned_url("get_object", {"Bucket": "box", "Key": "mine"})
    later = SimpleNamespace(time=lambda: time.time() + 3605)
    with mock.patch("localcloud.api.signatures.time", later):
        assert error(lab.send("GET", address)) == (403, "AccessDenied")


@pytest.mark.parametrize(
    "wrong",
    [
        {"X-Amz-Expires": "604801"},
        {"X-Amz-Expires": "x"},
        {"X-Amz-Date": "yesterday"},
        {"X-Amz-Credential": "KEY"},
        {"X-Amz-Algorithm": "x"},
    ],
)
def test_a_presigned_address_that_is_not_whole_is_refused_as_s3_does(lab: IamLab, wrong: Mapping[str, str]) -> None:
    address = signer(lab, "s3v4").generate_presigned_url("get_object", {"Bucket": "box", "Key": "mine"})
    parts = urllib.parse.urlsplit(address)
    query = urllib.parse.urlencode({**dict(urllib.parse.parse_qsl(parts.query)), **wrong})
    answer = lab.send("GET", parts._replace(query=query).geturl())
    assert error(answer) == (400, "AuthorizationQueryParametersError")


class Form:
    """A form's upload as a browser sends it."""

    def __init__(self, lab: IamLab, made: Mapping[str, Any]) -> None:
        self._lab, self.url, self.fields = lab, made["url"], dict(made["fields"])

    def send(self, content: bytes = b"content", **fields: Any) -> tuple[int, Any, bytes]:
        """Send it, with other fields; "" leaves one out."""
        said = {name: value for name, value in {**self.fields, **fields}.items() if value}
        parts = [
            f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n' for field, value in said.items()
        ]
        file = '--x\r\nContent-Disposition: form-data; name="file"; filename="file.txt"\r\n\r\n'
        body = "".join(parts).encode() + file.encode() + content + b"\r\n--x--\r\n"
        return self._lab.send("POST", self.url, body, {"Content-Type": "multipart/form-data; boundary=x"})


@pytest.mark.incident("a presigned POST was refused as anonymous")
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_form_uploads_what_its_policy_and_its_signer_s_rights_let_it(lab: IamLab, version: str, style: str) -> None:
    conditions: list[Any] = [["starts-with", "$Content-Type", "text/"], ["content-length-range", 1, 100]]
    s3 = signer(lab, version, style, user(lab))
    made = s3.generate_presigned_post("box", "mine/${filename}", {"Content-Type": "text/x"}, conditions)
    form = Form(lab, made)
    assert form.send()[0] == 204
    stored = lab.client("s3").get_object(Bucket="box", Key="mine/file.txt")
    assert (stored["Body"].read(), stored["ContentType"]) == (b"content", "text/x")
    assert error(form.send(b"x" * 101)) == (400, "EntityTooLarge")
    assert error(form.send(b"")) == (400, "EntityTooSmall")
    denied = (403, "AccessDenied")
    other: dict[str, Any] = {"Content-Type": "image/png"}
    assert error(form.send(**other)) == denied
    assert error(form.send(acl="public-read")) == denied
    assert error(form.send(key="")) == (400, "InvalidArgument")
    # botocore's policy lets the key be anything that begins as it was given.
    assert error(form.send(key="other")) == denied
    forged: dict[str, Any] = {"signature" if version == "s3" else "x-amz-signature": "00"}
    assert error(form.send(**forged)) == (403, "SignatureDoesNotMatch")
    not_allowed = Form(lab, s3.generate_presigned_post("box", "other"))
    assert error(not_allowed.send()) == denied
    assert error(Form(lab, s3.generate_presigned_post("box", "mine", ExpiresIn=-1)).send()) == denied


def test_a_form_is_answered_as_it_asks(lab: IamLab) -> None:
    fields = {"success_action_status": "201"}
    made = signer(lab, "s3v4").generate_presigned_post("box", "new", fields, [fields])
    status, _, content = Form(lab, made).send()
    assert (status, b"<Key>new</Key>" in content) == (201, True)
    fields = {"success_action_redirect": "https://example.org/done"}
    made = signer(lab, "s3v4").generate_presigned_post("box", "new", fields, [fields])
    status, headers, _ = Form(lab, made).send()
    assert (status, headers["Location"].partition("?")[0]) == (303, "https://example.org/done")


def test_a_form_that_nobody_signed_does_what_the_bucket_lets_everybody_do(lab: IamLab) -> None:
    form = Form(lab, {"url": f"https://box.s3.{REGION}.amazonaws.com/", "fields": {"key": "drop"}})
    assert error(form.send()) == (403, "AccessDenied")
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::box/drop"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    lab.client("s3").delete_public_access_block(Bucket="box")
    lab.client("s3").put_bucket_policy(Bucket="box", Policy=policy)
    assert form.send()[0] == 204
    assert error(form.send(key="mine")) == (403, "AccessDenied")
