"""What S3 refuses of a bucket's name, and copies in parts, by boto3 against the cloud's own API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.s3.models import s3_backends

from localcloud.settings import ACCOUNT
from tests.support.localcloud.iam import REGION, IamLab, iam_lab, refused

HERE = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
REGIONAL = {**HERE, "BucketNamespace": "account-regional"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    with iam_lab(tmp_path) as made:
        yield made


def test_a_name_that_another_account_has_is_not_to_be_had(lab: IamLab) -> None:
    s3_backends["210987654321"]["aws"].create_bucket("precious", REGION)
    assert refused(lab.client("s3").create_bucket, Bucket="precious", **HERE) == "BucketAlreadyExists"


def test_a_name_of_this_accounts_namespace_in_this_region_is_to_be_had(lab: IamLab) -> None:
    s3, name = lab.client("s3"), f"mine-{ACCOUNT}-{REGION}-an"
    s3.create_bucket(Bucket=name, **REGIONAL)
    assert refused(s3.create_bucket, Bucket=name, **REGIONAL) == "BucketAlreadyOwnedByYou"


@pytest.mark.parametrize("name", ["mine", f"mine-210987654321-{REGION}-an", f"mine-{ACCOUNT}-eu-central-1-an"])
def test_a_name_of_another_namespace_is_refused(lab: IamLab, name: str) -> None:
    assert refused(lab.client("s3").create_bucket, Bucket=name, **REGIONAL) == "InvalidNamespaceHeader"


def test_a_name_of_a_namespace_is_refused_unless_the_call_says_so(lab: IamLab) -> None:
    name = f"mine-{ACCOUNT}-{REGION}-an"
    assert refused(lab.client("s3").create_bucket, Bucket=name, **HERE) == "MissingNamespaceHeader"


@pytest.mark.incident("no part of an upload could be copied: moto names what a hook took by its place")
def test_an_upload_is_put_together_of_copies(lab: IamLab) -> None:
    s3 = lab.client("s3")
    s3.create_bucket(Bucket="box", **HERE)
    s3.put_object(Bucket="box", Key="a", Body=b"content")
    upload = {"Bucket": "box", "Key": "b"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    copied = s3.upload_part_copy(**upload, PartNumber=1, CopySource="box/a")["CopyPartResult"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": copied["ETag"]}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    assert s3.get_object(Bucket="box", Key="b")["Body"].read() == b"content"
    unknown = {**upload, "UploadId": "none", "PartNumber": 1, "CopySource": "box/a"}
    assert refused(s3.upload_part_copy, **unknown) == "NoSuchUpload"


@pytest.mark.incident("since every bucket encrypts by itself, any copy of an object onto itself was taken for a change")
def test_a_copy_of_an_object_onto_itself_changes_something(lab: IamLab) -> None:
    s3 = lab.client("s3")
    s3.create_bucket(Bucket="box", **HERE)
    s3.put_object(Bucket="box", Key="a", Body=b"content")
    itself = {"Bucket": "box", "Key": "a", "CopySource": "box/a"}
    assert refused(s3.copy_object, **itself) == "InvalidRequest"
    s3.copy_object(**itself, MetadataDirective="REPLACE", Metadata={"new": "1"})
    s3.copy_object(**itself, ServerSideEncryption="AES256")
    s3.copy_object(**{**itself, "Key": "b"})
    assert s3.head_object(Bucket="box", Key="a")["Metadata"] == {"new": "1"}
