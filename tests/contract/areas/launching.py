"""Who may launch: by a parameter of SSM, with a role, through a template, a fleet, a spot request, a group."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.rows import Answer, Refused, Row, Step, row

LAUNCH = {"InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}
OWN = {"ImageId": "$base", **LAUNCH}
BY_NAME = {"ImageId": "resolve:ssm:/contract/image", **LAUNCH}
BY_TEMPLATE = {"LaunchTemplate": {"LaunchTemplateName": "with"}, "MinCount": 1, "MaxCount": 1}
PROFILE = {"IamInstanceProfile": {"Name": "$profile"}}
NAMED = "AWSEC2/latest/UserGuide/using-systems-manager-parameter-to-find-AMI.html"
PASSED = "AWSEC2/latest/UserGuide/permission-to-pass-iam-roles.html"
FLEET = {
    "Type": "instant",
    "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateName": "with", "Version": "1"}}],
    "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
}
GROUP = {
    "AutoScalingGroupName": "own",
    "MinSize": 1,
    "MaxSize": 1,
    "AvailabilityZones": ["eu-west-1a"],
    "LaunchTemplate": {"LaunchTemplateName": "with", "Version": "1"},
}


def may(*actions: str) -> Step:
    """Let the user whom nothing else is allowed do this."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return Step("iam:PutUserPolicy", {"UserName": "$user", "PolicyName": "p", "PolicyDocument": policy})


def template(**data: Any) -> Step:
    """A launch template `with` what is given."""
    whole = {"ImageId": "$base", "InstanceType": "t4g.small", **data}
    return Step("ec2:CreateLaunchTemplate", {"LaunchTemplateName": "with", "LaunchTemplateData": whole})


def parameter() -> Step:
    """The parameter that names the base image."""
    given = {"Name": "/contract/image", "Value": "$base", "Type": "String", "DataType": "aws:ec2:image"}
    return Step("ssm:PutParameter", given)


def asked(operation: str, says: str, request: dict[str, Any], expected: Answer | Refused, *before: Step, page: str = PASSED) -> Row:  # fmt: skip
    """A call of who may do what `before` lets."""
    return row(operation, says, request, expected, before=before, caller="$nobody", page=page)


def denied(action: str, code: str = "UnauthorizedOperation") -> Refused:
    """A refusal that names the action."""
    return Refused(code, f"not authorized to perform: {action}")


READ, PASS = denied("ssm:GetParameters"), denied("iam:PassRole")
MADE: Answer = {"Instances[0].InstanceId": ...}
ROWS: tuple[Row, ...] = (
    asked("ec2:RunInstances", "by a parameter that may not be read", BY_NAME, READ, may("ec2:*"), parameter(), page=NAMED),
    asked("ec2:RunInstances", "by a parameter that may be read", BY_NAME, MADE, may("ec2:*", "ssm:GetParameters"), parameter(), page=NAMED),
    asked("ec2:RunInstances", "by a template's parameter that may not be read", BY_TEMPLATE, READ, may("ec2:*"), parameter(), template(ImageId="resolve:ssm:/contract/image"), page=NAMED),
    asked("ec2:RunInstances", "with a role that may not be passed", {**OWN, **PROFILE}, PASS, may("ec2:*")),
    asked("ec2:RunInstances", "with a role that may be passed", {**OWN, **PROFILE}, MADE, may("ec2:*", "iam:PassRole")),
    asked("ec2:RunInstances", "with a template's role that may not be passed", BY_TEMPLATE, PASS, may("ec2:*"), template(**PROFILE)),
    asked("ec2:RunInstances", "with a template's role that may be passed", BY_TEMPLATE, MADE, may("ec2:*", "iam:PassRole"), template(**PROFILE)),
    asked("ec2:CreateFleet", "with a template's role that may not be passed", FLEET, PASS, may("ec2:*"), template(**PROFILE)),
    asked("ec2:CreateFleet", "with a template's role that may be passed", FLEET, {"Instances[0].InstanceIds[0]": ...}, may("ec2:*", "iam:PassRole"), template(**PROFILE)),
    asked("ec2:CreateFleet", "of who may launch nothing", FLEET, denied("ec2:RunInstances"), may("ec2:CreateFleet"), template()),
    asked("ec2:RequestSpotInstances", "with a role that may not be passed", {"LaunchSpecification": {"ImageId": "$base", "InstanceType": "t4g.small", **PROFILE}}, PASS, may("ec2:*")),
    asked("autoscaling:CreateAutoScalingGroup", "with a template's role that may not be passed", GROUP, denied("iam:PassRole", "AccessDenied"), may("ec2:*", "autoscaling:*"), template(**PROFILE), page="autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html"),
    asked("autoscaling:CreateAutoScalingGroup", "of who may launch nothing", GROUP, denied("ec2:RunInstances", "AccessDenied"), may("autoscaling:*"), template(), page="autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html"),
    asked("autoscaling:CreateAutoScalingGroup", "with a template's role that may be passed", GROUP, {}, may("ec2:*", "autoscaling:*", "iam:PassRole"), template(**PROFILE), page="autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html"),
)  # fmt: skip
