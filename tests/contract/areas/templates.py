"""Launching as people do: templates, fleets, spot requests, auto scaling groups."""

from __future__ import annotations

import re
from typing import Any

from tests.contract.rows import UNSUPPORTED, Answer, Refused, Row, Step, row

ERRORS = "AWSEC2/latest/APIReference/errors-overview.html"
SCALING = "autoscaling/ec2/APIReference/API_{}.html"
NONE = "lt-0123456789abcdef0"
DATA = {"ImageId": "$base", "InstanceType": "t4g.small"}


def fleet(says: str, changes: dict[str, Any], expected: Answer | str, then: tuple[Step, ...] = ()) -> Row:
    """An instant fleet of one, of the stage's template."""
    request = {
        "Type": "instant",
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": "$template", "Version": "1"}}],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
        **changes,
    }
    return row("ec2:CreateFleet", says, request, expected, then=then)


def group(says: str, changes: dict[str, Any], expected: Answer | str, then: tuple[Step, ...] = (), before: tuple[Step, ...] = ()) -> Row:  # fmt: skip
    """An auto scaling group of one instance."""
    request = {
        "AutoScalingGroupName": "own",
        "MinSize": 1,
        "MaxSize": 1,
        "AvailabilityZones": ["eu-west-1a"],
        "LaunchTemplate": {"LaunchTemplateId": "$template", "Version": "1"},
        **changes,
    }
    page = SCALING.format("CreateAutoScalingGroup")
    return row("autoscaling:CreateAutoScalingGroup", says, request, expected, page=page, then=then, before=before)


