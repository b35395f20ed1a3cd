"""Launches, and every way to be refused one: a refused launch leaves nothing."""

from __future__ import annotations

import base64
from typing import Any

from tests.contract.rows import UNSUPPORTED, Answer, Refused, Row, Step, row

ERRORS = "AWSEC2/latest/APIReference/errors-overview.html"
LAUNCH = {"ImageId": "$base", "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}
NOTHING: Answer = {"Reservations": []}


def refused(says: str, changes: dict[str, Any], code: str | Refused, page: str = ERRORS, guess: str = "") -> Row:
    """A launch that is refused: no instance is there afterwards, no volume, and the next one is carried out."""
    then = (
        Step("ec2:DescribeInstances", {}, NOTHING),
        Step("ec2:DescribeVolumes", {}, {"Volumes": []}),
        Step("ec2:RunInstances", LAUNCH, {"Instances[0].State.Name": "pending"}),
    )
    return row("ec2:RunInstances", says, {**LAUNCH, **changes}, code, page=page, then=then, guess=guess)


def launched(says: str, changes: dict[str, Any], expected: Answer, then: Answer | None = None, **given: Any) -> Row:
    """A launch, and what is shown of it once it runs."""
    running = {"Reservations[0].Instances[0].State.Name": "running", **(then or {})}
    return row(
        "ec2:RunInstances",
        says,
        {**LAUNCH, **changes},
        expected,
        then=(Step("ec2:DescribeInstances", {}, running),),
        **given,
    )


def disk(**ebs: Any) -> dict[str, Any]:
    """Return the mapping of a data volume."""
    return {"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": ebs}]}


def root(**ebs: Any) -> dict[str, Any]:
    """Return the mapping of the root volume."""
    return {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}]}


def data(text: str) -> dict[str, Any]:
    """Return user data as the API takes it: nothing on the stage encodes it."""
    return {"UserData": base64.b64encode(text.encode()).decode()}


