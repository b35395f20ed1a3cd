"""The things that rows are about, each made by calls of the cloud when a row first names it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from localcloud.ec2.amis import base_image_id
from localcloud.settings import ACCOUNT, KEY_PREFIX, BaseImage
from tests.support.localcloud.iam import REGION

BASE = BaseImage("al2023-ami-2023.12.20260930.0-kernel-6.12-arm64", Path("/nowhere"))
ZONE = "eu-west-1a"


class Maker(Protocol):
    """What a thing is made on: stage.Stage."""

    def thing(self, name: str) -> str:
        """Return another thing's id."""

    def keep(self, **things: str) -> None:
        """Name what was made beside it."""

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Make a call that has to succeed."""

    def wait(self, operation: str, request: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call until its answer is as expected."""

    def know(self, name: str, credentials: Mapping[str, str]) -> str:
        """Name credentials."""


def _instance(on: Maker) -> str:
    launched = on.call("ec2:RunInstances", ImageId=on.thing("base"), InstanceType="t4g.small", MinCount=1, MaxCount=1)
    instance = str(launched["Instances"][0]["InstanceId"])
    return _in_state(on, instance, "running")


def _in_state(on: Maker, instance: str, state: str) -> str:
    shown = on.wait(
        "ec2:DescribeInstances", {"InstanceIds": [instance]}, {"Reservations[0].Instances[0].State.Name": state}
    )
    found = shown["Reservations"][0]["Instances"][0]
    mapped = found["BlockDeviceMappings"]
    on.keep(root=str(mapped[0]["Ebs"]["VolumeId"]) if mapped else "vol-0", address=str(found.get("PrivateIpAddress")))
    return instance


def _stopped(on: Maker) -> str:
    instance = on.thing("instance")
    on.call("ec2:StopInstances", InstanceIds=[instance])
    return _in_state(on, instance, "stopped")


def _terminated(on: Maker) -> str:
    instance = on.thing("instance")
    on.call("ec2:TerminateInstances", InstanceIds=[instance])
    return _in_state(on, instance, "terminated")


def _root(on: Maker) -> str:
    on.thing("instance")
    return on.thing("root")


def _volume(on: Maker) -> str:
    made = on.call("ec2:CreateVolume", AvailabilityZone=ZONE, Size=2, VolumeType="gp3")["VolumeId"]
    on.wait("ec2:DescribeVolumes", {"VolumeIds": [made]}, {"Volumes[0].State": "available"})
    return str(made)


def _zone_of_instance(on: Maker) -> str:
    shown = on.call("ec2:DescribeInstances", InstanceIds=[on.thing("instance")])
    return str(shown["Reservations"][0]["Instances"][0]["Placement"]["AvailabilityZone"])


def _attached(on: Maker) -> str:
    made = on.call("ec2:CreateVolume", AvailabilityZone=on.thing("zone"), Size=2, VolumeType="gp3")["VolumeId"]
    on.wait("ec2:DescribeVolumes", {"VolumeIds": [made]}, {"Volumes[0].State": "available"})
    on.call("ec2:AttachVolume", VolumeId=made, InstanceId=on.thing("instance"), Device="/dev/sdf")
    on.wait("ec2:DescribeVolumes", {"VolumeIds": [made]}, {"Volumes[0].Attachments[0].State": "attached"})
    return str(made)


def _snapshot(on: Maker) -> str:
    made = on.call("ec2:CreateSnapshot", VolumeId=on.thing("volume"))["SnapshotId"]
    on.wait("ec2:DescribeSnapshots", {"SnapshotIds": [made]}, {"Snapshots[0].State": "completed"})
    return str(made)


