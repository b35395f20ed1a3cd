from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from localcloud import control, web_identity
from localcloud.settings import ACCOUNT, KEY_PREFIX, Cloud
from tests.support.localcloud.iam import INSTANCE_TRUST, KEY, REGION, IamLab, iam_lab, refused

PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter"
INSTANCE = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    with iam_lab(tmp_path) as made:
        yield made


def allow(action: Any, resource: Any = "*", condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
    extra = {"Condition": condition} if condition else {}
    return {"Effect": "Allow", "Action": action, "Resource": resource, **extra}


def test_a_parameter_outside_of_the_policys_path_is_refused_as_ssm_refuses(lab: IamLab) -> None:
    for name in ("/zmanim/prod/a", "/zmanim/verify/a"):
        lab.client("ssm").put_parameter(Name=name, Value="x", Type="String")
    role = lab.role("r", allow(["ssm:GetParameter*"], [f"{PARAMETER}/zmanim/prod", f"{PARAMETER}/zmanim/prod/*"]))
    ssm = lab.client("ssm", role)
    assert ssm.get_parameter(Name="/zmanim/prod/a")["Parameter"]["Value"] == "x"
    assert len(ssm.get_parameters_by_path(Path="/zmanim/prod")["Parameters"]) == 1
    assert refused(ssm.get_parameter, Name="/zmanim/verify/a") == "AccessDeniedException"
    assert refused(ssm.get_parameters, Names=["/zmanim/prod/a", "/zmanim/verify/a"]) == "AccessDeniedException"
    assert refused(ssm.get_parameters_by_path, Path="/zmanim") == "AccessDeniedException"
    assert refused(ssm.put_parameter, Name="/zmanim/prod/a", Value="y", Overwrite=True) == "AccessDeniedException"
    assert lab.client("ssm").get_parameter(Name="/zmanim/prod/a")["Parameter"]["Value"] == "x"


def test_a_secret_under_a_key_of_ones_own_needs_the_right_to_that_key_through_ssm(lab: IamLab) -> None:
    key = lab.client("kms").create_key()["KeyMetadata"]["Arn"]
    lab.client("ssm").put_parameter(Name="/z/own", Value="x", Type="SecureString", KeyId=key)
    lab.client("ssm").put_parameter(Name="/z/aws", Value="x", Type="SecureString")
    read = allow("ssm:GetParameter*")
    ssm = lab.client("ssm", lab.role("r", read))
    assert ssm.get_parameter(Name="/z/aws", WithDecryption=True)["Parameter"]["Value"] == "x"
    assert refused(ssm.get_parameter, Name="/z/own", WithDecryption=True) == "AccessDeniedException"
    assert refused(ssm.get_parameters_by_path, Path="/z", WithDecryption=True) == "AccessDeniedException"
    assert ssm.get_parameter(Name="/z/own")["Parameter"]["Value"] != "x"
    through = {"StringEquals": {"kms:ViaService": f"ssm.{REGION}.amazonaws.com"}}
    lab.policy("r", read, allow("kms:Decrypt", key, through))
    assert ssm.get_parameter(Name="/z/own", WithDecryption=True)["Parameter"]["Value"] == "x"
    kms = lab.client("kms", lab.session("r"))
    assert refused(kms.decrypt, CiphertextBlob=b"x", KeyId=key) == "AccessDeniedException"


def test_a_kms_keys_own_policy_has_to_allow_as_well(lab: IamLab) -> None:
    key = lab.client("kms").create_key(
        Policy=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/signer"},
                        "Action": "kms:DescribeKey",
                        "Resource": "*",
                    }
                ],
            }
        )
    )["KeyMetadata"]["KeyId"]
    other = lab.client("kms", lab.role("other", allow("kms:*")))
    assert refused(other.describe_key, KeyId=key) == "AccessDeniedException"
    assert lab.client("kms", lab.role("signer", allow("s3:*"))).describe_key(KeyId=key)["KeyMetadata"]["KeyId"] == key


