"""S3: buckets, their settings, objects."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.rows import Refused, Row, Step, row

ERRORS = "AmazonS3/latest/API/ErrorResponses.html"
HERE = {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}}
BUCKET = {"Bucket": "$bucket"}
NONE = {"Bucket": "contract-none"}
OBJECT = {**BUCKET, "Key": "$object"}
VERSIONED = (Step("s3:PutBucketVersioning", {**BUCKET, "VersioningConfiguration": {"Status": "Enabled"}}),)
POLICY = '{"Version": "2012-10-17", "Statement": []}'


BLOCKED = "AmazonS3/latest/userguide/access-control-block-public-access.html"
UNBLOCKED = (Step("s3:DeletePublicAccessBlock", BUCKET),)


def policy(**changes: Any) -> str:
    """Return a policy of the stage's bucket that lets everybody read."""
    given = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::contract/*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**given, **changes}]})


def unset(operation: str, code: str) -> Row:
    """A setting that a new bucket has not."""
    return row(f"s3:{operation}", "a new bucket has none", BUCKET, code, page=ERRORS)


def of_unknown(operation: str, **request: Any) -> Row:
    """An operation on a bucket that does not exist."""
    return row(f"s3:{operation}", "a bucket that does not exist", {**NONE, **request}, "NoSuchBucket", page=ERRORS)


BUCKETS = (
    row("s3:CreateBucket", "in this region", {"Bucket": "contract-two", **HERE}, {"Location": ...}),
    row("s3:CreateBucket", "that one has", {**BUCKET, **HERE}, "BucketAlreadyOwnedByYou", page=ERRORS),
    row("s3:CreateBucket", "a name that is none", {"Bucket": "Contract_Two", **HERE}, "InvalidBucketName", page=ERRORS),
    row("s3:CreateBucket", "without its region", {"Bucket": "contract-two"}, "IllegalLocationConstraintException", page=ERRORS),
    row("s3:CreateBucket", "a regional namespace that is not asked for", {"Bucket": "x-123456789012-eu-west-1-an", **HERE}, "MissingNamespaceHeader", page="AmazonS3/latest/userguide/bucketnamingrules.html"),
    row("s3:HeadBucket", "one that does not exist", NONE, "404"),
    row("s3:HeadBucket", "one's own", BUCKET, {}),
    row("s3:ListBuckets", "one's own", {}, {"Buckets[0].Name": "contract"}, before=(Step("s3:HeadBucket", BUCKET),)),
    row("s3:GetBucketLocation", "where it is", BUCKET, {"LocationConstraint": "eu-west-1"}),
    row("s3:DeleteBucket", "with objects in it", BUCKET, "BucketNotEmpty", page=ERRORS, before=(Step("s3:HeadObject", OBJECT),)),
    of_unknown("DeleteBucket"),
    of_unknown("ListObjectsV2"),
    of_unknown("PutObject", Key="k", Body=b""),
    of_unknown("GetBucketPolicy"),
    of_unknown("ListObjectVersions"),
    unset("GetBucketPolicy", "NoSuchBucketPolicy"),
    unset("GetBucketLifecycleConfiguration", "NoSuchLifecycleConfiguration"),
    unset("GetBucketTagging", "NoSuchTagSet"),
    unset("GetBucketCors", "NoSuchCORSConfiguration"),
    unset("GetObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"),
    unset("GetBucketReplication", "ReplicationConfigurationNotFoundError"),
    row("s3:GetBucketVersioning", "a new bucket has none", BUCKET, {"Status": None}),
    row("s3:GetBucketEncryption", "a new bucket has S3's own", BUCKET, {"ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm": "AES256"}, page="AmazonS3/latest/userguide/default-bucket-encryption.html"),
    row("s3:GetPublicAccessBlock", "a new bucket is blocked", BUCKET, {"PublicAccessBlockConfiguration.BlockPublicAcls": True}, page="AmazonS3/latest/userguide/access-control-block-public-access.html"),
    row("s3:PutPublicAccessBlock", "as it is set", {**BUCKET, "PublicAccessBlockConfiguration": {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}}, {}, then=(Step("s3:GetPublicAccessBlock", BUCKET, {"PublicAccessBlockConfiguration.RestrictPublicBuckets": True}),)),
    row("s3:PutBucketEncryption", "as it is set", {**BUCKET, "ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}}, {}, then=(Step("s3:GetBucketEncryption", BUCKET, {"ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm": "aws:kms"}),)),
    row("s3:PutBucketVersioning", "as it is set", {**BUCKET, "VersioningConfiguration": {"Status": "Enabled"}}, {}, then=(Step("s3:GetBucketVersioning", BUCKET, {"Status": "Enabled"}),)),
    row("s3:PutBucketLifecycleConfiguration", "as it is set", {**BUCKET, "LifecycleConfiguration": {"Rules": [{"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 35}}]}}, {}, then=(Step("s3:GetBucketLifecycleConfiguration", BUCKET, {"Rules[0].NoncurrentVersionExpiration.NoncurrentDays": 35}),)),
    row("s3:PutBucketPolicy", "what is no policy", {**BUCKET, "Policy": "{"}, "MalformedPolicy"),
    row("s3:PutBucketPolicy", "that says nothing", {**BUCKET, "Policy": POLICY}, "MalformedPolicy"),
    row("s3:PutBucketPolicy", "about another bucket", {**BUCKET, "Policy": policy(Resource="arn:aws:s3:::other/*")}, "MalformedPolicy"),
    row("s3:PutBucketPolicy", "for everybody, while that is blocked", {**BUCKET, "Policy": policy()}, "AccessDenied", page=BLOCKED),
    row("s3:PutBucketPolicy", "for everybody in a network, while that is blocked", {**BUCKET, "Policy": policy(Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}})}, {}, page=BLOCKED),
    row("s3:PutBucketPolicy", "for everybody at every address, while that is blocked", {**BUCKET, "Policy": policy(Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/1"}})}, "AccessDenied", page=BLOCKED),
    row("s3:PutBucketPolicy", "that denies everybody something, while public ones are blocked", {**BUCKET, "Policy": policy(Effect="Deny", Action="s3:DeleteObject")}, {}, page=BLOCKED),
    row("s3:PutBucketPolicy", "for everybody, where that is not blocked", {**BUCKET, "Policy": policy()}, {}, page=BLOCKED, before=UNBLOCKED, then=(Step("s3:GetBucketPolicy", BUCKET, {"Policy": ...}),)),
    row("s3:PutBucketAcl", "for everybody, while that is blocked", {**BUCKET, "ACL": "public-read"}, "AccessDenied", page=BLOCKED),
    row("s3:PutObject", "for everybody, while that is blocked", {**BUCKET, "Key": "k", "Body": b"", "ACL": "public-read"}, "AccessDenied", page=BLOCKED, then=(Step("s3:ListObjectsV2", BUCKET, {"KeyCount": 0}),)),
    row("s3:PutObjectAcl", "for everybody, while that is blocked", {**OBJECT, "GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}, "AccessDenied", page=BLOCKED),
    row("s3:CreateBucket", "for everybody", {"Bucket": "contract-two", "ACL": "public-read", **HERE}, "InvalidBucketAclWithBlockPublicAccessError", guess="seen in answers of S3's that users quote", page=BLOCKED, then=(Step("s3:HeadBucket", {"Bucket": "contract-two"}, Refused("404")),)),
    row("s3:DeletePublicAccessBlock", "gone afterwards", BUCKET, {}, then=(Step("s3:GetPublicAccessBlock", BUCKET, Refused("NoSuchPublicAccessBlockConfiguration")),)),
    row("s3:DeleteBucketEncryption", "S3's own afterwards", BUCKET, {}, before=(Step("s3:PutBucketEncryption", {**BUCKET, "ServerSideEncryptionConfiguration": {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}}),), then=(Step("s3:GetBucketEncryption", BUCKET, {"ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm": "AES256"}),)),
    row("s3:CreateBucket", "named as an address is", {"Bucket": "192.0.2.1", **HERE}, "InvalidBucketName", page="AmazonS3/latest/userguide/bucketnamingrules.html"),
    row("s3:PutBucketTagging", "as it is set", {**BUCKET, "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}, {}, then=(Step("s3:GetBucketTagging", BUCKET, {"TagSet[0].Value": "b"}),)),
    row("s3:PutObjectLockConfiguration", "only with versions", {**BUCKET, "ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}, "InvalidBucketState"),
)  # fmt: skip
OBJECTS = (
    row("s3:PutObject", "and back", {**BUCKET, "Key": "k", "Body": b"content"}, {"ETag": ...}, then=(Step("s3:GetObject", {**BUCKET, "Key": "k"}, {"Body": b"content", "ContentLength": 7}),)),
    row("s3:PutObject", "only where there is none", {**OBJECT, "Body": b"", "IfNoneMatch": "*"}, "PreconditionFailed"),
    row("s3:PutObject", "only over what was read", {**OBJECT, "Body": b"", "IfMatch": '"00000000000000000000000000000000"'}, "PreconditionFailed"),
    row("s3:PutObject", "over what is not there", {**BUCKET, "Key": "none", "Body": b"", "IfMatch": '"00000000000000000000000000000000"'}, "NoSuchKey"),
    row("s3:PutObject", "with a checksum that is wrong", {**BUCKET, "Key": "k", "Body": b"content", "ChecksumSHA256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, "BadDigest"),
    row("s3:PutObject", "with another's digest", {**BUCKET, "Key": "k", "Body": b"content", "ContentMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, "BadDigest", page=ERRORS),
    row("s3:PutObject", "with what is no digest", {**BUCKET, "Key": "k", "Body": b"content", "ContentMD5": "x"}, "InvalidDigest", page=ERRORS),
    row("s3:UploadPart", "with a checksum that is wrong", {**BUCKET, "Key": "k", "UploadId": "$upload", "PartNumber": 1, "Body": b"x", "ChecksumSHA256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, "BadDigest", page=ERRORS),
    row("s3:GetObject", "one that does not exist", {**BUCKET, "Key": "none"}, "NoSuchKey"),
    row("s3:GetObject", "a part", {**OBJECT, "Range": "bytes=0-2"}, {"Body": b"con", "ContentRange": "bytes 0-2/7"}),
    row("s3:GetObject", "beyond its end", {**OBJECT, "Range": "bytes=9-"}, "InvalidRange", page=ERRORS),
    row("s3:GetObject", "only when it has changed", {**OBJECT, "IfMatch": '"0"'}, "PreconditionFailed"),
    row("s3:HeadObject", "one that does not exist", {**BUCKET, "Key": "none"}, "404"),
    row("s3:ListObjectsV2", "below a prefix", {**BUCKET, "Prefix": "th"}, {"KeyCount": 1, "Contents[0].Key": "thing"}, before=(Step("s3:HeadObject", OBJECT),)),
    row("s3:ListObjectsV2", "a token that is none", {**BUCKET, "ContinuationToken": "garbage"}, "InvalidArgument"),
    row("s3:ListObjectsV2", "folders", {**BUCKET, "Delimiter": "/"}, {"CommonPrefixes[0].Prefix": "a/"}, before=(Step("s3:PutObject", {**BUCKET, "Key": "a/b", "Body": b""}),)),
    row("s3:DeleteObject", "twice is no error", {**BUCKET, "Key": "none"}, {}),
    row("s3:DeleteObject", "leaves a marker among versions", OBJECT, {"DeleteMarker": True}, before=(*VERSIONED, Step("s3:PutObject", {**BUCKET, "Key": "thing", "Body": b""})), then=(Step("s3:ListObjectVersions", BUCKET, {"length(DeleteMarkers)": 1, "length(Versions)": 2}),)),
    row("s3:DeleteObjects", "several", {**BUCKET, "Delete": {"Objects": [{"Key": "$object"}, {"Key": "none"}]}}, {"length(Deleted)": 2}),
    row("s3:GetObject", "a version that does not exist", {**OBJECT, "VersionId": "00000000000000000000000000000000"}, Refused("NoSuchVersion|InvalidArgument"), page=ERRORS, before=VERSIONED),
    row("s3:CopyObject", "of one that does not exist", {**BUCKET, "Key": "k", "CopySource": "contract/none"}, "NoSuchKey"),
    row("s3:CopyObject", "a copy", {**BUCKET, "Key": "k", "CopySource": "$bucket/$object"}, {"CopyObjectResult.ETag": ...}),
    row("s3:CreateMultipartUpload", "begun", {**BUCKET, "Key": "k"}, {"UploadId": ...}),
    row("s3:UploadPart", "of none", {**BUCKET, "Key": "k", "UploadId": "none", "PartNumber": 1, "Body": b""}, "NoSuchUpload", page=ERRORS),
    row("s3:UploadPart", "a part", {**BUCKET, "Key": "k", "UploadId": "$upload", "PartNumber": 1, "Body": b"x"}, {"ETag": ...}),
    row("s3:CompleteMultipartUpload", "of none", {**BUCKET, "Key": "k", "UploadId": "none", "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "e"}]}}, "NoSuchUpload", page=ERRORS),
    row("s3:CompleteMultipartUpload", "a part that was not sent", {**BUCKET, "Key": "k", "UploadId": "$upload", "MultipartUpload": {"Parts": [{"PartNumber": 7, "ETag": "e"}]}}, "InvalidPart", page=ERRORS),
    row("s3:AbortMultipartUpload", "gone afterwards", {**BUCKET, "Key": "k", "UploadId": "$upload"}, {}, then=(Step("s3:ListMultipartUploads", BUCKET, {"Uploads": None}),)),
    row("s3:ListParts", "of none", {**BUCKET, "Key": "k", "UploadId": "none"}, "NoSuchUpload", page=ERRORS),
    row("s3:GetObject", "nobody may", OBJECT, "AccessDenied", caller="$nobody", page=ERRORS),
    row("s3:GetObject", "a key that no account has", OBJECT, "InvalidAccessKeyId", caller="$stranger", page=ERRORS),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*BUCKETS, *OBJECTS)
