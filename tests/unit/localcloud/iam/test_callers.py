"""What decides access is who calls, what for, on which resource: every kind of caller with what it is answered.

"Policy evaluation logic" and "Compare AWS STS credentials" (IAM User Guide), "Bucket policies" (S3 User Guide).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.settings import ACCOUNT, KEY_PREFIX
from tests.support.localcloud.iam import KEY, REGION, IamLab, iam_lab, refused

Keys = Mapping[str, str]
Maker = Callable[[IamLab], "Keys | None"]
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
LIST = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
OPEN = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::box/open"}
DENIED = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::box/denied"}
OF_ALL = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::box/everybody"}
OWN_KEY = {
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/nobody"},
    "Action": "kms:*",
    "Resource": "*",
}


def document(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    with iam_lab(tmp_path) as made:
        s3 = made.client("s3")
        s3.create_bucket(Bucket="box", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.delete_public_access_block(Bucket="box")
        for key in ("open", "denied", "everybody", "secret"):
            s3.put_object(Bucket="box", Key=key, Body=b"1")
        s3.put_bucket_policy(Bucket="box", Policy=document(DENIED, OF_ALL))
        yield made


def user(lab: IamLab, *statements: Mapping[str, Any], boundary: Mapping[str, Any] | None = None) -> Keys:
    iam = lab.client("iam")
    iam.create_user(UserName="u")
    if statements:
        iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=document(*statements))
    if boundary:
        iam.put_user_permissions_boundary(UserName="u", PermissionsBoundary=managed(lab, boundary))
    keys: Keys = iam.create_access_key(UserName="u")["AccessKey"]
    return {**keys, "SessionToken": ""}


def managed(lab: IamLab, *statements: Mapping[str, Any]) -> str:
    made = lab.client("iam").create_policy(PolicyName="managed", PolicyDocument=document(*statements))
    return str(made["Policy"]["Arn"])


def member(lab: IamLab, *, attached: bool) -> Keys:
    keys, iam = user(lab), lab.client("iam")
    iam.create_group(GroupName="g")
    iam.add_user_to_group(GroupName="g", UserName="u")
    if attached:
        iam.attach_group_policy(GroupName="g", PolicyArn=managed(lab, LIST, OPEN))
    else:
        iam.put_group_policy(GroupName="g", PolicyName="p", PolicyDocument=document(LIST, OPEN))
    return keys


def inactive(lab: IamLab) -> Keys:
    keys = user(lab, ALL)
    lab.client("iam").update_access_key(UserName="u", AccessKeyId=keys["AccessKeyId"], Status="Inactive")
    return keys


def deleted(lab: IamLab) -> Keys:
    keys = user(lab)
    lab.client("iam").delete_access_key(UserName="u", AccessKeyId=keys["AccessKeyId"])
    return keys


def session(lab: IamLab, keys: Keys | None) -> Keys:
    made: Keys = lab.client("sts", keys).get_session_token()["Credentials"]
    return made


def session_then_inactive(lab: IamLab) -> Keys:
    keys = user(lab, ALL)
    made = session(lab, keys)
    lab.client("iam").update_access_key(UserName="u", AccessKeyId=keys["AccessKeyId"], Status="Inactive")
    return made


def federated(lab: IamLab, keys: Keys | None, *statements: Mapping[str, Any]) -> Keys:
    given = {"Policy": document(*statements)} if statements else {}
    made: Keys = lab.client("sts", keys).get_federation_token(Name="fed", **given)["Credentials"]
    return made


def role(lab: IamLab, *statements: Mapping[str, Any], boundary: Mapping[str, Any] | None = None, **given: Any) -> Keys:
    lab.role("r", *statements)
    if boundary:
        lab.client("iam").put_role_permissions_boundary(RoleName="r", PermissionsBoundary=managed(lab, boundary))
    arn = f"arn:aws:iam::{ACCOUNT}:role/r"
    made: Keys = lab.client("sts").assume_role(RoleArn=arn, RoleSessionName="me", **given)["Credentials"]
    return made


# Each caller with what it is answered for ListBuckets, for an object that its own policies name, for one that the
# bucket's policy denies to everybody, one that it opens to everybody, and one that nobody is named for; for IAM's
# ListUsers, STS's GetCallerIdentity, and DescribeKey of a key whose policy names somebody else.
OBJECTS = ("open", "denied", "everybody", "secret")
NO, WRONG, INVALID = "AccessDenied", "SignatureDoesNotMatch", "InvalidClientTokenId"
KMS_NO = "AccessDeniedException"
CALLERS: dict[str, tuple[Maker, str, tuple[str, ...], str, str, str]] = {
    "the root user": (lambda _: None, "", ("", NO, "", ""), "", "", KMS_NO),
    "a session of the root user": (lambda lab: session(lab, None), "", ("", NO, "", ""), INVALID, "", KMS_NO),
    "a user who may": (lambda lab: user(lab, LIST, OPEN), "", ("", NO, "", NO), NO, "", KMS_NO),
    "a user without a policy": (user, NO, (NO, NO, "", NO), NO, "", KMS_NO),
    "an administrator": (lambda lab: user(lab, ALL), "", ("", NO, "", ""), "", "", KMS_NO),
    "by a group's inline policy": (lambda lab: member(lab, attached=False), "", ("", NO, "", NO), NO, "", KMS_NO),
    "by a group's managed policy": (lambda lab: member(lab, attached=True), "", ("", NO, "", NO), NO, "", KMS_NO),
    "a user within a boundary": (lambda lab: user(lab, ALL, boundary=OPEN), NO, ("", NO, "", NO), NO, "", KMS_NO),
    "a boundary gives nothing": (lambda lab: user(lab, LIST, boundary=ALL), "", (NO, NO, "", NO), NO, "", KMS_NO),
    "a session of a user": (lambda lab: session(lab, user(lab, ALL)), "", ("", NO, "", ""), INVALID, "", KMS_NO),
    "a federated user": (
        lambda lab: federated(lab, user(lab, ALL), OPEN), NO, ("", NO, "", NO), INVALID, "", KMS_NO),
    "a federated user without a policy": (
        lambda lab: federated(lab, user(lab, ALL)), NO, (NO, NO, "", NO), INVALID, "", KMS_NO),
    "a federated user of the root user": (
        lambda lab: federated(lab, None, OPEN), NO, ("", NO, "", NO), INVALID, "", KMS_NO),
    "a role": (lambda lab: role(lab, OPEN), NO, ("", NO, "", NO), NO, "", KMS_NO),
    "a role within a boundary": (lambda lab: role(lab, ALL, boundary=OPEN), NO, ("", NO, "", NO), NO, "", KMS_NO),
    "a role with a session policy": (
        lambda lab: role(lab, ALL, Policy=document(OPEN)), NO, ("", NO, "", NO), NO, "", KMS_NO),
    "a role with a managed session policy": (
        lambda lab: role(lab, ALL, PolicyArns=[{"arn": managed(lab, OPEN)}]), NO, ("", NO, "", NO), NO, "", KMS_NO),
}  # fmt: skip
_X = "InvalidAccessKeyId"
OUTSIDERS: dict[str, tuple[Maker, str, str, str, str]] = {
    "an inactive key": (inactive, _X, INVALID, "UnrecognizedClientException", "AuthFailure"),
    "a deleted key": (deleted, _X, INVALID, "UnrecognizedClientException", "AuthFailure"),
    "nobody's key": (
        lambda _: {"AccessKeyId": "AKIANOBODY", "SecretAccessKey": "x", "SessionToken": ""},
        _X, INVALID, "UnrecognizedClientException", "AuthFailure"),
    "a session's key without its token": (
        lambda lab: {**session(lab, None), "SessionToken": ""}, _X, INVALID, "UnrecognizedClientException",
        "AuthFailure"),
    "a session of an inactive key": (
        session_then_inactive, _X, INVALID, "UnrecognizedClientException", "AuthFailure"),
    "the key of a cloud that is gone": (
        lambda _: {"AccessKeyId": f"{KEY_PREFIX}0000000000", "SecretAccessKey": "localcloud", "SessionToken": ""},
        INVALID, INVALID, INVALID, INVALID),
    "the owner's key with another secret": (
        lambda _: {"AccessKeyId": KEY, "SecretAccessKey": "x", "SessionToken": ""},
        WRONG, WRONG, "InvalidSignatureException", "AuthFailure"),
    "a user's key with another secret": (
        lambda lab: {**user(lab, ALL), "SecretAccessKey": "x"},
        WRONG, WRONG, "InvalidSignatureException", "AuthFailure"),
    "a role's session with another secret": (
        lambda lab: {**role(lab, ALL), "SecretAccessKey": "x"},
        WRONG, WRONG, "InvalidSignatureException", "AuthFailure"),
}  # fmt: skip


def code(call: Any, **given: Any) -> str:
    try:
        call(**given)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


@pytest.mark.incident(
    "groups, boundaries and STS's keys were passed over, and the root user read what was denied to all"
)
@pytest.mark.parametrize("kind", CALLERS)
def test_a_caller_is_answered_as_its_policies_and_those_of_the_resources_say(lab: IamLab, kind: str) -> None:
    key = lab.client("kms").create_key(Policy=document(OWN_KEY), BypassPolicyLockoutSafetyCheck=True)["KeyMetadata"]
    make, listed, objects, users, identity, described = CALLERS[kind]
    keys = make(lab)
    s3 = lab.client("s3", keys)
    seen = (
        code(s3.list_buckets),
        tuple(code(s3.get_object, Bucket="box", Key=each) for each in OBJECTS),
        code(lab.client("iam", keys).list_users),
        code(lab.client("sts", keys).get_caller_identity),
        code(lab.client("kms", keys).describe_key, KeyId=key["KeyId"]),
    )
    assert seen == (listed, objects, users, identity, described)


@pytest.mark.parametrize("kind", OUTSIDERS)
def test_credentials_that_are_not_good_are_refused_by_every_service_in_its_words(lab: IamLab, kind: str) -> None:
    make, of_s3, of_iam, of_json, of_ec2 = OUTSIDERS[kind]
    keys = make(lab)
    assert code(lab.client("s3", keys).get_object, Bucket="box", Key="everybody") == of_s3
    assert code(lab.client("iam", keys).list_users) == of_iam
    assert code(lab.client("sts", keys).get_caller_identity) == of_iam
    assert code(lab.client("ssm", keys).describe_parameters) == of_json
    assert code(lab.client("sesv2", keys).list_email_identities) == of_json
    assert code(lab.client("ec2", keys).describe_instances) == of_ec2


def test_who_signs_nothing_gets_what_a_bucket_s_policy_gives_everybody(lab: IamLab) -> None:
    s3 = lab.client("s3", config=Config(signature_version=UNSIGNED))
    got = [code(s3.get_object, Bucket="box", Key=each) for each in OBJECTS]
    assert got == [NO, NO, "", NO]
    assert code(s3.put_object, Bucket="box", Key="everybody", Body=b"2") == NO
    assert code(s3.list_objects_v2, Bucket="box") == NO
    everybody = {"Effect": "Allow", "Principal": "*", "Resource": ["arn:aws:s3:::box", "arn:aws:s3:::box/new"]}
    policy = document({**everybody, "Action": ["s3:ListBucket", "s3:PutObject"]}, DENIED, OF_ALL)
    lab.client("s3").put_bucket_policy(Bucket="box", Policy=policy)
    assert code(s3.list_objects_v2, Bucket="box") == ""
    assert code(s3.put_object, Bucket="box", Key="new", Body=b"2") == ""
    block = {"RestrictPublicBuckets": True}
    lab.client("s3").put_public_access_block(Bucket="box", PublicAccessBlockConfiguration=block)
    assert code(s3.get_object, Bucket="box", Key="everybody") == NO
    assert code(lab.client("s3", user(lab)).get_object, Bucket="box", Key="everybody") == ""


def test_the_root_user_can_always_mend_a_bucket_s_policy(lab: IamLab) -> None:
    s3 = lab.client("s3")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*"}
    both = {"Resource": ["arn:aws:s3:::box", "arn:aws:s3:::box/*"]}
    s3.put_bucket_policy(Bucket="box", Policy=document({**deny, **both}))
    assert code(s3.get_object, Bucket="box", Key="open") == NO
    assert code(s3.list_objects_v2, Bucket="box") == NO
    assert code(s3.get_bucket_policy, Bucket="box") == ""
    s3.delete_bucket_policy(Bucket="box")
    assert code(s3.get_object, Bucket="box", Key="open") == ""


def test_a_bucket_s_policy_names_a_session_itself_or_its_role_within_what_narrows_it(lab: IamLab) -> None:
    narrow = role(lab, LIST, Policy=document(LIST))
    read = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::box/secret"}
    for principal, answer in (
        (f"arn:aws:iam::{ACCOUNT}:role/r", NO),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/r/me", ""),
    ):
        policy = document({**read, "Principal": {"AWS": principal}})
        lab.client("s3").put_bucket_policy(Bucket="box", Policy=policy)
        assert code(lab.client("s3", narrow).get_object, Bucket="box", Key="secret") == answer
    assert code(lab.client("s3", lab.session("r")).get_object, Bucket="box", Key="secret") == NO


def test_keys_of_a_session_make_no_others(lab: IamLab) -> None:
    for keys in (role(lab, ALL), session(lab, user(lab, ALL))):
        sts = lab.client("sts", keys)
        assert code(sts.get_session_token) == NO
        assert code(sts.get_federation_token, Name="fed") == NO
    made = lab.client("sts", session(lab, None))
    assert made.get_caller_identity()["Account"] == ACCOUNT


def test_the_keys_of_sts_are_those_who_asked_for_them_and_each_its_own(lab: IamLab) -> None:
    keys = user(lab, ALL)
    one, other = session(lab, keys), session(lab, keys)
    assert one["AccessKeyId"] != other["AccessKeyId"]
    assert lab.client("sts", one).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/u"
    named = federated(lab, keys, ALL)
    assert lab.client("sts", named).get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:federated-user/fed"


def test_what_an_identity_provider_says_in_saml_is_nobody_s_word(lab: IamLab) -> None:
    """Its signature can't be checked here: moto believes whatever is said, of any role."""
    role(lab, ALL)
    said = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/r", "PrincipalArn": f"arn:aws:iam::{ACCOUNT}:saml-provider/p"}
    said["SAMLAssertion"] = base64.b64encode(b"<xml/>").decode()
    assert refused(lab.client("sts").assume_role_with_saml, **said) == "UnsupportedOperation"


def test_a_user_s_boundary_is_shown_and_taken_away(lab: IamLab) -> None:
    iam, keys = lab.client("iam"), user(lab, ALL, boundary=OPEN)
    shown = iam.get_user(UserName="u")["User"]["PermissionsBoundary"]
    assert shown["PermissionsBoundaryArn"] == f"arn:aws:iam::{ACCOUNT}:policy/managed"
    iam.delete_user_permissions_boundary(UserName="u")
    assert code(lab.client("s3", keys).list_buckets) == ""
    assert refused(iam.put_user_permissions_boundary, UserName="u", PermissionsBoundary="arn:aws:iam::1:policy/x") == (
        "NoSuchEntity"
    )


def test_a_user_s_tags_are_condition_keys(lab: IamLab) -> None:
    keys = user(lab, {**LIST, "Condition": {"StringEquals": {"aws:PrincipalTag/team": "builders"}}})
    assert code(lab.client("s3", keys).list_buckets) == NO
    lab.client("iam").tag_user(UserName="u", Tags=[{"Key": "team", "Value": "builders"}])
    assert code(lab.client("s3", keys).list_buckets) == ""
