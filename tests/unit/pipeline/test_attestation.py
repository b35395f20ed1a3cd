"""Whose word counts for a verification: the signing key's, about this very image, with the report that is there."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from zmanim_ami.pipeline import attestation
from zmanim_ami.pipeline.account.keys import signing_key
from zmanim_ami.pipeline.account.requirements import VERIFICATION_KEY
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.aws import Clients

BUCKET = bucket_name("releases", "verify")


@dataclass
class Signed:
    """An account with a verified image."""

    clients: Clients
    ami_id: str

    def tag(self, name: str, value: str) -> None:
        self.clients.ec2.create_tags(Resources=[self.ami_id], Tags=[{"Key": f"zmanim:{name}", "Value": value}])

    def put(self, key: str, content: bytes) -> None:
        self.clients.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def envelope(self) -> dict[str, Any]:
        key = attestation.envelope_key(self.ami_id)
        found: dict[str, Any] = json.loads(self.clients.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        return found

    def write(self, **parts: object) -> None:
        self.put(attestation.envelope_key(self.ami_id), json.dumps({**self.envelope(), **parts}).encode())

    def check(self) -> None:
        attestation.check(self.clients, image.of_id(self.clients, self.ami_id))


@pytest.fixture
def signed() -> Iterator[Signed]:
    with cloud.account() as clients:
        ami_id = cloud.make_image(clients, version="v1.2.3", commit=cloud.COMMIT, tree_digest=cloud.TREE)
        cloud.attest(clients, ami_id)
        yield Signed(clients, ami_id)


def test_what_was_verified_is_vouched_for_in_words_that_other_tools_read(signed: Signed) -> None:
    signed.check()
    envelope = signed.envelope()
    payload = base64.b64decode(envelope["payload"])
    statement = json.loads(payload)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    (subject,) = statement["subject"]
    assert subject["digest"]["sha256"] == cloud.image_tags(signed.clients, signed.ami_id)[image.VERIFIED_TAG]
    told = statement["predicate"]["image"]
    assert (told["id"], told["account"], told["region"]) == (signed.ami_id, cloud.ACCOUNT, "eu-west-1")
    assert told["snapshots"] == list(image.of_id(signed.clients, signed.ami_id).snapshots)
    assert told["tags"] == {"version": "v1.2.3", "commit": cloud.COMMIT, "tree-digest": cloud.TREE}
    # DSSE's own example of what is signed: its type, its length, the text, each with a length before it.
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    content = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    assert signing_key.is_signed(signed.clients, VERIFICATION_KEY, content, signature)


def another_report(signed: Signed) -> None:
    """Who may write reports and tags, and not sign, lets a bad image look verified."""
    forged = json.dumps({"ami_id": signed.ami_id, "ok": True, "checks": []}).encode()
    signed.put(f"reports/{signed.ami_id}.json", forged)
    signed.tag("verified", hashlib.sha256(forged).hexdigest())


def another_images(signed: Signed) -> None:
    """A good image's statement, report and tag at a bad one."""
    good, digest = signed.ami_id, cloud.image_tags(signed.clients, signed.ami_id)[image.VERIFIED_TAG]
    report, envelope = attestation.read_report(signed.clients, good), signed.envelope()
    assert report
    signed.ami_id = cloud.make_image(signed.clients, "zmanim-v1.2.3-bad", version="v1.2.3")
    signed.put(f"reports/{signed.ami_id}.json", report)
    signed.put(attestation.envelope_key(signed.ami_id), json.dumps(envelope).encode())
    signed.tag("verified", digest)


def another_keys(signed: Signed) -> None:
    other = signing_key.Key("alias/other", "anything", "verify")
    signing_key.create(signed.clients, other)
    payload = base64.b64decode(signed.envelope()["payload"])
    content = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    signature = base64.b64encode(signing_key.sign(signed.clients, other, content)).decode()
    signed.write(signatures=[{"keyid": VERIFICATION_KEY.alias, "sig": signature}])


def edited(signed: Signed) -> None:
    statement = json.loads(base64.b64decode(signed.envelope()["payload"]))
    statement["predicate"]["image"]["tags"]["version"] = "v9.9.9"
    signed.write(payload=base64.b64encode(json.dumps(statement).encode()).decode())
    signed.tag("version", "v9.9.9")


FORGED: dict[str, tuple[Callable[[Signed], None], str]] = {
    "no statement": (
        lambda signed: void(
            signed.clients.s3.delete_object(Bucket=BUCKET, Key=attestation.envelope_key(signed.ami_id))
        ),
        "no statement",
    ),
    "no report": (
        lambda signed: void(signed.clients.s3.delete_object(Bucket=BUCKET, Key=f"reports/{signed.ami_id}.json")),
        "no report",
    ),
    "another report and its tag": (another_report, "something else than this image"),
    "another report": (lambda signed: signed.put(f"reports/{signed.ami_id}.json", b"{}"), "not the one of its tag"),
    "another image's": (another_images, "something else than this image"),
    "another key's": (another_keys, "has not signed"),
    "an edited statement": (edited, "has not signed"),
    "another tag": (lambda signed: signed.tag("commit", "f" * 40), "something else than this image"),
    "no signature": (lambda signed: signed.write(signatures=[]), "can't be read"),
    "no JSON": (lambda signed: signed.put(attestation.envelope_key(signed.ami_id), b"{"), "can't be read"),
    "too long": (lambda signed: signed.write(payload=base64.b64encode(b'"' + b"x" * 5000 + b'"').decode()), "has not"),
}


def void(_value: object) -> None:
    """Take a value and return nothing."""


@pytest.mark.parametrize("name", FORGED)
def test_a_tag_or_a_report_or_a_statement_that_is_forged_is_refused(signed: Signed, name: str) -> None:
    forge, found = FORGED[name]
    forge(signed)
    with raises("not-attested") as error:
        signed.check()
    assert error.value.exit_code == 2
    assert found in error.value.found
    assert f"verify-ami --ami-id {signed.ami_id}" in error.value.fix


def test_a_statement_that_kms_would_not_sign_is_no_statement(signed: Signed) -> None:
    signed.tag("tool-versions", "x" * 200)
    for name in ("source-ami", "version"):
        signed.tag(name, "y" * 200)
    ami = image.of_id(signed.clients, signed.ami_id)
    long = image.Image(**{**vars(ami), "snapshots": tuple(f"snap-{n:017x}" for n in range(200))})
    with raises("statement-too-long"):
        attestation.keep(signed.clients, long, b"{}")
