"""What a passed verification leaves: its report, and a signed statement that the report is this image's.

Both lie in the bucket for releases of the environment verify: reports/AMI.json, reports/AMI.dsse.json. The image's
tag zmanim:verified holds the SHA-256 of the report, and the statement says so again, signed by a KMS key that only the
verify role may use: a tag and a bucket's objects can be written by whoever gets the right to write them, a signature
can't. The statement is in-toto's (github.com/in-toto/attestation, spec/v1/statement.md) in an envelope of DSSE's
(github.com/secure-systems-lab/dsse, protocol.md), so that other people's tools read it.

An SSM parameter would be too small for a report, and an artifact of the workflow is gone after 90 days.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Final

from support.errors import BadInput, Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import public_parameters
from zmanim_ami.pipeline.account.keys import signing_key
from zmanim_ami.pipeline.account.requirements import VERIFICATION_KEY, VERIFY
from zmanim_ami.pipeline.ami import image

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://zmanim.shtetl.io/ami-verification/v1"
# KMS signs no longer message, and what is signed is a little longer than the statement.
_LARGEST = 4096
_MISSING = {"NoSuchKey", "404"}
# Of the image's tags, what the statement repeats.
_TAGS = ("version", "commit", "tree-digest", "source-ami", "tool-versions", "programs", "sbom")


def keep(clients: aws.Clients, ami: image.Image, report: bytes) -> str:
    """Put a passed verification's report and the signed statement about it into the account; return the digest.

    Raises `bucket-unknown`, signing_key's errors, `statement-too-long`, aws's errors.
    """
    digest = hashlib.sha256(report).hexdigest()
    payload = json.dumps(statement(ami, clients.region, digest), sort_keys=True).encode("ascii")
    signed = _signed_bytes(payload)
    if len(signed) > _LARGEST:
        raise Error(
            f"the statement about {ami.ami_id} is too long to be signed",
            code="statement-too-long",
            expected=f"at most {_LARGEST} bytes",
            found=f"{len(signed)}",
            fix="which tag of the image is that long?",
        )
    signature = signing_key.sign(clients, VERIFICATION_KEY, signed)
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": VERIFICATION_KEY.alias, "sig": base64.b64encode(signature).decode()}],
    }
    bucket = _bucket(clients)
    with aws.translate_errors(f"keeping the report in {bucket}"):
        clients.s3.put_object(Bucket=bucket, Key=_report_key(ami.ami_id), Body=report)
        clients.s3.put_object(Bucket=bucket, Key=envelope_key(ami.ami_id), Body=json.dumps(envelope).encode())
    return digest


def check(clients: aws.Clients, ami: image.Image) -> None:
    """Raise `not-attested` unless the statement about this very image and the report that is kept is signed.

    Raises `bucket-unknown`, aws's errors as well.
    """
    found = "; ".join(wrong(clients, ami))
    if found:
        raise BadInput(
            f"nobody vouches for the verification of {ami.ami_id} ({ami.version})",
            code="not-attested",
            expected=f"a statement about it and its report, signed by {VERIFICATION_KEY.alias}",
            found=found,
            fix=f"./inv verify-ami --ami-id {ami.ami_id}; where it was verified: who else writes tags and reports?",
        )


def wrong(clients: aws.Clients, ami: image.Image) -> Iterator[str]:
    """Yield what keeps an image's verification from being believed. Raises `bucket-unknown`, aws's errors."""
    digest = ami.tags.get(image.VERIFIED_TAG, "")
    content = _read(clients, envelope_key(ami.ami_id))
    if content is None:
        yield "no statement about it"
        return
    try:
        envelope = json.loads(content)
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        said = json.loads(payload)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        yield f"a statement that can't be read ({error!r})"
        return
    signed = _signed_bytes(payload)
    if len(signed) > _LARGEST or not signing_key.is_signed(clients, VERIFICATION_KEY, signed, signature):
        yield f"a statement that {VERIFICATION_KEY.alias} has not signed"
        return
    # Whoever signs says so of one image as it is: every part of it, or it is a statement about another one.
    if said != statement(ami, clients.region, digest):
        yield f"a signed statement about something else than this image as it is: {json.dumps(said)[:600]}"
    report = read_report(clients, ami.ami_id)
    if report is None or hashlib.sha256(report).hexdigest() != digest:
        yield "no report" if report is None else f"a report that is not the one of its tag {image.VERIFIED_TAG}"


def read_report(clients: aws.Clients, ami_id: str) -> bytes | None:
    """Return the kept report on an image, None when there is none. Raises `bucket-unknown`, aws's errors."""
    return _read(clients, _report_key(ami_id))


def statement(ami: image.Image, region: str, digest: str) -> Mapping[str, object]:
    """Return what is signed about the image whose report has the SHA-256 `digest`."""
    tags = {name: ami.tags[f"zmanim:{name}"] for name in _TAGS if f"zmanim:{name}" in ami.tags}
    snapshots = sorted(ami.snapshots)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": _report_key(ami.ami_id), "digest": {"sha256": digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": "PASSED",
            "image": {"id": ami.ami_id, "account": ami.owner, "region": region, "snapshots": snapshots, "tags": tags},
        },
    }


def envelope_key(ami_id: str) -> str:
    """Return the key of the signed statement about an image."""
    return f"reports/{ami_id}.dsse.json"


def _signed_bytes(payload: bytes) -> bytes:
    """Return what DSSE signs of a payload: its pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _report_key(ami_id: str) -> str:
    return f"reports/{ami_id}.json"


def _bucket(clients: aws.Clients) -> str:
    return public_parameters.bucket(clients, VERIFY, "releases")


def _read(clients: aws.Clients, key: str) -> bytes | None:
    bucket = _bucket(clients)
    with aws.translate_errors(f"reading {bucket}/{key}"):
        answer = aws.unless_refused(lambda: clients.s3.get_object(Bucket=bucket, Key=key), *_MISSING)
        return answer["Body"].read() if answer else None
