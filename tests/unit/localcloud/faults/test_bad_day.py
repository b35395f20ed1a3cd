"""What a bad day does to clients, each fault by itself, by a clock that only the tests move."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from localcloud import bad_day
from localcloud.bad_day import BadDay
from localcloud.faults.injection import UNREPEATABLE, Faults
from localcloud.settings import ACCOUNT
from tests.support.localcloud.iam import INSTANCE_TRUST, IamLab, iam_lab, refused

AMI = "ami-12c6146b"
LAG = BadDay(lag_seconds=6)
READ = {"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": "*"}


@dataclass
class Day:
    lab: IamLab
    directory: Path
    now: list[float] = field(default_factory=lambda: [0.0])

    def has(self, day: BadDay | None) -> None:
        bad_day.write(self.directory, day)

    def passes(self, seconds: float) -> None:
        self.now[0] += seconds

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "api.jsonl").read_text().splitlines()]


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    now = [0.0]
    with iam_lab(tmp_path, lambda: now[0]) as lab:
        yield Day(lab, tmp_path, now)


def tags(ec2: Any, image: str) -> dict[str, str]:
    (found,) = ec2.describe_images(ImageIds=[image])["Images"]
    return {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}


def make_image(day: Day) -> tuple[Any, str]:
    ec2 = day.lab.client("ec2")
    instance = ec2.run_instances(ImageId=AMI, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    return ec2, str(ec2.create_image(InstanceId=instance, Name="made")["ImageId"])


def test_a_parameter_is_seen_late_and_meanwhile_as_it_was(day: Day) -> None:
    ssm = day.lab.client("ssm")

    def value() -> str:
        return str(ssm.get_parameter(Name="/a/b")["Parameter"]["Value"])

    day.has(LAG)
    ssm.put_parameter(Name="/a/b", Value="one", Type="String")
    assert refused(ssm.get_parameter, Name="/a/b") == "ParameterNotFound"
    # What AWS itself checks is never late.
    assert refused(ssm.put_parameter, Name="/a/b", Value="two", Type="String") == "ParameterAlreadyExists"
    assert ssm.put_parameter(Name="/a/b", Value="two", Type="String", Overwrite=True)["Version"] == 2
    day.passes(6)
    assert value() == "two"
    ssm.put_parameter(Name="/a/b", Value="three", Type="String", Overwrite=True)
    assert value() == "two"
    day.passes(5.9)
    assert value() == "two"
    day.passes(0.1)
    assert value() == "three"


def test_tags_are_seen_late_whether_written_or_taken_away(day: Day) -> None:
    ec2, image = make_image(day)
    day.has(LAG)
    ec2.create_tags(Resources=[image], Tags=[{"Key": "a", "Value": "1"}])
    assert tags(ec2, image) == {}
    assert ec2.describe_images(Filters=[{"Name": "tag:a", "Values": ["1"]}])["Images"] == []
    day.passes(6)
    assert tags(ec2, image) == {"a": "1"}
    ec2.delete_tags(Resources=[image], Tags=[{"Key": "a"}])
    assert tags(ec2, image) == {"a": "1"}
    day.passes(6)
    assert tags(ec2, image) == {}


def test_a_new_image_is_not_found_and_its_name_is_taken(day: Day) -> None:
    ec2 = day.lab.client("ec2")
    instance = ec2.run_instances(ImageId=AMI, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    day.has(LAG)
    image = ec2.create_image(InstanceId=instance, Name="made")["ImageId"]
    assert refused(ec2.describe_images, ImageIds=[image]) == "InvalidAMIID.NotFound"
    day.passes(6)
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["Name"] == "made"


def test_only_the_first_images_lag_when_that_is_said(day: Day) -> None:
    ec2 = day.lab.client("ec2")
    instance = ec2.run_instances(ImageId=AMI, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    day.has(BadDay(lag_seconds=6, late_images=1))
    first, second = (ec2.create_image(InstanceId=instance, Name=name)["ImageId"] for name in ("one", "two"))
    assert refused(ec2.describe_images, ImageIds=[first]) == "InvalidAMIID.NotFound"
    assert ec2.describe_images(ImageIds=[second])["Images"][0]["Name"] == "two"


def test_a_new_instance_is_not_found_by_its_id_nor_by_its_tags(day: Day) -> None:
    ec2 = day.lab.client("ec2")
    day.has(LAG)
    given = [{"ResourceType": "instance", "Tags": [{"Key": "run", "Value": "7"}]}]
    ran = ec2.run_instances(ImageId=AMI, MinCount=1, MaxCount=1, TagSpecifications=given)
    instance = ran["Instances"][0]["InstanceId"]
    by_tag = [{"Name": "tag:run", "Values": ["7"]}]
    assert refused(ec2.describe_instances, InstanceIds=[instance]) == "InvalidInstanceID.NotFound"
    assert refused(ec2.terminate_instances, InstanceIds=[instance]) == "InvalidInstanceID.NotFound"
    assert ec2.describe_instances(Filters=by_tag)["Reservations"] == []
    day.passes(6)
    assert ec2.describe_instances(Filters=by_tag)["Reservations"][0]["Instances"][0]["InstanceId"] == instance


def test_roles_and_profiles_are_seen_late_and_their_names_are_taken(day: Day) -> None:
    iam = day.lab.client("iam")
    day.has(LAG)
    role = {"RoleName": "new", "AssumeRolePolicyDocument": json.dumps(INSTANCE_TRUST)}
    iam.create_role(**role)
    iam.create_instance_profile(InstanceProfileName="new")
    assert refused(iam.create_role, **role) == "EntityAlreadyExists"
    assert refused(iam.get_role, RoleName="new") == "NoSuchEntity"
    assert refused(iam.get_instance_profile, InstanceProfileName="new") == "NoSuchEntity"
    policy = json.dumps({"Version": "2012-10-17", "Statement": [READ]})
    assert refused(iam.put_role_policy, RoleName="new", PolicyName="p", PolicyDocument=policy) == "NoSuchEntity"
    day.passes(6)
    iam.add_role_to_instance_profile(InstanceProfileName="new", RoleName="new")
    assert iam.get_instance_profile(InstanceProfileName="new")["InstanceProfile"]["Roles"] == []
    day.passes(6)
    (held,) = iam.get_instance_profile(InstanceProfileName="new")["InstanceProfile"]["Roles"]
    assert held["RoleName"] == "new"


def test_a_policy_is_in_force_late(day: Day) -> None:
    credentials = day.lab.role("reader", {"Effect": "Allow", "Action": "ssm:ListTagsForResource", "Resource": "*"})
    day.lab.client("ssm").put_parameter(Name="/a/b", Value="one", Type="String")
    ssm = day.lab.client("ssm", credentials)
    day.has(LAG)
    day.lab.policy("reader", READ)
    assert refused(ssm.get_parameter, Name="/a/b") == "AccessDeniedException"
    day.passes(6)
    assert ssm.get_parameter(Name="/a/b")["Parameter"]["Value"] == "one"
    document = json.dumps(INSTANCE_TRUST).replace("Allow", "Deny")
    day.lab.client("iam").update_assume_role_policy(RoleName="reader", PolicyDocument=document)
    assert day.lab.session("reader")
    day.passes(6)
    sts, arn = day.lab.client("sts", credentials), f"arn:aws:iam::{ACCOUNT}:role/reader"
    assert refused(sts.assume_role, RoleArn=arn, RoleSessionName="again") == "AccessDenied"


def test_a_parameter_that_names_an_image_is_accepted_and_checked_afterwards(day: Day) -> None:
    _, image = make_image(day)
    ssm = day.lab.client("ssm")
    day.has(BadDay(check_seconds=8))
    kind: dict[str, Any] = {"Name": "/a/ami-id", "Type": "String", "DataType": "aws:ec2:image", "Overwrite": True}
    ssm.put_parameter(**kind, Value=image)
    assert refused(ssm.get_parameter, Name="/a/ami-id") == "ParameterNotFound"
    day.passes(8)
    assert ssm.get_parameter(Name="/a/ami-id")["Parameter"]["Value"] == image
    ssm.put_parameter(**kind, Value="ami-00000000000000bad")
    day.passes(8)
    assert ssm.get_parameter(Name="/a/ami-id")["Parameter"]["Value"] == image


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("ec2", "describe_regions", "RequestLimitExceeded"),
        ("ssm", "describe_parameters", "ThrottlingException"),
        ("iam", "list_roles", "Throttling"),
        ("sts", "get_caller_identity", "Throttling"),
        ("s3", "list_buckets", "SlowDown"),
        ("kms", "list_keys", "ThrottlingException"),
        ("cloudwatch", "describe_alarms", "Throttling"),
    ],
)
def test_each_service_throttles_in_its_own_words(day: Day, service: str, operation: str, code: str) -> None:
    client = day.lab.client(service)
    client.meta.events.register("needs-retry", lambda **_: None)
    day.has(BadDay(throttled=1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("time.sleep", lambda _seconds: None)  # botocore's pauses between its attempts
        assert refused(getattr(client, operation)) == code


def test_the_same_calls_are_hit_in_every_cloud_with_the_same_seed(tmp_path: Path) -> None:
    def hits(name: str, seed: int) -> list[bool]:
        (tmp_path / name).mkdir(exist_ok=True)
        bad_day.write(tmp_path / name, BadDay(seed=seed, throttled=0.5))
        weather = bad_day.Weather(tmp_path / name)
        return [weather.dice("throttled/ec2/RunInstances").random() < 0.5 for _ in range(40)]

    assert hits("one", 7) == hits("two", 7) != hits("three", 8)
    assert 5 < sum(hits("four", 7)) < 35


def test_the_first_launch_of_each_image_finds_no_capacity(day: Day) -> None:
    ec2, image = make_image(day)
    day.has(BadDay(no_capacity=1))
    for each in (image, AMI):
        ran = ec2.run_instances(ImageId=each, MinCount=1, MaxCount=1)  # its second attempt: 500 is the server's fault
        assert ran["ResponseMetadata"]["RetryAttempts"] == 1
    assert [call["error"] for call in day.calls() if call["operation"] == "RunInstances"][1:] == [
        *("InsufficientInstanceCapacity", ""),
        *("InsufficientInstanceCapacity", ""),
    ]


def test_an_answer_is_lost_after_the_call_was_carried_out(day: Day) -> None:
    day.has(BadDay(lost=1, lost_unrepeatable=True))
    # Unlike on a quiet day, a call without a client token is made anew, as on AWS.
    written = day.lab.client("ssm").put_parameter(Name="/a/b", Value="one", Type="String", Overwrite=True)
    assert written["Version"] == 2
    made = day.lab.client("ec2").create_security_group
    assert refused(made, GroupName="g", Description="g") == "InvalidGroup.Duplicate"
    attempts = [(call["attempt"], call.get("lost", False)) for call in day.calls()]
    assert attempts == [(1, True), (2, False)] * 2


def test_answers_to_what_can_t_be_repeated_are_lost_only_when_that_is_said(day: Day) -> None:
    day.has(BadDay(lost=1))
    day.lab.client("ec2").create_security_group(GroupName="g", Description="g")
    assert ("ec2", "CreateSecurityGroup") in UNREPEATABLE
    assert [call["attempt"] for call in day.calls()] == [1]


def test_an_agent_registers_some_time_after_it_started(tmp_path: Path) -> None:
    now = [100.0]
    bad_day.write(tmp_path, BadDay(agent_seconds=5))
    faults = Faults(tmp_path, lambda: now[0])
    codes = {faults.unregistered("i-1") for _ in range(20)}
    assert codes == {"InvalidInstanceId", "AccessDeniedException"}
    now[0] += 5
    assert faults.unregistered("i-1") == ""


def test_a_console_is_late(tmp_path: Path) -> None:
    now = [0.0]
    bad_day.write(tmp_path, BadDay(console_seconds=4))
    faults = Faults(tmp_path, lambda: now[0])
    assert faults.console("i-1", b"one") == b""
    now[0] += 4
    assert faults.console("i-1", b"one two") == b"one"
    now[0] += 4
    assert faults.console("i-1", b"one two three") == b"one two"


def test_the_kernel_writes_into_some_long_lines_and_leaves_one_of_three_copies_whole(tmp_path: Path) -> None:
    line = b"x" * 300
    bad_day.write(tmp_path, BadDay(seed=3, torn_console=True))
    text = Faults(tmp_path).console("i-1", b"\n".join([b"short", line, line, line, b"end"]))
    assert line in text.split(b"\n")
    assert text.count(b"[   97.531864] audit: ") == 2
    assert text == Faults(tmp_path).console("i-1", b"\n".join([b"short", line, line, line, b"end"]))
    assert text.replace(b"[   97.531864] audit: type=1334 audit(1764374400.123:456): prog-id=78 op=LOAD\r\n", b"") == (
        b"\n".join([b"short", line, line, line, b"end"])
    )


def test_a_quiet_day_changes_nothing(day: Day) -> None:
    assert Faults(day.directory).console("i-1", b"y" * 300) == b"y" * 300
    assert Faults(day.directory).unregistered("i-1") == ""
    ssm = day.lab.client("ssm")
    day.has(LAG)
    ssm.put_parameter(Name="/a/b", Value="one", Type="String")
    day.has(None)
    assert refused(ssm.get_parameter, Name="/a/b") == "ParameterNotFound"  # what was put off stays so until its time
    day.passes(6)
    assert ssm.get_parameter(Name="/a/b")["Parameter"]["Value"] == "one"
    ssm.put_parameter(Name="/a/b", Value="two", Type="String", Overwrite=True)
    assert ssm.get_parameter(Name="/a/b")["Parameter"]["Value"] == "two"