def test_objects_are_decided_by_their_keys_and_versions(lab: IamLab) -> None:
    s3 = lab.client("s3")
    s3.create_bucket(Bucket="box", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket="box", VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket="box", Key="in/a", Body=b"1")["VersionId"]
    s3.put_object(Bucket="box", Key="out/a", Body=b"1")
    mine = allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], "arn:aws:s3:::box/in/*")
    listing = allow("s3:ListBucket", "arn:aws:s3:::box", {"StringLike": {"s3:prefix": "in/*"}})
    role = lab.client("s3", lab.role("r", mine, listing))
    assert role.get_object(Bucket="box", Key="in/a")["Body"].read() == b"1"
    role.put_object(Bucket="box", Key="in/b", Body=b"2")
    assert refused(role.get_object, Bucket="box", Key="out/a") == "AccessDenied"
    assert refused(role.head_object, Bucket="box", Key="out/a") == "403"
    assert refused(role.get_object, Bucket="box", Key="in/a", VersionId=version) == "AccessDenied"
    assert refused(role.delete_object, Bucket="box", Key="in/a", VersionId=version) == "AccessDenied"
    role.delete_object(Bucket="box", Key="in/a")
    both = {"Objects": [{"Key": "in/b"}, {"Key": "out/a"}]}
    answer = role.delete_objects(Bucket="box", Delete=both)
    assert [each["Key"] for each in answer["Deleted"]] == ["in/b"]
    assert [(each["Key"], each["Code"]) for each in answer["Errors"]] == [("out/a", "AccessDenied")]
    assert s3.head_object(Bucket="box", Key="out/a")
    s3.put_object(Bucket="box", Key="in/ ", Body=b"")
    answer = role.delete_objects(Bucket="box", Delete={"Objects": [{"Key": "in/ "}]})
    assert [each["Key"] for each in answer["Deleted"]] == ["in/ "]
    assert role.list_objects_v2(Bucket="box", Prefix="in/")["KeyCount"] == 0
    assert [each["Key"] for each in s3.delete_objects(Bucket="box", Delete=both)["Deleted"]] == ["in/b", "out/a"]
    assert refused(role.list_objects_v2, Bucket="box", Prefix="out/") == "AccessDenied"
    assert refused(role.list_object_versions, Bucket="box", Prefix="in/") == "AccessDenied"
    lab.policy("r", mine)
    for gone in ("in/nothing", "in/a"):
        assert refused(role.get_object, Bucket="box", Key=gone) == "AccessDenied"
    lab.policy("r", mine, allow("s3:ListBucket", "arn:aws:s3:::box"))
    assert refused(role.get_object, Bucket="box", Key="in/nothing") == "NoSuchKey"
    copy = {"Bucket": "box", "Key": "out/a"}
    assert refused(role.copy_object, Bucket="box", Key="in/c", CopySource=copy) == "AccessDenied"


def test_a_buckets_policy_denies_where_it_says_so_and_passes_over_what_does_not_apply(lab: IamLab) -> None:
    s3 = lab.client("s3")
    s3.create_bucket(Bucket="box", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="box", Key="a", Body=b"1")
    deny = {"Effect": "Deny", "Principal": "*", "Resource": ["arn:aws:s3:::box", "arn:aws:s3:::box/*"]}
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {**deny, "Action": "s3:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
            {**deny, "Action": "s3:DeleteObject"},
        ],
    }
    s3.put_bucket_policy(Bucket="box", Policy=json.dumps(policy))
    role = lab.client("s3", lab.role("r", allow("s3:*")))
    assert role.get_object(Bucket="box", Key="a")["Body"].read() == b"1"
    assert refused(role.delete_object, Bucket="box", Key="a") == "AccessDenied"