ONE = "Reservations[0].Instances[0]"
WHOLE = Step(
    "ec2:CreateLaunchTemplate",
    {
        "LaunchTemplateName": "whole",
        "LaunchTemplateData": {
            **DATA,
            "IamInstanceProfile": {"Name": "$profile"},
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 3}}],
            "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}],
        },
    },
)
RUNNING = (Step("ec2:DescribeInstances", {}, {"Reservations[0].Instances[0].State.Name": "running"}),)
TEMPLATES = (
    row("ec2:CreateLaunchTemplate", "its first version", {"LaunchTemplateName": "t", "LaunchTemplateData": DATA}, {"LaunchTemplate.LatestVersionNumber": 1, "LaunchTemplate.DefaultVersionNumber": 1}),
    row("ec2:CreateLaunchTemplate", "a name that is taken", {"LaunchTemplateName": "own", "LaunchTemplateData": DATA}, "InvalidLaunchTemplateName.AlreadyExistsException", page=ERRORS, before=(Step("ec2:DescribeLaunchTemplates", {"LaunchTemplateIds": ["$template"]}),)),
    row("ec2:CreateLaunchTemplate", "user data that is not encoded", {"LaunchTemplateName": "t", "LaunchTemplateData": {**DATA, "UserData": "#!/bin/sh !"}}, "InvalidUserData.Malformed", page=ERRORS),
    row("ec2:CreateLaunchTemplateVersion", "a second version", {"LaunchTemplateId": "$template", "LaunchTemplateData": {"InstanceType": "t4g.micro"}, "SourceVersion": "1"}, {"LaunchTemplateVersion.VersionNumber": 2, "LaunchTemplateVersion.LaunchTemplateData.ImageId": "$base"}),
    row("ec2:CreateLaunchTemplateVersion", "of one that does not exist", {"LaunchTemplateId": NONE, "LaunchTemplateData": DATA}, "InvalidLaunchTemplateId.NotFound", page=ERRORS),
    row("ec2:DescribeLaunchTemplates", "one that does not exist", {"LaunchTemplateIds": [NONE]}, "InvalidLaunchTemplateId.NotFound", page=ERRORS),
    row("ec2:DescribeLaunchTemplates", "by a name that does not exist", {"LaunchTemplateNames": ["none"]}, "InvalidLaunchTemplateName.NotFoundException", page=ERRORS),
    row("ec2:DescribeLaunchTemplateVersions", "the latest", {"LaunchTemplateId": "$template", "Versions": ["$$Latest"]}, {"LaunchTemplateVersions[0].VersionNumber": 1}),
    row("ec2:ModifyLaunchTemplate", "another default", {"LaunchTemplateId": "$template", "DefaultVersion": "2"}, {"LaunchTemplate.DefaultVersionNumber": 2}, before=(Step("ec2:CreateLaunchTemplateVersion", {"LaunchTemplateId": "$template", "LaunchTemplateData": DATA}),)),
    row("ec2:DeleteLaunchTemplate", "gone afterwards", {"LaunchTemplateId": "$template"}, {}, then=(Step("ec2:DescribeLaunchTemplates", {}, {"LaunchTemplates": []}),)),
)  # fmt: skip
MANY = (
    fleet("one instance", {}, {"Instances[0].InstanceIds[0]": ..., "FleetId": ...}, RUNNING),
    fleet("spot", {"TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}}, {"Instances[0].Lifecycle": "spot"}, RUNNING),
    fleet("overrides", {"LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": "$template", "Version": "1"}, "Overrides": [{"InstanceType": "t4g.micro"}]}]}, {"Instances[0].InstanceType": "t4g.micro"}),
    fleet("of a template that does not exist", {"LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": NONE, "Version": "1"}}]}, "InvalidLaunchTemplateId.NotFound"),
    row("ec2:RequestSpotInstances", "a request, and its instance", {"InstanceCount": 1, "LaunchSpecification": DATA}, {"SpotInstanceRequests[0].SpotInstanceRequestId": ...}, then=RUNNING),
    row("ec2:RequestSpotInstances", "an image that does not exist", {"LaunchSpecification": {"ImageId": "ami-0123456789abcdef0", "InstanceType": "t4g.small"}}, "InvalidAMIID.NotFound", then=(Step("ec2:DescribeInstances", {}, {"Reservations": []}),)),
    row("ec2:DescribeSpotPriceHistory", "prices", {"InstanceTypes": ["t4g.small"], "MaxResults": 5}, {"SpotPriceHistory[0].InstanceType": "t4g.small"}),
    group("an instance of the template", {}, {}, (Step("ec2:DescribeInstances", {}, {"Reservations[0].Instances[0].State.Name": "running", "Reservations[0].Instances[0].ImageId": "$base"}),)),
    group("all that the template says", {"LaunchTemplate": {"LaunchTemplateName": "whole"}}, {}, (Step("ec2:DescribeInstances", {}, {f"{ONE}.IamInstanceProfile.Arn": "arn:aws:iam::$account:instance-profile/own", f"{ONE}.MetadataOptions.HttpPutResponseHopLimit": 1, f"{ONE}.BlockDeviceMappings[?DeviceName=='/dev/sdf'] | length(@)": 1, f"{ONE}.Tags[?Key=='a'].Value | [0]": "b"}),), before=(WHOLE,)),
    fleet("a type that fits the image", {"LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": "$template", "Version": "1"}, "Overrides": [{"InstanceRequirements": {"VCpuCount": {"Min": 2, "Max": 2}, "MemoryMiB": {"Min": 2048, "Max": 2048}}}]}]}, {"Instances[0].InstanceType": re.compile(r"\w+g\w*\..+")}, RUNNING),
    row("ec2:RequestSpotInstances", "with a price", {"SpotPrice": "0.05", "LaunchSpecification": DATA}, {"SpotInstanceRequests[0].SpotPrice": re.compile(r"0\.05\d*")}, then=RUNNING),
    group("its tags go to the instance", {"Tags": [{"Key": "a", "Value": "b", "PropagateAtLaunch": True}]}, {}, (Step("ec2:DescribeInstances", {}, {"Reservations[0].Instances[0].Tags[?Key=='a'].Value | [0]": "b"}),)),
    group("of a template that does not exist", {"LaunchTemplate": {"LaunchTemplateId": NONE}}, "ValidationError"),
    row("autoscaling:DescribeAutoScalingGroups", "none in a new account", {}, {"AutoScalingGroups": []}, page=SCALING.format("DescribeAutoScalingGroups")),
)  # fmt: skip
LACKING = (
    row("ec2:DescribeFastLaunchImages", "Windows' own", {}, UNSUPPORTED),
    row("ec2:CreateRestoreImageTask", "images in S3", {"Bucket": "b", "ObjectKey": "k"}, UNSUPPORTED),
    row("ec2:ImportImage", "images of other clouds", {}, UNSUPPORTED),
    row("ec2:DescribeInstanceEventWindows", "maintenance", {}, UNSUPPORTED),
    row("ec2-instance-connect:SendSSHPublicKey", "to a machine that does not exist", {"InstanceId": "i-0123456789abcdef0", "InstanceOSUser": "ec2-user", "SSHPublicKey": "ssh-ed25519 AAAA"}, Refused("UnsupportedOperation|EC2InstanceNotFoundException"), page="ec2-instance-connect/latest/APIReference/API_SendSSHPublicKey.html"),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*TEMPLATES, *MANY, *LACKING)
