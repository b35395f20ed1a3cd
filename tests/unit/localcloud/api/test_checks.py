"""A token, a filter or a parameter that a service does not know is refused in its own code, whichever the operation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.config import Config

from localcloud.settings import SECRET
from tests.support.localcloud.iam import KEY, REGION, IamLab, iam_lab, refused, signed

FORM = "application/x-www-form-urlencoded"
JSON = "application/x-amz-json-1.1"
OWNER = {"AccessKeyId": KEY, "SecretAccessKey": SECRET, "SessionToken": ""}
LOOSE = Config(parameter_validation=False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IamLab]:
    with iam_lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


def code(lab: IamLab, service: str, body: str, target: str = "") -> tuple[int, str]:
    url = f"https://{service}.{REGION}.amazonaws.com/"
    headers = {"Content-Type": JSON, "X-Amz-Target": target} if target else {"Content-Type": FORM}
    answered = lab.send("POST", url, body.encode(), signed(OWNER, service, ("POST", url, body.encode()), headers))
    found = re.search(rb'<Code>([^<]+)</Code>|"__type"\s*:\s*"([^"]+)"', answered[2])
    return answered[0], (found[1] or found[2]).decode() if found else ""


@pytest.mark.incident("a garbage NextToken was answered with the name of a Python exception")
@pytest.mark.parametrize(
    ("service", "operation", "given", "expected"),
    [
        ("ec2", "describe_instances", {"NextToken": "garbage", "MaxResults": 5}, "InvalidNextToken"),
        ("ec2", "describe_images", {"NextToken": "garbage"}, "InvalidNextToken"),
        ("ec2", "describe_instance_types", {"NextToken": "garbage"}, "InvalidNextToken"),
        ("ssm", "describe_parameters", {"NextToken": "garbage"}, "InvalidNextToken"),
        ("ssm", "get_parameters_by_path", {"Path": "/", "NextToken": "garbage"}, "InvalidNextToken"),
        ("kms", "list_keys", {"Marker": "garbage"}, "InvalidMarkerException"),
        ("iam", "list_users", {"Marker": "garbage"}, "ValidationError"),
        ("sns", "list_topics", {"NextToken": "garbage"}, "InvalidParameter"),
        ("logs", "describe_log_groups", {"nextToken": "garbage"}, "InvalidParameterException"),
        ("cloudwatch", "describe_alarms", {"NextToken": "garbage"}, "InvalidNextToken"),
        ("autoscaling", "describe_auto_scaling_groups", {"NextToken": "garbage"}, "InvalidNextToken"),
        ("sesv2", "list_email_identities", {"NextToken": "garbage"}, "BadRequestException"),
        ("cloudtrail", "list_trails", {"NextToken": "garbage"}, "ValidationException"),
    ],
)
def test_a_token_that_was_not_given_is_the_service_s_own_error(
    lab: IamLab, service: str, operation: str, given: Mapping[str, Any], expected: str
) -> None:
    assert refused(getattr(lab.client(service), operation), **given) == expected


def test_s3_s_token_is_refused_too_and_names_are_none(lab: IamLab) -> None:
    s3 = lab.client("s3")
    s3.create_bucket(Bucket="box", CreateBucketConfiguration={"LocationConstraint": REGION})
    for key in "abc":
        s3.put_object(Bucket="box", Key=key, Body=b"")
    assert refused(s3.list_objects_v2, Bucket="box", ContinuationToken="garbage") == "InvalidArgument"
    assert [one["Key"] for one in s3.list_objects(Bucket="box", Marker="a")["Contents"]] == ["b", "c"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="box", PaginationConfig={"PageSize": 1})
    assert [one["Key"] for page in pages for one in page["Contents"]] == ["a", "b", "c"]


def test_a_token_that_was_given_goes_on(lab: IamLab) -> None:
    logs, metrics = lab.client("logs"), lab.client("cloudwatch")
    for number in range(5):
        logs.create_log_group(logGroupName=f"paged{number}")
    pages = list(logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["logGroups"]) for page in pages] == [2, 2, 1]
    for number in range(6):  # CloudWatch answers in CBOR, 500 at a time
        made = [{"MetricName": f"{number}-{one}", "Value": 1} for one in range(100)]
        metrics.put_metric_data(Namespace="n", MetricData=made)
    pages = list(metrics.get_paginator("list_metrics").paginate(Namespace="n"))
    assert [len(page["Metrics"]) for page in pages] == [500, 100]


def test_a_token_is_good_where_it_was_given(lab: IamLab) -> None:
    for number in range(12):
        lab.client("ssm").put_parameter(Name=f"/region/{number}", Value="x", Type="String")
    token = lab.client("ssm").describe_parameters()["NextToken"]
    assert lab.client("ssm").describe_parameters(NextToken=token)["Parameters"]
    elsewhere = lab.client("ssm", region="us-east-1")
    assert refused(elsewhere.describe_parameters, NextToken=token) == "InvalidNextToken"


@pytest.mark.parametrize(
    "operation",
    ["instances", "images", "volumes", "snapshots", "security_groups", "vpcs", "subnets", "addresses", "key_pairs",
     "tags", "launch_templates", "network_interfaces", "route_tables", "availability_zones", "instance_types"],
)  # fmt: skip
def test_a_filter_that_ec2_has_not_is_refused(lab: IamLab, operation: str) -> None:
    describe = getattr(lab.client("ec2"), f"describe_{operation}")
    for name in ("colour", "tagged", ""):
        assert refused(describe, Filters=[{"Name": name, "Values": ["red"]}]) == "InvalidParameterValue"
    by_tag = "key" if operation == "tags" else "zone-name" if operation == "availability_zones" else "tag:a"
    describe(Filters=[{"Name": "instance-type" if operation == "instance_types" else by_tag, "Values": ["x"]}])


@pytest.mark.parametrize(
    "body",
    [
        "Colour=red",
        "InstanceIds.1=i-1",
        "InstanceId.x=i-1",
        "Filter.1.Colour=red",
        "Filter.1.Name.1=x",
        "MaxResults.1=5",
    ],
)
def test_a_parameter_that_ec2_has_not_is_refused(lab: IamLab, body: str) -> None:
    form = f"Action=DescribeInstances&Version=2016-11-15&{body}"
    assert code(lab, "ec2", form) == (400, "UnknownParameter")


def test_a_parameter_that_another_service_has_not_is_passed_over(lab: IamLab) -> None:
    assert code(lab, "sts", "Action=GetCallerIdentity&Version=2011-06-15&Colour=red")[0] == 200
    assert code(lab, "ssm", '{"Colour": "red"}', "AmazonSSM.DescribeParameters")[0] == 200


def test_a_parameter_of_the_wrong_kind_is_the_service_s_own_error(lab: IamLab) -> None:
    form = "Action=DescribeInstances&Version=2016-11-15&MaxResults=many"
    assert code(lab, "ec2", form) == (400, "InvalidParameterValue")
    wrong = '{"MaxResults": "many", "Filters": 7}'
    assert code(lab, "ssm", wrong, "AmazonSSM.DescribeParameters") == (400, "SerializationException")


def test_what_is_missing_is_named_in_the_service_s_own_error(lab: IamLab) -> None:
    assert refused(lab.client("ec2", config=LOOSE).detach_volume) == "MissingParameter"
    assert refused(lab.client("iam", config=LOOSE).create_role, RoleName="r") == "ValidationError"
    assert refused(lab.client("ssm", config=LOOSE).get_parameter) == "ValidationException"


def test_a_dry_run_does_nothing(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    before = len(ec2.describe_volumes()["Volumes"])
    asked = {"AvailabilityZone": f"{REGION}a", "Size": 1, "DryRun": True}
    assert refused(ec2.create_volume, **asked) == "DryRunOperation"
    assert len(ec2.describe_volumes()["Volumes"]) == before
    nobody = lab.client("ec2", lab.role("nobody", {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}))
    assert refused(nobody.create_volume, **asked) == "UnauthorizedOperation"