def test_a_launch_is_decided_on_all_that_it_uses_makes_tags_and_hands_over(lab: IamLab) -> None:
    iam, image = lab.client("iam"), _image(lab)
    iam.create_role(RoleName="machine", AssumeRolePolicyDocument=json.dumps(INSTANCE_TRUST))
    iam.create_instance_profile(InstanceProfileName="machine")
    iam.add_role_to_instance_profile(InstanceProfileName="machine", RoleName="machine")
    launch = {
        "ImageId": image,
        "InstanceType": "t4g.small",
        "MinCount": 1,
        "MaxCount": 1,
        "IamInstanceProfile": {"Name": "machine"},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "for", "Value": "verify"}]}],
    }
    run = allow("ec2:RunInstances", "*")
    tag = allow("ec2:CreateTags", f"{INSTANCE}/*", {"StringEquals": {"ec2:CreateAction": "RunInstances"}})
    hand_over = allow("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/machine")
    ec2 = lab.client("ec2", lab.role("r", run, tag, hand_over))
    assert ec2.run_instances(**launch)["Instances"]
    lab.policy("r", run, tag)
    assert refused(ec2.run_instances, **launch) == "UnauthorizedOperation"
    lab.policy("r", run, hand_over)
    assert refused(ec2.run_instances, **launch) == "UnauthorizedOperation"
    tagged = {"StringEquals": {"aws:RequestTag/for": "prod"}}
    lab.policy("r", allow("ec2:RunInstances", f"{INSTANCE}/*", tagged), tag, hand_over)
    assert refused(ec2.run_instances, **launch) == "UnauthorizedOperation"


def test_an_instance_is_known_by_its_tags(lab: IamLab) -> None:
    mine, other = (_instance(lab, owner) for owner in ("zmanim", "other"))
    end = allow("ec2:TerminateInstances", f"{INSTANCE}/*", {"StringEquals": {"ec2:ResourceTag/owner": "zmanim"}})
    ec2 = lab.client("ec2", lab.role("r", end))
    assert refused(ec2.terminate_instances, InstanceIds=[other]) == "UnauthorizedOperation"
    assert refused(ec2.terminate_instances, InstanceIds=[mine, other]) == "UnauthorizedOperation"
    assert ec2.terminate_instances(InstanceIds=[mine])["TerminatingInstances"]
    assert refused(ec2.describe_instances) == "UnauthorizedOperation"


def test_an_address_is_moved_by_who_may_use_it_and_the_instance(lab: IamLab) -> None:
    instance = _instance(lab, "zmanim")
    address = lab.client("ec2").allocate_address(Domain="vpc")["AllocationId"]
    move = {"AllocationId": address, "InstanceId": instance}
    either = [f"arn:aws:ec2:{REGION}:{ACCOUNT}:elastic-ip/{address}", f"{INSTANCE}/{instance}"]
    for one in either:
        only = lab.client("ec2", lab.role(f"only-{one[-3:]}", allow("ec2:AssociateAddress", one)))
        assert refused(only.associate_address, **move) == "UnauthorizedOperation"
    both = lab.client("ec2", lab.role("both", allow("ec2:AssociateAddress", either)))
    assert both.associate_address(**move)["AssociationId"]


@pytest.mark.incident("a call by a role with tags ended in an AttributeError, as moto keeps them in a list")
def test_a_role_s_own_tags_are_condition_keys(lab: IamLab) -> None:
    own_team = allow("s3:ListAllMyBuckets", "*", {"StringEquals": {"aws:PrincipalTag/Team": "builders"}})
    role = lab.role("r", own_team)
    assert refused(lab.client("s3", role).list_buckets) == "AccessDenied"
    lab.client("iam").tag_role(RoleName="r", Tags=[{"Key": "team", "Value": "builders"}])
    assert lab.client("s3", role).list_buckets()["Buckets"] == []