# In the network of the stage's cloud.
FREE = "10.213.7.77"
ONE = "Reservations[0].Instances[0]"
REFUSED = (
    refused("no image is named", {"ImageId": None}, "MissingParameter"),
    refused("an image that does not exist", {"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
    refused("an image's id that is none", {"ImageId": "image"}, "InvalidAMIID.Malformed"),
    refused("a subnet that does not exist", {"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
    refused(
        "a network interface that does not exist",
        {"NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": "eni-0123456789abcdef0"}]},
        "InvalidNetworkInterfaceID.NotFound",
    ),
    refused(
        "a subnet of a network interface that does not exist",
        {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-0123456789abcdef0"}]},
        "InvalidSubnetID.NotFound",
    ),
    refused("a security group that does not exist", {"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
    refused("a key pair that does not exist", {"KeyName": "nobody's"}, "InvalidKeyPair.NotFound"),
    refused("a type that does not exist", {"InstanceType": "t9.huge"}, "InvalidInstanceType"),
    refused("a type of another architecture", {"InstanceType": "t3.small"}, "InvalidParameterValue"),
    refused("an instance profile that does not exist", {"IamInstanceProfile": {"Name": "none"}}, Refused("InvalidParameterValue", "Invalid IAM Instance Profile name")),
    refused("more at least than at most", {"MinCount": 2, "MaxCount": 1}, "InvalidParameterCombination", guess="what EC2 answers to parameters that exclude each other"),
    refused("none at all", {"MinCount": 0, "MaxCount": 0}, "InvalidParameterValue"),
    refused("user data beyond 16 KB", data("x" * 16385), "InvalidParameterValue", "AWSEC2/latest/UserGuide/instancedata-add-user-data.html"),
    refused("user data that is not encoded", {"UserData": "#!/bin/sh !"}, "InvalidParameterValue"),
    refused("io2 without Iops", disk(VolumeSize=4, VolumeType="io2"), "InvalidParameterCombination"),
    refused("io1 without Iops", disk(VolumeSize=4, VolumeType="io1"), "InvalidParameterCombination"),
    refused("a snapshot that does not exist", disk(SnapshotId="snap-0123456789abcdef0"), "InvalidSnapshot.NotFound"),
    refused("a root volume smaller than its snapshot", root(VolumeSize=1), "InvalidBlockDeviceMapping"),
    refused("a volume without size and snapshot", disk(VolumeType="gp3"), "MissingParameter"),
    refused("a volume beyond its type's size", disk(VolumeSize=70000, VolumeType="gp3"), "InvalidParameterValue"),
    refused("a volume type that does not exist", disk(VolumeSize=1, VolumeType="gp9"), "UnknownVolumeType", guess="seen in answers of EC2's that users quote"),
    refused("gp2 with Iops", disk(VolumeSize=1, VolumeType="gp2", Iops=3000), "InvalidParameterCombination"),
    refused("a zone that does not exist", {"Placement": {"AvailabilityZone": "eu-west-1z"}}, "InvalidParameterValue"),
    refused(
        "a launch template that does not exist",
        {"LaunchTemplate": {"LaunchTemplateId": "lt-0123456789abcdef0"}},
        "InvalidLaunchTemplateId.NotFound",
    ),
    refused(
        "a launch template's version that does not exist",
        {"LaunchTemplate": {"LaunchTemplateId": "$template", "Version": "7"}},
        "InvalidLaunchTemplateId.VersionNotFound",
    ),
    refused("credits of a type without them", {"InstanceType": "m7g.medium", "CreditSpecification": {"CpuCredits": "unlimited"}}, "InstanceCreditSpecification.NotSupported"),
    refused("an address outside of the subnet", {"PrivateIpAddress": "192.0.2.7"}, "InvalidParameterValue"),
    refused("an address that no machine here can have", {"SubnetId": "$subnet", "PrivateIpAddress": "172.31.0.77"}, UNSUPPORTED),
    refused("a parameter of SSM that does not exist", {"ImageId": "resolve:ssm:/nothing"}, "SsmInvalidParameter", "AWSEC2/latest/UserGuide/using-systems-manager-parameter-to-find-AMI.html", guess="seen in answers of EC2's that users quote"),
    refused("tags for a kind that a launch does not make", {"TagSpecifications": [{"ResourceType": "vpc", "Tags": [{"Key": "a", "Value": "b"}]}]}, "InvalidParameterValue"),
    refused("a dry run says so", {"DryRun": True}, "DryRunOperation"),
    row("ec2:RunInstances", "an image that was deregistered", {**LAUNCH, "ImageId": "$deregistered"}, "InvalidAMIID.NotFound", page=ERRORS),
    row(
        "ec2:RunInstances", "a client token with other parameters", {**LAUNCH, "ClientToken": "once", "InstanceType": "t4g.micro"},
        "IdempotentParameterMismatch", page="ec2/latest/devguide/ec2-api-idempotency.html",
        before=(Step("ec2:RunInstances", {**LAUNCH, "ClientToken": "once"}),),
    ),
    row("ec2:RunInstances", "nobody may", LAUNCH, "UnauthorizedOperation", caller="$nobody"),
    row("ec2:RunInstances", "a key that no account has", LAUNCH, "AuthFailure", caller="$stranger"),
    row("ec2:RunInstances", "an interface on an instance already", {**LAUNCH, "NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": "$eni"}]}, "InvalidNetworkInterface.InUse", page=ERRORS, before=(Step("ec2:AttachNetworkInterface", {"NetworkInterfaceId": "$eni", "InstanceId": "$instance", "DeviceIndex": 1}),)),
)  # fmt: skip
CARRIED_OUT = (
    launched("pending, then running", {}, {"Instances[0].State.Name": "pending", "Instances[0].State.Code": 0, "Instances[0].LaunchTime": ...}),
    launched(
        "a client token again is the same launch", {"ClientToken": "once"}, {"Instances[0].InstanceId": "$first"},
        {"length(Reservations)": 1}, before=(Step("ec2:RunInstances", {**LAUNCH, "ClientToken": "once"}, keep={"first": "Instances[0].InstanceId"}),),
    ),
    launched("as many as at most", {"MaxCount": 2}, {"length(Instances)": 2}),
    launched("a data volume of gp3 keeps Iops and throughput", disk(VolumeSize=8, VolumeType="gp3", Iops=4000, Throughput=200), {}, {f"{ONE}.BlockDeviceMappings[1].DeviceName": "/dev/sdf"}),
    row("ec2:RunInstances", "a data volume of gp3 has its Iops and its throughput", {**LAUNCH, **disk(VolumeSize=9, VolumeType="gp3", Iops=4000, Throughput=200)}, {}, then=(Step("ec2:DescribeVolumes", {"Filters": [{"Name": "size", "Values": ["9"]}]}, {"Volumes[0].Iops": 4000, "Volumes[0].Throughput": 200, "Volumes[0].VolumeType": "gp3"}),)),
    row("ec2:RunInstances", "a data volume of io2 has its Iops", {**LAUNCH, **disk(VolumeSize=9, VolumeType="io2", Iops=500)}, {}, then=(Step("ec2:DescribeVolumes", {"Filters": [{"Name": "size", "Values": ["9"]}]}, {"Volumes[0].Iops": 500, "Volumes[0].VolumeType": "io2"}),)),
    launched(
        "the private address that is asked for", {"SubnetId": "$here", "PrivateIpAddress": FREE}, {"Instances[0].PrivateIpAddress": FREE}, {f"{ONE}.PrivateIpAddress": FREE},
        before=(Step("ec2:CreateVpc", {"CidrBlock": "10.213.7.0/24"}, keep={"network": "Vpc.VpcId"}), Step("ec2:CreateSubnet", {"VpcId": "$network", "CidrBlock": "10.213.7.0/24"}, keep={"here": "Subnet.SubnetId"})),
    ),
    launched("a launch template's second version", {"ImageId": None, "InstanceType": None, "LaunchTemplate": {"LaunchTemplateId": "$template", "Version": "2"}}, {"Instances[0].InstanceType": "t4g.micro"}, before=(Step("ec2:CreateLaunchTemplateVersion", {"LaunchTemplateId": "$template", "SourceVersion": "1", "LaunchTemplateData": {"InstanceType": "t4g.micro"}}),)),
    launched("a root volume as large as asked for", root(VolumeSize=20), {}, {f"{ONE}.RootDeviceName": "/dev/xvda"}),
    launched("metadata options", {"MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "InstanceMetadataTags": "enabled"}}, {"Instances[0].MetadataOptions.HttpTokens": "required"}, {f"{ONE}.MetadataOptions.HttpPutResponseHopLimit": 1, f"{ONE}.MetadataOptions.InstanceMetadataTags": "enabled"}),
    launched("an instance profile", {"IamInstanceProfile": {"Name": "$profile"}}, {"Instances[0].IamInstanceProfile.Arn": "arn:aws:iam::$account:instance-profile/own"}),
    launched("tags", {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]}, {"Instances[0].Tags": [{"Key": "a", "Value": "b"}]}),
    launched("a launch template", {"ImageId": None, "InstanceType": None, "LaunchTemplate": {"LaunchTemplateId": "$template"}}, {"Instances[0].ImageId": "$base", "Instances[0].InstanceType": "t4g.small"}),
    launched("a launch template, with another type", {"ImageId": None, "InstanceType": "t4g.micro", "LaunchTemplate": {"LaunchTemplateName": "own", "Version": "$$Latest"}}, {"Instances[0].InstanceType": "t4g.micro"}, before=(Step("ec2:DescribeLaunchTemplates", {"LaunchTemplateIds": ["$template"]}),)),
    launched("no public address where none is asked for", {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "$subnet", "AssociatePublicIpAddress": False}]}, {}, {f"{ONE}.PublicIpAddress": None}),
    launched("a public address while it runs", {}, {"Instances[0].PublicIpAddress": None}, {f"{ONE}.PublicIpAddress": ...}),
    launched(
        "an image that a parameter of SSM names", {"ImageId": "resolve:ssm:/contract/image"}, {"Instances[0].ImageId": "$base"},
        page="AWSEC2/latest/UserGuide/using-systems-manager-parameter-to-find-AMI.html",
        before=(Step("ssm:PutParameter", {"Name": "/contract/image", "Value": "$base", "Type": "String", "DataType": "aws:ec2:image"}),),
    ),
)  # fmt: skip
ROWS = (*REFUSED, *CARRIED_OUT)
