"""What the project's own roles can't do, asked of the account that account.apply makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from localcloud.settings import ACCOUNT
from tests.support import ROOT, bucket_name
from tests.support.localcloud.iam import KEY, IamLab, refused
from zmanim_ami.pipeline.account import requirements, workflow_roles
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.rehearsal import identity

POLICIES = ROOT / "infrastructure" / "iam"
SETTINGS = Settings(github_subject=identity.SUBJECT)
TAG = "refs/tags/v1.0.0-ami"
SERVICES = [field.name for field in fields(Clients) if field.name not in {"region", "written"}]
RUN = [{"Key": "zmanim:run", "Value": "7"}]
DENIED = "UnauthorizedOperation"


def take(lab: IamLab, step: str, *, as_step: str = "", ref: str = TAG, **claims: Any) -> dict[str, str]:
    """Take the role of `step` with the token of the job `as_step` (by default its own)."""
    token = identity.token(as_step or step, ref, KEY, **claims)
    taken: dict[str, str] = lab.client("sts").assume_role_with_web_identity(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{workflow_roles.name(step)}",
        RoleSessionName=step,
        WebIdentityToken=token,
    )["Credentials"]
    return taken


# ---- who may take them ----


@pytest.mark.parametrize("step", workflow_roles.STEPS)
def test_a_job_takes_the_role_of_its_own_environment_and_no_other(lab: IamLab, step: str) -> None:
    assert take(lab, step)["AccessKeyId"]
    for other in set(workflow_roles.STEPS) - {step}:
        assert refused(take, lab, step, as_step=other) == "AccessDenied"


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "repo:rehearsal@1/zmanim@2:pull_request"},
        {"sub": "repo:somebody@3/zmanim@4:environment:ami-build"},
        # Who took the names after they were given up, in either form.
        {"sub": "repo:rehearsal@3/zmanim@4:environment:ami-build"},
        {"sub": "repo:rehearsal/zmanim:environment:ami-build"},
        {"sub": "repo:rehearsal@1/zmanim@2:ref:refs/heads/main"},
        {"ref": "refs/heads/feature"},
        {"ref": "refs/tags/v1.0.0"},
        {"ref": "refs/pull/1/merge"},
    ],
)
def test_no_other_repository_branch_or_pull_request_takes_a_role(lab: IamLab, claims: Mapping[str, str]) -> None:
    ref = claims.get("ref", TAG)
    others = {name: value for name, value in claims.items() if name != "ref"}
    assert refused(take, lab, "build", ref=ref, **others) == "AccessDenied"


def test_a_token_for_another_audience_opens_nothing(lab: IamLab) -> None:
    assert refused(take, lab, "build", aud="https://github.com/rehearsal") == "InvalidClientTokenId"


@pytest.mark.parametrize("step", workflow_roles.STEPS)
def test_no_role_of_a_workflow_leads_to_another_role(lab: IamLab, step: str) -> None:
    credentials = take(lab, step)
    for name in ("zmanim-prod-instance", "zmanim-publish", "zmanim-verify"):
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        assert refused(lab.client("sts", credentials).assume_role, RoleArn=arn, RoleSessionName="xx") == "AccessDenied"
    iam = lab.client("iam", credentials)
    policy = '{"Version": "2012-10-17", "Statement": []}'
    mine = {"RoleName": f"zmanim-{step}", "PolicyName": "p", "PolicyDocument": policy}
    assert refused(iam.put_role_policy, **mine) == "AccessDenied"


# ---- verified ----


def test_only_the_verify_role_can_say_that_an_image_is_verified(lab: IamLab, image: str) -> None:
    tags = {"Resources": [image], "Tags": [{"Key": "zmanim:verified", "Value": "0" * 64}]}
    for step in ("build", "publish"):
        assert refused(lab.client("ec2", take(lab, step)).create_tags, **tags) == DENIED
    instance = lab.client("ec2", lab.session_of_instance("zmanim-prod-instance"))
    assert refused(instance.create_tags, **tags) == DENIED
    lab.client("ec2", take(lab, "verify")).create_tags(**tags)
    assert refused(lab.client("ec2", take(lab, "build")).deregister_image, ImageId=image) == DENIED
    assert refused(lab.client("ec2", take(lab, "build")).delete_tags, **tags) == DENIED
    lab.client("ec2", take(lab, "verify")).delete_tags(**tags)


def test_the_verify_role_writes_no_other_tag_and_tags_nothing_but_images(
    lab: IamLab, image: str, foreign: Mapping[str, str]
) -> None:
    ec2 = lab.client("ec2", take(lab, "verify"))
    verified = {"Key": "zmanim:verified", "Value": "0" * 64}
    both = [verified, {"Key": "zmanim:version", "Value": "v6.6.6"}]
    assert refused(ec2.create_tags, Resources=[image], Tags=both) == DENIED
    assert refused(ec2.create_tags, Resources=[foreign["instance"]], Tags=[verified]) == DENIED


def test_the_verify_role_launches_for_verification_only_and_ends_only_that(
    lab: IamLab, image: str, foreign: Mapping[str, str]
) -> None:
    ec2 = lab.client("ec2", take(lab, "verify"))
    launch = {"ImageId": image, "InstanceType": "m7g.medium", "MinCount": 1, "MaxCount": 1}

    def tags(environment: str) -> list[dict[str, Any]]:
        return [{"ResourceType": "instance", "Tags": [{"Key": "zmanim:environment", "Value": environment}]}]

    verify, prod = ({"Name": f"zmanim-{name}-instance"} for name in ("verify", "prod"))
    assert refused(ec2.run_instances, **launch, IamInstanceProfile=verify, TagSpecifications=tags("prod")) == DENIED
    assert refused(ec2.run_instances, **launch, IamInstanceProfile=prod, TagSpecifications=tags("verify")) == DENIED
    assert refused(ec2.run_instances, **launch, IamInstanceProfile=verify) == DENIED
    assert ec2.run_instances(**launch, IamInstanceProfile=verify, TagSpecifications=tags("verify"))["Instances"]
    assert refused(ec2.terminate_instances, InstanceIds=[foreign["instance"]]) == DENIED
    command = {"DocumentName": "AWS-RunShellScript", "InstanceIds": [foreign["instance"]]}
    ssm = lab.client("ssm", take(lab, "verify"))
    assert refused(ssm.send_command, **command, Parameters={"commands": ["id"]}) == "AccessDeniedException"


def test_the_verify_role_stops_and_reboots_its_own_machines_and_moves_their_volumes_only(
    lab: IamLab, image: str, foreign: Mapping[str, str]
) -> None:
    own, ec2 = lab.client("ec2"), lab.client("ec2", take(lab, "verify"))

    def tags(kind: str, name: str, value: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": [{"Key": f"zmanim:{name}", "Value": value}]}]

    launch = {"ImageId": image, "InstanceType": "m7g.medium", "MinCount": 1, "MaxCount": 1}
    mine = own.run_instances(**launch, TagSpecifications=tags("instance", "environment", "verify"))["Instances"][0]
    place = {"Size": 1, "AvailabilityZone": mine["Placement"]["AvailabilityZone"]}
    volume = own.create_volume(**place, TagSpecifications=tags("volume", "verification", "true"))["VolumeId"]
    theirs, there = foreign["instance"], foreign["volume"]
    move = {"Device": "/dev/sdf"}
    for change in (ec2.stop_instances, ec2.reboot_instances):
        assert refused(change, InstanceIds=[theirs]) == DENIED
    for change in (ec2.attach_volume, ec2.detach_volume):
        assert refused(change, **move, VolumeId=there, InstanceId=mine["InstanceId"]) == DENIED
        assert refused(change, **move, VolumeId=volume, InstanceId=theirs) == DENIED
    assert refused(ec2.delete_volume, VolumeId=there) == DENIED
    ec2.reboot_instances(InstanceIds=[mine["InstanceId"]])
    ec2.attach_volume(**move, VolumeId=volume, InstanceId=mine["InstanceId"])
    ec2.detach_volume(**move, VolumeId=volume, InstanceId=mine["InstanceId"])
    ec2.delete_volume(VolumeId=volume)
    assert ec2.stop_instances(InstanceIds=[mine["InstanceId"]])["StoppingInstances"]
    own.terminate_instances(InstanceIds=[mine["InstanceId"]])


def test_the_verify_role_keeps_reports_and_reads_of_the_published_image_only_its_id(lab: IamLab) -> None:
    credentials = take(lab, "verify")
    ssm, s3 = lab.client("ssm", credentials), lab.client("s3", credentials)
    bucket, denied = bucket_name("releases", "verify"), "AccessDeniedException"
    s3.put_object(Bucket=bucket, Key="reports/ami-1.json", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="reports/ami-1.json")["Body"].read() == b"x"
    assert refused(s3.get_object, Bucket=bucket, Key="reports/ami-2.json") == "NoSuchKey"
    assert refused(s3.delete_object, Bucket=bucket, Key="reports/ami-1.json") == "AccessDenied"
    for key in ("channel.json", "releases/v1.0.0.json", "bundles/x.tar.gz"):
        assert refused(s3.put_object, Bucket=bucket, Key=key, Body=b"x") == "AccessDenied"
        assert refused(s3.put_object, Bucket=bucket_name("releases"), Key=key, Body=b"x") == "AccessDenied"
    assert refused(s3.put_object, Bucket=bucket_name("releases"), Key="reports/x", Body=b"x") == "AccessDenied"
    assert refused(ssm.get_parameter, Name="/zmanim/prod/ami-id") == "ParameterNotFound"
    assert ssm.get_parameter(Name="/zmanim/verify/releases-bucket")["Parameter"]["Value"] == bucket
    assert refused(ssm.get_parameter, Name="/zmanim/prod/releases-bucket") == denied
    assert refused(ssm.get_parameter, Name="/zmanim/prod/images/v1.0.0") == "ParameterNotFound"
    for name in ("/zmanim/prod/jwt-secret", "/zmanim/verify/jwt-secret"):
        assert refused(ssm.get_parameter, Name=name) == denied
    assert refused(ssm.put_parameter, Name="/zmanim/prod/ami-id", Value="x", Type="String") == denied


def test_only_the_verify_role_signs_a_verification_and_who_publishes_sees_whether_it_did(lab: IamLab) -> None:
    denied = "AccessDeniedException"
    key, other = requirements.VERIFICATION_KEY.alias, "alias/zmanim-release-verify"
    sign = {"Message": b"x", "MessageType": "RAW", "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = lab.client("kms", take(lab, "verify")).sign(**sign, KeyId=key)["Signature"]
    assert refused(lab.client("kms", take(lab, "verify")).sign, **sign, KeyId=other) == denied
    for step in ("build", "publish", "retire", "look"):
        assert refused(lab.client("kms", take(lab, step)).sign, **sign, KeyId=key) == denied
    for step in ("publish", "look"):
        assert lab.client("kms", take(lab, step)).verify(**sign, KeyId=key, Signature=signature)["SignatureValid"]
    # By its alias only: the condition is on what the request names.
    key_id = lab.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyId"]
    assert refused(lab.client("kms", take(lab, "verify")).sign, **sign, KeyId=key_id) == denied


# ---- publish ----


def test_the_publish_role_moves_the_two_parameters_and_nothing_else(lab: IamLab, foreign: Mapping[str, str]) -> None:
    credentials = take(lab, "publish")
    ssm, ec2 = lab.client("ssm", credentials), lab.client("ec2", credentials)
    for name in ("ami-id", "ami-version"):
        ssm.put_parameter(Name=f"/zmanim/prod/{name}", Value="x", Type="String")
        assert ssm.get_parameter(Name=f"/zmanim/prod/{name}")["Parameter"]["Value"] == "x"
    for name in ("/zmanim/prod/jwt-secret", "/zmanim/verify/ami-id", "/zmanim/prod/ami-id/x", "/other"):
        assert refused(ssm.put_parameter, Name=name, Value="x", Type="String") == "AccessDeniedException"
        assert refused(ssm.get_parameter, Name=name) == "AccessDeniedException"
    assert refused(ssm.delete_parameter, Name="/zmanim/prod/ami-id") == "AccessDeniedException"
    assert refused(ec2.create_tags, Resources=[foreign["image"]], Tags=RUN) == DENIED
    assert refused(ec2.enable_image_deregistration_protection, ImageId=foreign["image"]) == DENIED
    assert refused(ec2.deregister_image, ImageId=foreign["image"]) == DENIED
    assert refused(ec2.run_instances, ImageId=foreign["image"], MinCount=1, MaxCount=1) == DENIED
    assert refused(lab.client("s3", credentials).list_objects_v2, Bucket=bucket_name("releases")) == "AccessDenied"
    ssm.delete_parameter(Name="/zmanim/prod/ami-version")


def test_the_publish_role_records_a_version_once_and_takes_no_protection_away(lab: IamLab, image: str) -> None:
    credentials, denied = take(lab, "publish"), "AccessDeniedException"
    ssm, ec2 = lab.client("ssm", credentials), lab.client("ec2", credentials)
    put = {"Name": "/zmanim/prod/images/v1.0.0", "Value": "x", "Type": "String"}
    assert refused(ssm.put_parameter, **put) == denied  # one that does not say that it writes over none
    assert refused(ssm.put_parameter, **put, Overwrite=True) == denied
    ssm.put_parameter(**put, Overwrite=False)
    assert refused(ssm.put_parameter, **put, Overwrite=True) == denied
    assert refused(ssm.put_parameter, **put, Overwrite=False) == "ParameterAlreadyExists"
    assert refused(ssm.delete_parameter, Name=put["Name"]) == denied
    assert ssm.get_parameters_by_path(Path="/zmanim/prod/images")["Parameters"]
    assert ssm.get_parameter_history(Name="/zmanim/prod/ami-id")["Parameters"]
    assert refused(ssm.get_parameters_by_path, Path="/zmanim/prod") == denied
    for change in (ec2.disable_image_deregistration_protection, ec2.deregister_image, ec2.disable_image):
        assert refused(change, ImageId=image) == DENIED
    lab.client("ssm").delete_parameter(Name=put["Name"])


# ---- build ----


@pytest.mark.parametrize("profile", ["zmanim-prod-instance", "zmanim-verify-instance"])
def test_the_build_role_hands_no_role_to_a_machine(lab: IamLab, image: str, profile: str) -> None:
    ec2 = lab.client("ec2", take(lab, "build"))
    tags = [{"ResourceType": kind, "Tags": RUN} for kind in ("instance", "volume")]
    launch = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "TagSpecifications": tags}
    assert refused(ec2.run_instances, **launch, IamInstanceProfile={"Name": profile}) == DENIED


def test_the_build_role_makes_nothing_without_the_projects_tag(lab: IamLab, image: str) -> None:
    ec2 = lab.client("ec2", take(lab, "build"))
    assert refused(ec2.run_instances, ImageId=image, MinCount=1, MaxCount=1) == DENIED
    assert refused(ec2.create_key_pair, KeyName="mine") == DENIED
    assert refused(ec2.create_security_group, GroupName="mine", Description="x") == DENIED
    ec2.create_key_pair(KeyName="mine", TagSpecifications=[{"ResourceType": "key-pair", "Tags": RUN}])
    ec2.delete_key_pair(KeyName="mine")


def test_the_build_role_touches_nothing_that_lacks_the_projects_tag(lab: IamLab, foreign: Mapping[str, str]) -> None:
    ec2 = lab.client("ec2", take(lab, "build"))
    instance, group = foreign["instance"], foreign["group"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"}
    assert refused(ec2.terminate_instances, InstanceIds=[instance]) == DENIED
    assert refused(ec2.stop_instances, InstanceIds=[instance]) == DENIED
    assert refused(ec2.create_image, InstanceId=instance, Name="stolen") == DENIED
    assert refused(ec2.create_tags, Resources=[instance], Tags=RUN) == DENIED
    assert refused(ec2.delete_volume, VolumeId=foreign["volume"]) == DENIED
    assert refused(ec2.delete_snapshot, SnapshotId=foreign["snapshot"]) == DENIED
    assert refused(ec2.deregister_image, ImageId=foreign["image"]) == DENIED
    share = [{"UserId": "210987654321"}]
    assert refused(ec2.modify_image_attribute, ImageId=foreign["image"], LaunchPermission={"Add": share}) == DENIED
    assert refused(ec2.authorize_security_group_ingress, GroupId=group, **rule) == DENIED
    assert refused(ec2.delete_security_group, GroupId=group) == DENIED
    assert refused(ec2.delete_key_pair, KeyName="foreign") == DENIED


def test_the_build_role_reads_of_the_release_channels_only_their_pointers(lab: IamLab) -> None:
    owner, s3 = lab.client("s3"), lab.client("s3", take(lab, "build"))
    bucket = bucket_name("releases")
    for key in ("channel.json", "releases/v1.0.0.json", "bundles/x.tar.gz"):
        owner.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="channel.json")["Body"].read() == b"x"
    for key in ("releases/v1.0.0.json", "bundles/x.tar.gz"):
        assert refused(s3.get_object, Bucket=bucket, Key=key) == "AccessDenied"
    assert refused(s3.put_object, Bucket=bucket, Key="channel.json", Body=b"y") == "AccessDenied"
    assert refused(s3.delete_object, Bucket=bucket, Key="channel.json") == "AccessDenied"
    for other in (bucket_name("backups"), "zmanim-mirror"):
        assert refused(s3.get_object, Bucket=other, Key="channel.json") in {"AccessDenied", "NoSuchBucket"}
    for key in ("channel.json", "releases/v1.0.0.json", "bundles/x.tar.gz"):
        owner.delete_object(Bucket=bucket, Key=key)


def test_the_build_role_publishes_nothing_and_reads_no_secret(lab: IamLab) -> None:
    ssm = lab.client("ssm", take(lab, "build"))
    write = {"Name": "/zmanim/prod/ami-id", "Value": "x", "Type": "String"}
    assert refused(ssm.put_parameter, **write) == "AccessDeniedException"
    assert refused(ssm.get_parameter, Name="/zmanim/prod/jwt-secret", WithDecryption=True) == "AccessDeniedException"
    assert refused(ssm.get_parameters_by_path, Path="/zmanim/prod") == "AccessDeniedException"
    for environment in ("prod", "verify"):  # no secret, and the only one
        found = ssm.get_parameter(Name=f"/zmanim/{environment}/releases-bucket")["Parameter"]
        assert found["Value"] == bucket_name("releases", environment)
        assert refused(ssm.get_parameter, Name=f"/zmanim/{environment}/mail-to") == "AccessDeniedException"


def test_the_build_role_keeps_what_is_inside_an_image_and_reads_or_writes_no_report(lab: IamLab) -> None:
    s3, bucket = lab.client("s3", take(lab, "build")), bucket_name("releases", "verify")
    s3.put_object(Bucket=bucket, Key="inventories/ami-1.json", Body=b"x")
    s3.put_object(Bucket=bucket, Key="sboms/ami-1.cdx.json", Body=b"x")
    s3.put_object(Bucket=bucket, Key="advisories/ami-1.json", Body=b"x")
    assert refused(s3.put_object, Bucket=bucket, Key="reports/ami-1.json", Body=b"x") == "AccessDenied"
    assert refused(s3.put_object, Bucket=bucket_name("releases"), Key="inventories/x", Body=b"x") == "AccessDenied"
    for kept in ("inventories/ami-1.json", "sboms/ami-1.cdx.json"):
        assert refused(s3.get_object, Bucket=bucket, Key=kept) == "AccessDenied"


# ---- retire, and look ----


def test_the_retire_role_takes_images_of_ours_away_and_nothing_else(
    lab: IamLab, image: str, foreign: Mapping[str, str]
) -> None:
    credentials, denied = take(lab, "retire"), "AccessDeniedException"
    ec2, ssm = lab.client("ec2", credentials), lab.client("ssm", credentials)
    retiring = [{"Key": "zmanim:retiring", "Value": "disabled 2026-11-29T00:00:00+00:00"}]
    ec2.create_tags(Resources=[image], Tags=retiring)
    assert refused(ec2.create_tags, Resources=[foreign["image"]], Tags=retiring) == DENIED
    for tag in ("zmanim:verified", "zmanim:keep", "zmanim:run"):
        more = [*retiring, {"Key": tag, "Value": "x"}]
        assert refused(ec2.create_tags, Resources=[image], Tags=more) == DENIED
    assert refused(ec2.delete_tags, Resources=[image]) == DENIED
    for change in (ec2.deregister_image, ec2.disable_image, ec2.disable_image_deregistration_protection):
        assert refused(change, ImageId=foreign["image"]) == DENIED
    assert refused(ec2.delete_snapshot, SnapshotId=foreign["snapshot"]) == DENIED
    # It can't build, verify or publish.
    assert refused(ec2.run_instances, ImageId=image, MinCount=1, MaxCount=1) == DENIED
    assert refused(ec2.create_image, InstanceId=foreign["instance"], Name="mine") == DENIED
    assert refused(ec2.terminate_instances, InstanceIds=[foreign["instance"]]) == DENIED
    for name in ("ami-id", "ami-version", "images/v1.0.0"):
        for overwrite in (False, True):
            put = {"Name": f"/zmanim/prod/{name}", "Value": "x", "Type": "String", "Overwrite": overwrite}
            assert refused(ssm.put_parameter, **put) == denied
        assert refused(ssm.delete_parameter, Name=f"/zmanim/prod/{name}") == denied
    assert refused(ssm.get_parameters_by_path, Path="/zmanim/prod") == denied
    assert refused(ssm.get_parameter, Name="/zmanim/prod/jwt-secret") == denied
    assert ssm.get_parameters_by_path(Path="/zmanim/prod/images")["Parameters"] == []


def test_who_looks_changes_nothing(lab: IamLab, image: str, foreign: Mapping[str, str]) -> None:
    credentials, denied = take(lab, "look"), "AccessDeniedException"
    ec2, ssm, s3 = (lab.client(service, credentials) for service in ("ec2", "ssm", "s3"))
    assert ec2.describe_images(Owners=["self"])["Images"]
    assert lab.client("autoscaling", credentials).describe_auto_scaling_groups()["AutoScalingGroups"] == []
    for change in (ec2.deregister_image, ec2.disable_image, ec2.disable_image_deregistration_protection):
        assert refused(change, ImageId=image) == DENIED
    assert refused(ec2.create_tags, Resources=[image], Tags=RUN) == DENIED
    put = {"Name": "/zmanim/prod/images/v1.0.0", "Value": "x", "Type": "String", "Overwrite": False}
    assert refused(ssm.put_parameter, **put) == denied
    assert refused(ssm.get_parameter, Name="/zmanim/prod/jwt-secret") == denied
    bucket = bucket_name("releases", "verify")
    for kept in ("reports/ami-3.json", "inventories/ami-3.json", "sboms/ami-3.cdx.json", "advisories/ami-3.json"):
        assert refused(s3.get_object, Bucket=bucket, Key=kept) == "NoSuchKey"
    assert refused(s3.get_object, Bucket=bucket, Key="channel.json") == "AccessDenied"
    assert refused(s3.put_object, Bucket=bucket, Key="reports/ami-3.json", Body=b"x") == "AccessDenied"