def test_tags_themselves_can_be_allowed_by_name(lab: IamLab) -> None:
    instance = _instance(lab, "zmanim")
    only = {"ForAllValues:StringEquals": {"aws:TagKeys": ["seen"]}}
    ec2 = lab.client("ec2", lab.role("r", allow("ec2:CreateTags", "*", only)))
    ec2.create_tags(Resources=[instance], Tags=[{"Key": "seen", "Value": "1"}])
    both = [{"Key": "seen", "Value": "1"}, {"Key": "owner", "Value": "me"}]
    assert refused(ec2.create_tags, Resources=[instance], Tags=both) == "UnauthorizedOperation"


def test_mail_is_decided_by_its_sender(lab: IamLab) -> None:
    lab.client("ses").verify_email_identity(EmailAddress="a@example.org")
    lab.client("ses").verify_email_identity(EmailAddress="b@example.org")
    role = lab.role("r", allow("ses:SendEmail", "*", {"StringEquals": {"ses:FromAddress": "a@example.org"}}))
    mail = {"Destination": {"ToAddresses": ["c@example.org"]}}
    mail |= {"Message": {"Subject": {"Data": "x"}, "Body": {"Text": {"Data": "x"}}}}  # type: ignore[dict-item]
    ses = lab.client("ses", role)
    assert ses.send_email(Source="Backup <a@example.org>", **mail)["MessageId"]
    assert refused(ses.send_email, Source="b@example.org", **mail) == "AccessDenied"


def test_a_session_that_has_ended_is_refused_in_the_services_own_words(lab: IamLab) -> None:
    role, other = lab.role("r", allow("ec2:DescribeInstances")), lab.role("other", allow("ec2:DescribeInstances"))
    assert lab.client("ec2", role).describe_instances()["Reservations"] == []
    control.end_session(Cloud("default", REGION, lab.directory, 7), role["AccessKeyId"])
    assert refused(lab.client("ec2", role).describe_instances) == "RequestExpired"
    assert refused(lab.client("ssm", role).describe_parameters) == "ExpiredTokenException"
    assert refused(lab.client("sts", role).get_caller_identity) == "ExpiredToken"
    assert refused(lab.client("s3", role).list_buckets) == "ExpiredToken"
    assert lab.client("ec2", other).describe_instances()["Reservations"] == []


def test_keys_that_are_nobodys_are_refused_in_the_services_own_words(lab: IamLab) -> None:
    unknown = {"AccessKeyId": "ASIAUNKNOWN", "SecretAccessKey": "x", "SessionToken": "x"}
    assert refused(lab.client("ssm", unknown).describe_parameters) == "UnrecognizedClientException"
    assert refused(lab.client("ec2", unknown).describe_instances) == "AuthFailure"
    assert refused(lab.client("s3", unknown).list_buckets) == "InvalidAccessKeyId"
    assert refused(lab.client("iam", unknown).list_roles) == "InvalidClientTokenId"
    role = lab.role("r", allow("*"))
    assert refused(lab.client("iam", {**role, "SessionToken": "x"}).list_roles) == "InvalidClientTokenId"
    assert lab.client("iam", role).list_roles()["Roles"]


@pytest.mark.incident("the key was one for all clouds: a stale shell of one called another")
@pytest.mark.parametrize("key", [f"{KEY_PREFIX}0000000000", KEY[:-1], KEY + "0", KEY_PREFIX])
def test_a_key_of_a_cloud_that_is_gone_is_the_same_error_everywhere(lab: IamLab, key: str) -> None:
    stale = {"AccessKeyId": key, "SecretAccessKey": "localcloud", "SessionToken": ""}
    for call in (
        lab.client("ssm", stale).describe_parameters,
        lab.client("ec2", stale).describe_instances,
        lab.client("s3", stale).list_buckets,
        lab.client("iam", stale).list_roles,
        lab.client("sts", stale).get_caller_identity,
        lab.client("cloudwatch", stale).list_metrics,
    ):
        assert refused(call) == "InvalidClientTokenId"


def test_everybody_who_has_keys_may_ask_who_they_are(lab: IamLab) -> None:
    arn = lab.client("sts", lab.role("r", allow("s3:*"))).get_caller_identity()["Arn"]
    assert arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/r/i-0123456789abcdef0"