def _image(on: Maker) -> str:
    made = on.call("ec2:CreateImage", InstanceId=on.thing("instance"), Name="own", NoReboot=True)["ImageId"]
    shown = on.wait("ec2:DescribeImages", {"ImageIds": [made]}, {"Images[0].State": "available"})
    on.keep(image_snapshot=str(shown["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]))
    return str(made)


def _image_snapshot(on: Maker) -> str:
    on.thing("image")
    return on.thing("image_snapshot")


def _base_snapshot(on: Maker) -> str:
    image = on.call("ec2:DescribeImages", ImageIds=[on.thing("base")])["Images"][0]
    return str(image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])


def _deregistered(on: Maker) -> str:
    on.call("ec2:DeregisterImage", ImageId=on.thing("image"))
    return on.thing("image")


def _subnet(on: Maker) -> str:
    filters = [{"Name": "availability-zone", "Values": [ZONE]}]
    return str(on.call("ec2:DescribeSubnets", Filters=filters)["Subnets"][0]["SubnetId"])


def _vpc(on: Maker) -> str:
    return str(on.call("ec2:DescribeVpcs")["Vpcs"][0]["VpcId"])


def _default_group(on: Maker) -> str:
    filters = [{"Name": "group-name", "Values": ["default"]}, {"Name": "vpc-id", "Values": [on.thing("vpc")]}]
    return str(on.call("ec2:DescribeSecurityGroups", Filters=filters)["SecurityGroups"][0]["GroupId"])


def _group(on: Maker) -> str:
    made = on.call("ec2:CreateSecurityGroup", GroupName="own", Description="own", VpcId=on.thing("vpc"))
    return str(made["GroupId"])


def _instance_subnet(on: Maker) -> str:
    shown = on.call("ec2:DescribeInstances", InstanceIds=[on.thing("instance")])
    return str(shown["Reservations"][0]["Instances"][0]["SubnetId"])


def _gateway(on: Maker) -> str:
    return str(on.call("ec2:CreateInternetGateway")["InternetGateway"]["InternetGatewayId"])


def _routes(on: Maker) -> str:
    filters = [{"Name": "vpc-id", "Values": [on.thing("vpc")]}]
    on.call("ec2:AttachInternetGateway", InternetGatewayId=on.thing("gateway"), VpcId=on.thing("vpc"))
    return str(on.call("ec2:DescribeRouteTables", Filters=filters)["RouteTables"][0]["RouteTableId"])


def _key(on: Maker) -> str:
    return str(on.call("ec2:CreateKeyPair", KeyName="own", KeyType="ed25519")["KeyName"])


def _eni(on: Maker) -> str:
    made = on.call("ec2:CreateNetworkInterface", SubnetId=on.thing("subnet"))
    return str(made["NetworkInterface"]["NetworkInterfaceId"])


def _allocation(on: Maker) -> str:
    return str(on.call("ec2:AllocateAddress", Domain="vpc")["AllocationId"])


def _template(on: Maker) -> str:
    data = {"ImageId": on.thing("base"), "InstanceType": "t4g.small"}
    made = on.call("ec2:CreateLaunchTemplate", LaunchTemplateName="own", LaunchTemplateData=data)
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def _bucket(on: Maker) -> str:
    on.call("s3:CreateBucket", Bucket="contract", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return "contract"


def _object(on: Maker) -> str:
    on.call("s3:PutObject", Bucket=on.thing("bucket"), Key="thing", Body=b"content")
    return "thing"


def _closed(on: Maker) -> str:
    """A bucket that denies the reading of its objects to everybody."""
    on.thing("object")
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::contract/*",
    }  # fmt: skip
    on.call("s3:PutBucketPolicy", Bucket=on.thing("bucket"), Policy=_policy(statement))
    return on.thing("bucket")


def _upload(on: Maker) -> str:
    return str(on.call("s3:CreateMultipartUpload", Bucket=on.thing("bucket"), Key="k")["UploadId"])


def trust(service: str) -> str:
    """Return the trust policy of a role that a service assumes, and the account's own."""
    principals = {"Service": f"{service}.amazonaws.com", "AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    return _policy({"Effect": "Allow", "Principal": principals, "Action": "sts:AssumeRole"})


def _policy(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _role(on: Maker) -> str:
    return str(on.call("iam:CreateRole", RoleName="own", AssumeRolePolicyDocument=trust("ec2"))["Role"]["RoleName"])


def _profile(on: Maker) -> str:
    on.call("iam:CreateInstanceProfile", InstanceProfileName="own")
    on.call("iam:AddRoleToInstanceProfile", InstanceProfileName="own", RoleName=on.thing("role"))
    return "own"


def _user(on: Maker) -> str:
    return str(on.call("iam:CreateUser", UserName="own")["User"]["UserName"])


def _nobody(on: Maker) -> str:
    """Credentials of a user whom nothing is allowed."""
    made = on.call("iam:CreateAccessKey", UserName=on.thing("user"))["AccessKey"]
    return on.know("nobody", {"AccessKeyId": made["AccessKeyId"], "SecretAccessKey": made["SecretAccessKey"]})


def _stranger(on: Maker) -> str:
    """Credentials that no account has."""
    return on.know("stranger", {"AccessKeyId": "AKIANOBODY", "SecretAccessKey": "x"})


def _inactive(on: Maker) -> str:
    """Credentials of a user's key that was made inactive."""
    made = on.call("iam:CreateAccessKey", UserName=on.thing("user"))["AccessKey"]
    on.call("iam:UpdateAccessKey", UserName="own", AccessKeyId=made["AccessKeyId"], Status="Inactive")
    return on.know("inactive", {"AccessKeyId": made["AccessKeyId"], "SecretAccessKey": made["SecretAccessKey"]})


def _gone(on: Maker) -> str:
    """Credentials of a cloud that was taken down."""
    return on.know("gone", {"AccessKeyId": f"{KEY_PREFIX}{'0' * 32}", "SecretAccessKey": "localcloud"})


def _session(on: Maker) -> str:
    """Credentials of a session of the role."""
    arn = f"arn:aws:iam::{ACCOUNT}:role/{on.thing('role')}"
    return on.know("session", on.call("sts:AssumeRole", RoleArn=arn, RoleSessionName="test")["Credentials"])


def _provider(on: Maker) -> str:
    url = "https://token.actions.githubusercontent.com"
    made = on.call("iam:CreateOpenIDConnectProvider", Url=url, ClientIDList=["sts.amazonaws.com"])
    return str(made["OpenIDConnectProviderArn"])


def _signing(on: Maker) -> str:
    return str(on.call("kms:CreateKey", KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"])


def _encrypting(on: Maker) -> str:
    return str(on.call("kms:CreateKey")["KeyMetadata"]["KeyId"])


def _topic(on: Maker) -> str:
    return str(on.call("sns:CreateTopic", Name="own")["TopicArn"])


def _parameter(on: Maker) -> str:
    on.call("ssm:PutParameter", Name="/contract/one", Value="first", Type="String")
    return "/contract/one"


def _alarm(on: Maker) -> str:
    on.call(
        "cloudwatch:PutMetricAlarm", AlarmName="own", MetricName="M", Namespace="N", Statistic="Sum", Period=60,
        EvaluationPeriods=1, Threshold=1.0, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    return "own"


def _command(on: Maker) -> str:
    sent = on.call(
        "ssm:SendCommand", DocumentName="AWS-RunShellScript", InstanceIds=[on.thing("instance")],
        Parameters={"commands": ["true"]},
    )  # fmt: skip
    return str(sent["Command"]["CommandId"])


def _sender(on: Maker) -> str:
    on.call("ses:VerifyEmailIdentity", EmailAddress="a@example.org")
    on.wait("ses:GetIdentityVerificationAttributes", {"Identities": ["a@example.org"]}, {})
    return "a@example.org"


THINGS: Mapping[str, Callable[[Any], str]] = {
    "account": lambda _on: ACCOUNT,
    "address": lambda on: (_root(on), on.thing("address"))[1],
    "alarm": _alarm,
    "allocation": _allocation,
    "attached": _attached,
    "base": lambda _on: base_image_id(BASE.name, REGION),
    "base_snapshot": _base_snapshot,
    "bucket": _bucket,
    "closed": _closed,
    "command": _command,
    "default_group": _default_group,
    "deregistered": _deregistered,
    "encrypting": _encrypting,
    "eni": _eni,
    "gateway": _gateway,
    "gone": _gone,
    "group": _group,
    "image": _image,
    "image_snapshot": _image_snapshot,
    "inactive": _inactive,
    "instance": _instance,
    "instance_subnet": _instance_subnet,
    "key": _key,
    "nobody": _nobody,
    "object": _object,
    "parameter": _parameter,
    "profile": _profile,
    "provider": _provider,
    "role": _role,
    "root": _root,
    "routes": _routes,
    "sender": _sender,
    "session": _session,
    "signing": _signing,
    "snapshot": _snapshot,
    "stopped": _stopped,
    "stranger": _stranger,
    "subnet": _subnet,
    "template": _template,
    "terminated": _terminated,
    "topic": _topic,
    "upload": _upload,
    "user": _user,
    "volume": _volume,
    "vpc": _vpc,
    "zone": _zone_of_instance,
}
