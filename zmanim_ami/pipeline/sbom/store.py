"""Where SBOMs are kept: in the bucket for releases of the environment verify, as sboms/AMI.cdx.json.

The image's tag zmanim:sbom holds the SHA-256 of its document, and a document that is not the one that the tag names is
none. Who builds writes both: it is the builder's word of what is in the image.
"""

from __future__ import annotations

import hashlib

from support.errors import Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.requirements import VERIFY
from zmanim_ami.pipeline.channel import bucket as release_channel

SBOM_TAG = "zmanim:sbom"
_MISSING = {"NoSuchKey", "404"}


def keep(clients: aws.Clients, ami_id: str, document: bytes) -> str:
    """Put an image's SBOM where `read` finds it, then tag the image; return the tag's value.

    Raises `bucket-unknown`, aws's errors.
    """
    bucket, digest = release_channel.bucket(clients, VERIFY), hashlib.sha256(document).hexdigest()
    with aws.translate_errors(f"keeping the SBOM in {bucket}"):
        clients.s3.put_object(Bucket=bucket, Key=_key(ami_id), Body=document)
    with aws.translate_errors(f"tagging {ami_id}"):
        clients.ec2.create_tags(Resources=[ami_id], Tags=[{"Key": SBOM_TAG, "Value": digest}])
    return digest


def read(clients: aws.Clients, ami_id: str, digest: str) -> bytes:
    """Return the kept SBOM of an image whose tag says `digest`. Raises `no-sbom`, `sbom-is-anothers`, aws's errors."""
    bucket = release_channel.bucket(clients, VERIFY)
    with aws.translate_errors(f"reading {bucket}/{_key(ami_id)}"):
        answer = aws.unless_refused(lambda: clients.s3.get_object(Bucket=bucket, Key=_key(ami_id)), *_MISSING)
        document = answer["Body"].read() if answer else None
    if not digest or document is None:
        raise Error(
            f"there is no SBOM of {ami_id}",
            code="no-sbom",
            expected=f"the tag {SBOM_TAG}, and {bucket}/{_key(ami_id)}",
            found=f"tag {digest or '(none)'}, document {'kept' if document else '(none)'}",
            fix="an image gets one when it is built, in an account where ./inv account.apply has made the buckets",
        )
    found = hashlib.sha256(document).hexdigest()
    if found != digest:
        raise Error(
            f"the kept SBOM of {ami_id} is not the one that its tag names",
            code="sbom-is-anothers",
            expected=f"SHA-256 {digest} ({SBOM_TAG})",
            found=found,
            fix="somebody wrote over it, or over the tag: who may, stands in infrastructure/iam",
        )
    return document


def _key(ami_id: str) -> str:
    return f"sboms/{ami_id}.cdx.json"