def test_a_role_is_taken_only_by_whom_its_trust_policy_names(lab: IamLab) -> None:
    lab.role("open", allow("s3:*"))
    lab.role("closed", allow("s3:*"), trust=_trust({"Service": "ec2.amazonaws.com"}, "sts:AssumeRole"))
    sts = lab.client("sts", lab.role("r", allow("sts:AssumeRole")))
    take = {"RoleSessionName": "run"}
    assert sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/open", **take)["Credentials"]
    assert refused(sts.assume_role, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/closed", **take) == "AccessDenied"
    assert refused(sts.assume_role, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/none", **take) == "AccessDenied"
    lab.policy("r", allow("s3:*"))
    assert refused(sts.assume_role, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/open", **take) == "AccessDenied"


def test_a_token_of_an_identity_provider_is_decided_by_its_claims(lab: IamLab) -> None:
    host = "token.actions.githubusercontent.com"
    provider = lab.client("iam").create_open_id_connect_provider(
        Url=f"https://{host}", ClientIDList=["sts.amazonaws.com"]
    )["OpenIDConnectProviderArn"]
    wanted = {f"{host}:aud": "sts.amazonaws.com", f"{host}:sub": "repo:o/r:environment:e"}
    trust = _trust({"Federated": provider}, "sts:AssumeRoleWithWebIdentity", {"StringEquals": wanted})
    lab.role("ci", allow("s3:ListAllMyBuckets"), trust=trust)
    sts = lab.client("sts")

    def take(key: str = KEY, **claims: Any) -> dict[str, str]:
        good = {"iss": f"https://{host}", "aud": "sts.amazonaws.com", "sub": "repo:o/r:environment:e"}
        token = web_identity.sign({**good, "exp": time.time() + 600, **claims}, key)
        taken: dict[str, str] = sts.assume_role_with_web_identity(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/ci", RoleSessionName="run", WebIdentityToken=token
        )["Credentials"]
        return taken

    assert lab.client("s3", take()).list_buckets()["Buckets"] == []
    assert refused(take, sub="repo:o/r:environment:other") == "AccessDenied"
    assert refused(take, aud="other") == "InvalidClientTokenId"
    assert refused(take, iss="https://elsewhere.example") == "InvalidClientTokenId"
    assert refused(take, exp=1.0) == "ExpiredToken"
    assert refused(take, key="anybody's") == "InvalidClientTokenId"


def test_every_distinct_decision_is_written_down_once_with_what_it_was_made_from(lab: IamLab) -> None:
    role = lab.role("r", allow("ssm:GetParameter", f"{PARAMETER}/a"))
    lab.client("ssm").put_parameter(Name="/a", Value="secret value", Type="String")
    for _ in range(2):
        lab.client("ssm", role).get_parameter(Name="/a")
    refused(lab.client("ssm", role).get_parameter, Name="/b")
    got, denied = lab.decisions()
    assert got["role"] == "r"
    assert got["action"] == "ssm:GetParameter"
    assert got["resource"] == f"{PARAMETER}/a"
    assert got["context"]["aws:requestedregion"] == [REGION]
    assert got["decision"]["policy"] == "p"
    assert got["decision"]["action"] == "ssm:GetParameter"
    assert denied["decision"]["allowed"] is False
    assert "secret value" not in json.dumps(lab.decisions())


def _trust(principal: Mapping[str, str], action: str, condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
    extra = {"Condition": condition} if condition else {}
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, **extra}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _image(lab: IamLab) -> str:
    return str(lab.client("ec2").register_image(Name=f"i{time.monotonic_ns()}", RootDeviceName="/dev/sda")["ImageId"])


def _instance(lab: IamLab, owner: str) -> str:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "owner", "Value": owner}]}]
    made = lab.client("ec2").run_instances(ImageId=_image(lab), MinCount=1, MaxCount=1, TagSpecifications=tags)
    return str(made["Instances"][0]["InstanceId"])
