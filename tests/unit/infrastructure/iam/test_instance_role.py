"""What an instance's own role can't do."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support import bucket_name
from tests.support.localcloud.iam import IamLab, refused

DENIED = "UnauthorizedOperation"


@pytest.mark.parametrize(("mine", "other"), [("prod", "verify"), ("verify", "prod")])
def test_an_instance_reads_its_own_environment_and_no_other(lab: IamLab, mine: str, other: str) -> None:
    credentials = lab.session_of_instance(f"zmanim-{mine}-instance")
    ssm = lab.client("ssm", credentials)
    assert ssm.get_parameters_by_path(Path=f"/zmanim/{mine}/", WithDecryption=True)["Parameters"]
    denied = "AccessDeniedException"
    assert refused(ssm.get_parameter, Name=f"/zmanim/{other}/jwt-secret") == denied
    assert refused(ssm.get_parameters_by_path, Path=f"/zmanim/{other}") == denied
    assert refused(ssm.get_parameters_by_path, Path="/zmanim") == denied
    assert refused(ssm.get_parameters_by_path, Path="/") == denied
    assert refused(ssm.get_parameter, Name=f"/zmanim/{mine}x/jwt-secret") == denied
    s3 = lab.client("s3", credentials)
    for bucket in (bucket_name("backups", other), bucket_name("releases", other)):
        assert refused(s3.list_objects_v2, Bucket=bucket) == "AccessDenied"
        assert refused(s3.get_object, Bucket=bucket, Key="restic/config") == "AccessDenied"
        assert refused(s3.put_object, Bucket=bucket, Key="restic/config", Body=b"") == "AccessDenied"


def test_an_instance_writes_no_parameter_and_runs_no_call_of_ec2(lab: IamLab, foreign: Mapping[str, str]) -> None:
    credentials = lab.session_of_instance("zmanim-prod-instance")
    ssm, ec2 = lab.client("ssm", credentials), lab.client("ec2", credentials)
    for name in ("ami-id", "jwt-secret", "new"):
        put = {"Name": f"/zmanim/prod/{name}", "Value": "x", "Type": "String", "Overwrite": True}
        assert refused(ssm.put_parameter, **put) == "AccessDeniedException"
        assert refused(ssm.delete_parameter, Name=f"/zmanim/prod/{name}") == "AccessDeniedException"
    command = {"DocumentName": "AWS-RunShellScript", "InstanceIds": [foreign["instance"]]}
    assert refused(ssm.send_command, **command, Parameters={"commands": ["id"]}) == "AccessDeniedException"
    assert refused(ec2.describe_instances) == DENIED
    assert refused(ec2.terminate_instances, InstanceIds=[foreign["instance"]]) == DENIED
    assert refused(ec2.run_instances, ImageId=foreign["image"], MinCount=1, MaxCount=1) == DENIED


def test_an_instance_says_once_that_backups_were_begun_and_can_not_take_it_back(lab: IamLab) -> None:
    ssm, denied = lab.client("ssm", lab.session_of_instance("zmanim-prod-instance")), "AccessDeniedException"
    put = {"Name": "/zmanim/prod/backup/repository", "Value": "x", "Type": "String"}
    assert refused(ssm.put_parameter, **put, Overwrite=True) == denied
    ssm.put_parameter(**put, Overwrite=False)
    assert refused(ssm.put_parameter, **put, Overwrite=False) == "ParameterAlreadyExists"
    assert refused(ssm.delete_parameter, Name=put["Name"]) == denied
    (marker,) = ssm.get_parameters_by_path(Path="/zmanim/prod/backup")["Parameters"]
    assert marker["Value"] == "x"
    others = {"Name": "/zmanim/verify/backup/repository", "Value": "x", "Type": "String", "Overwrite": False}
    assert refused(ssm.put_parameter, **others) == denied
    lab.client("ssm").delete_parameter(Name=put["Name"])


def test_an_instance_writes_its_backups_and_destroys_no_version_of_them(lab: IamLab) -> None:
    bucket = bucket_name("backups")
    s3 = lab.client("s3", lab.session_of_instance("zmanim-prod-instance"))
    version = s3.put_object(Bucket=bucket, Key="restic/locks/a", Body=b"1")["VersionId"]
    gone = {"Bucket": bucket, "Key": "restic/locks/a", "VersionId": version}
    assert refused(s3.delete_object, **gone) == "AccessDenied"
    several = {"Objects": [{"Key": "restic/locks/a", "VersionId": version}]}
    (error,) = s3.delete_objects(Bucket=bucket, Delete=several)["Errors"]
    assert error["Code"] == "AccessDenied"
    assert s3.get_object(Bucket=bucket, Key="restic/locks/a")["Body"].read() == b"1"
    assert refused(s3.put_object, Bucket=bucket, Key="elsewhere", Body=b"") == "AccessDenied"
    assert refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}) == (
        "AccessDenied"
    )
    rule = {"Rules": [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]}
    assert refused(s3.put_bucket_lifecycle_configuration, Bucket=bucket, LifecycleConfiguration=rule) == "AccessDenied"
    assert refused(s3.delete_bucket, Bucket=bucket) == "AccessDenied"
    assert refused(s3.put_object, Bucket=bucket_name("releases"), Key="x", Body=b"") == "AccessDenied"
