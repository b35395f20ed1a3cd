"""Images: made, registered, copied, shown, shared, deprecated, disabled, protected, deregistered."""

from __future__ import annotations

import re
from typing import Any

from tests.contract.rows import Answer, Refused, Row, Step, row

ERRORS = "AWSEC2/latest/APIReference/errors-overview.html"
NONE = "ami-0123456789abcdef0"
IMAGE = {"ImageId": "$image"}
OWN = {"Owners": ["self"]}
AT = "2030-01-01T00:00:00.000Z"
ELSEWHERE = "eu-central-1"


def of_unknown(operation: str, **request: Any) -> Row:
    """An operation on an image that does not exist."""
    return row(f"ec2:{operation}", "an image that does not exist", {"ImageId": NONE, **request}, "InvalidAMIID.NotFound", page=ERRORS)  # fmt: skip


def of_gone(operation: str, **request: Any) -> Row:
    """An operation on an image that was deregistered."""
    given = {"ImageId": "$deregistered", **request}
    return row(f"ec2:{operation}", "an image that was deregistered", given, "InvalidAMIID.NotFound", page=ERRORS)


def of_amazons(operation: str, code: str, **request: Any) -> Row:
    """An operation on an image of Amazon's."""
    return row(f"ec2:{operation}", "an image of somebody else's", {"ImageId": "$base", **request}, code)


def created(says: str, request: dict[str, Any], expected: Answer | str, **given: Any) -> Row:
    """CreateImage of a running instance."""
    return row("ec2:CreateImage", says, {"InstanceId": "$instance", "Name": "made", "NoReboot": True, **request}, expected, **given)  # fmt: skip


def own(*steps: tuple[str, Any]) -> tuple[Step, ...]:
    """See of the only own image what is given."""
    return (Step("ec2:DescribeImages", OWN, {f"Images[0].{name}": value for name, value in steps}),)


def found(says: str, request: dict[str, Any], count: int = 1, **given: Any) -> Row:
    """DescribeImages, with one own image there."""
    before = (Step("ec2:DescribeImages", {"ImageIds": ["$image"]}), *given.pop("before", ()))
    return row("ec2:DescribeImages", says, request, {"length(Images)": count}, before=before, **given)


def filtered(says: str, name: str, value: str, count: int = 1) -> Row:
    """A filter of DescribeImages among one's own."""
    return found(says, {**OWN, "Filters": [{"Name": name, "Values": [value]}]}, count)


TAGS = [{"Key": "a", "Value": "b"}]
CREATED = (
    created("pending, then available", {}, {"ImageId": ...}, then=own(("State", "available"), ("OwnerId", "$account"), ("Architecture", "arm64"), ("RootDeviceName", "/dev/xvda"))),
    created("tags of image and snapshot", {"TagSpecifications": [{"ResourceType": "image", "Tags": TAGS}, {"ResourceType": "snapshot", "Tags": TAGS}]}, {"ImageId": ...}, then=(*own(("Tags", TAGS)), Step("ec2:DescribeSnapshots", {"OwnerIds": ["self"]}, {"Snapshots[0].Tags": TAGS}))),
    created("tags of something else", {"TagSpecifications": [{"ResourceType": "instance", "Tags": TAGS}]}, "InvalidParameterValue"),
    created("a name that is taken", {"Name": "own"}, "InvalidAMIName.Duplicate", before=(Step("ec2:DescribeImages", {"ImageIds": ["$image"]}),), page=ERRORS),
    created("a name that is too short", {"Name": "x"}, "InvalidAMIName.Malformed", page=ERRORS),
    created("a name with other letters", {"Name": "own*image"}, "InvalidAMIName.Malformed", page=ERRORS),
    created("every attached volume is in it", {}, {"ImageId": ...}, before=(Step("ec2:DescribeVolumes", {"VolumeIds": ["$attached"]}),), then=own(("BlockDeviceMappings[?DeviceName=='/dev/sdf'].Ebs.VolumeSize | [0]", 2), ("State", "available"))),
    created("the instance runs on", {"NoReboot": False}, {"ImageId": ...}, then=(*own(("State", "available")), Step("ec2:DescribeInstances", {}, {"Reservations[0].Instances[0].State.Name": "running"}))),
    created("a dry run", {"DryRun": True}, "DryRunOperation"),
    row("ec2:CreateImage", "of a terminated instance", {"InstanceId": "$terminated", "Name": "made"}, "IncorrectInstanceState", page=ERRORS),
    row("ec2:CreateImage", "a snapshot names the volume that it is of", {"InstanceId": "$instance", "Name": "made", "NoReboot": True}, {}, then=(Step("ec2:DescribeSnapshots", {"OwnerIds": ["self"]}, {"Snapshots[0].VolumeId": "$root"}),)),
    row("ec2:RegisterImage", "of a snapshot", {"Name": "registered", "Architecture": "arm64", "RootDeviceName": "/dev/sda1", "VirtualizationType": "hvm", "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "$snapshot"}}], "TagSpecifications": [{"ResourceType": "image", "Tags": TAGS}]}, {"ImageId": ...}, then=own(("Architecture", "arm64"), ("RootDeviceName", "/dev/sda1"), ("BlockDeviceMappings[0].Ebs.SnapshotId", "$snapshot"), ("Tags", TAGS))),
    row("ec2:RegisterImage", "a name that is taken", {"Name": "own", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "$snapshot"}}]}, "InvalidAMIName.Duplicate", page=ERRORS, before=(Step("ec2:DescribeImages", {"ImageIds": ["$image"]}),)),
    row("ec2:RegisterImage", "of a snapshot that does not exist", {"Name": "registered", "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-0123456789abcdef0"}}]}, "InvalidSnapshot.NotFound", page=ERRORS),
    row("ec2:CopyImage", "to another region", {"Name": "copy", "SourceImageId": "$image", "SourceRegion": "eu-west-1"}, {"ImageId": ...}, region=ELSEWHERE, then=(Step("ec2:DescribeImages", OWN, {"Images[0].State": "available", "Images[0].SourceImageId": "$image", "Images[0].SourceImageRegion": "eu-west-1"}, region=ELSEWHERE),)),
    row("ec2:CopyImage", "with the image's tags", {"Name": "copy", "SourceImageId": "$image", "SourceRegion": "eu-west-1", "CopyImageTags": True}, {}, region=ELSEWHERE, before=(Step("ec2:CreateTags", {"Resources": ["$image"], "Tags": TAGS}),), then=(Step("ec2:DescribeImages", OWN, {"Images[0].Tags": TAGS}, region=ELSEWHERE),)),
    row("ec2:CopyImage", "one that does not exist", {"Name": "copy", "SourceImageId": NONE, "SourceRegion": "eu-west-1"}, "InvalidAMIID.NotFound", region=ELSEWHERE, page=ERRORS),
)  # fmt: skip
SHOWN = (
    found("one's own", OWN),
    found("by id", {"ImageIds": ["$image"]}),
    found("those of an account by its number", {"Owners": ["$account"]}),
    found("Amazon's", {"Owners": ["amazon"]}),
    found("those of an account that has none", {"Owners": ["111122223333"]}, 0),
    found("that one may launch oneself", {"ExecutableUsers": ["self"]}, 0),
    found("that everybody may launch", {**OWN, "ExecutableUsers": ["all"]}, 0),
    found("a deprecated one is shown to its owner", OWN, before=(Step("ec2:EnableImageDeprecation", {**IMAGE, "DeprecateAt": AT}),)),
    found("a deprecated one when asked for", {**OWN, "IncludeDeprecated": True}, before=(Step("ec2:EnableImageDeprecation", {**IMAGE, "DeprecateAt": AT}),)),
    found("that one named account may launch", {**OWN, "ExecutableUsers": ["111122223333"]}, before=(Step("ec2:ModifyImageAttribute", {**IMAGE, "LaunchPermission": {"Add": [{"UserId": "111122223333"}]}}),)),
    found("a disabled one is left out", OWN, 0, before=(Step("ec2:DisableImage", IMAGE),)),
    found("a disabled one when asked for", {**OWN, "IncludeDisabled": True}, before=(Step("ec2:DisableImage", IMAGE),)),
    filtered("by name, with wildcards", "name", "o?n*"),
    filtered("by state", "state", "available"),
    filtered("by date, with wildcards", "creation-date", "20*"),
    filtered("by a date long ago", "creation-date", "2001-*", 0),
    filtered("by architecture", "architecture", "arm64"),
    filtered("by the image that it is of", "source-image-id", "$base", 1),
    filtered("by a device's name", "block-device-mapping.device-name", "/dev/xvda"),
    filtered("by a volume's type", "block-device-mapping.volume-type", "gp3"),
    filtered("by a volume's size", "block-device-mapping.volume-size", "8"),
    filtered("by its snapshot", "block-device-mapping.snapshot-id", "$image_snapshot"),
    filtered("by a tag it has not", "tag:kind", "x", 0),
    filtered("by the root device's name", "root-device-name", "/dev/xvda"),
    row("ec2:DescribeImages", "one that does not exist", {"ImageIds": [NONE]}, "InvalidAMIID.NotFound", page=ERRORS),
    row("ec2:DescribeImages", "an id that is none", {"ImageIds": ["image"]}, "InvalidAMIID.Malformed", page=ERRORS),
    row("ec2:DescribeImages", "one that was deregistered", {"ImageIds": ["$deregistered"]}, "InvalidAMIID.NotFound", page=ERRORS),
    row("ec2:DescribeImages", "a filter that does not exist", {"Filters": [{"Name": "colour", "Values": ["red"]}]}, "InvalidParameterValue", page=ERRORS),
    row("ec2:DescribeImages", "a token that is none", {"NextToken": "garbage", "MaxResults": 5}, "InvalidNextToken", page=ERRORS),
    row("ec2:DescribeImages", "the base image is Amazon's", {"ImageIds": ["$base"]}, {"Images[0].OwnerId": "137112412989", "Images[0].ImageOwnerAlias": "amazon", "Images[0].Public": True}),
    row("ec2:DescribeImages", "a page at a time", {"MaxResults": 5}, {"length(Images)": 1, "NextToken": None}),
)  # fmt: skip
CHANGED = (
    row("ec2:ModifyImageAttribute", "shared", {**IMAGE, "LaunchPermission": {"Add": [{"UserId": "111122223333"}]}}, {}, then=(Step("ec2:DescribeImageAttribute", {**IMAGE, "Attribute": "launchPermission"}, {"LaunchPermissions[0].UserId": "111122223333"}),)),
    row("ec2:ModifyImageAttribute", "two changes: both or a refusal", {**IMAGE, "Description": {"Value": "changed"}, "LaunchPermission": {"Add": [{"UserId": "111122223333"}]}}, {}, then=(*own(("Description", "changed")), Step("ec2:DescribeImageAttribute", {**IMAGE, "Attribute": "launchPermission"}, {"LaunchPermissions[0].UserId": "111122223333"}))),
    row("ec2:ModifyImageAttribute", "shared with what is no account", {**IMAGE, "LaunchPermission": {"Add": [{"UserId": "me"}]}}, "InvalidAMIAttributeItemValue", page=ERRORS),
    row("ec2:ModifyImageAttribute", "public while that is blocked", {**IMAGE, "LaunchPermission": {"Add": [{"Group": "all"}]}}, "OperationNotPermitted", page="AWSEC2/latest/UserGuide/block-public-access-to-amis.html", before=(Step("ec2:EnableImageBlockPublicAccess", {"ImageBlockPublicAccessState": "block-new-sharing"}),)),
    row("ec2:DescribeImageAttribute", "when it was last launched", {**IMAGE, "Attribute": "lastLaunchedTime"}, {"LastLaunchedTime.Value": re.compile(r"\d{4}-\d\d-\d\dT.*Z")}, before=(Step("ec2:RunInstances", {**IMAGE, "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}),), page="AWSEC2/latest/UserGuide/ami-last-launched-time.html"),
    row("ec2:DescribeImageAttribute", "when one that was never launched was last launched", {**IMAGE, "Attribute": "lastLaunchedTime"}, {"LastLaunchedTime.Value": None}, page="AWSEC2/latest/UserGuide/ami-last-launched-time.html"),
    row("ec2:DescribeImageAttribute", "its description", {**IMAGE, "Attribute": "description"}, {"ImageId": "$image"}),
    row("ec2:DescribeImageAttribute", "of somebody else's", {"ImageId": "$base", "Attribute": "launchPermission"}, "AuthFailure", page=ERRORS),
    row("ec2:EnableImageDeprecation", "from then on", {**IMAGE, "DeprecateAt": AT}, {"Return": True}, then=own(("DeprecationTime", AT))),
    row("ec2:EnableImageDeprecation", "a time that has passed", {**IMAGE, "DeprecateAt": "2001-01-01T00:00:00.000Z"}, "InvalidParameterValue"),
    row("ec2:DisableImageDeprecation", "no more", IMAGE, {"Return": True}, before=(Step("ec2:EnableImageDeprecation", {**IMAGE, "DeprecateAt": AT}),), then=own(("DeprecationTime", None))),
    row("ec2:DisableImage", "disabled", IMAGE, {"Return": True}, then=(Step("ec2:DescribeImages", {**OWN, "IncludeDisabled": True}, {"Images[0].State": "disabled"}),)),
    row("ec2:EnableImage", "available again", IMAGE, {"Return": True}, before=(Step("ec2:DisableImage", IMAGE),), then=own(("State", "available"))),
    row("ec2:RunInstances", "of a disabled image", {**IMAGE, "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}, "InvalidAMIID.Unavailable", before=(Step("ec2:DisableImage", IMAGE),), page="AWSEC2/latest/UserGuide/disable-an-ami.html"),
    row("ec2:EnableImageDeregistrationProtection", "can't be deregistered", IMAGE, {"Return": "enabled-without-cooldown"}, then=(Step("ec2:DeregisterImage", IMAGE, Refused("OperationNotPermitted")),)),
    row("ec2:EnableImageDeregistrationProtection", "with its cool-down", {**IMAGE, "WithCooldown": True}, {"Return": "enabled-with-cooldown"}, then=own(("DeregistrationProtection", "enabled-with-cooldown"))),
    row("ec2:DisableImageDeregistrationProtection", "can be again", IMAGE, {"Return": "disabled"}, before=(Step("ec2:EnableImageDeregistrationProtection", IMAGE),), then=(Step("ec2:DeregisterImage", IMAGE),)),
    row("ec2:DisableImageDeregistrationProtection", "not within the cool-down", IMAGE, {}, before=(Step("ec2:EnableImageDeregistrationProtection", {**IMAGE, "WithCooldown": True}),), then=(Step("ec2:DeregisterImage", IMAGE, Refused("OperationNotPermitted")),), page="AWSEC2/latest/UserGuide/ami-deregistration-protection.html"),
    row("ec2:DescribeImageReferences", "the instances that use it", {"ImageIds": ["$base"], "IncludeAllResourceTypes": True}, {"ImageReferences[0].Arn": "arn:aws:ec2:eu-west-1:$account:instance/$instance"}, before=(Step("ec2:DescribeInstances", {"InstanceIds": ["$instance"]}),)),
    row("ec2:GetImageBlockPublicAccessState", "of a new account", {}, {"ImageBlockPublicAccessState": "block-new-sharing"}),
    row("ec2:EnableImageBlockPublicAccess", "blocked", {"ImageBlockPublicAccessState": "block-new-sharing"}, {"ImageBlockPublicAccessState": "block-new-sharing"}, then=(Step("ec2:GetImageBlockPublicAccessState", {}, {"ImageBlockPublicAccessState": "block-new-sharing"}),)),
    row("ec2:DisableImageBlockPublicAccess", "unblocked", {}, {"ImageBlockPublicAccessState": "unblocked"}, then=(Step("ec2:GetImageBlockPublicAccessState", {}, {"ImageBlockPublicAccessState": "unblocked"}),)),
    row("ec2:DeregisterImage", "its snapshot stays", IMAGE, {"Return": True}, then=(Step("ec2:DescribeImages", {"ImageIds": ["$image"]}, Refused("InvalidAMIID.NotFound")), Step("ec2:DescribeSnapshots", {"SnapshotIds": ["$image_snapshot"]}, {"Snapshots[0].State": "completed"}))),
    row("ec2:DeregisterImage", "with its snapshot", {**IMAGE, "DeleteAssociatedSnapshots": True}, {"DeleteSnapshotResults[0].ReturnCode": "success"}, then=(Step("ec2:DescribeSnapshots", {"OwnerIds": ["self"]}, {"Snapshots": []}),)),
    of_unknown("DeregisterImage"),
    row("ec2:DeregisterImage", "an image that was deregistered", {"ImageId": "$deregistered"}, "InvalidAMIID.Unavailable", page=ERRORS),
    of_unknown("ModifyImageAttribute", Description={"Value": "x"}),
    of_gone("ModifyImageAttribute", Description={"Value": "x"}),
    of_gone("DescribeImageAttribute", Attribute="description"),
    of_gone("EnableImageDeprecation", DeprecateAt=AT),
    of_gone("DisableImage"),
    of_gone("EnableImageDeregistrationProtection"),
    of_unknown("EnableImage"),
    of_unknown("DisableImageDeprecation"),
    row("ec2:CopyImage", "one that was deregistered", {"Name": "copy", "SourceImageId": "$deregistered", "SourceRegion": "eu-west-1"}, "InvalidAMIID.NotFound", page=ERRORS),
    of_amazons("DeregisterImage", "AuthFailure"),
    of_amazons("ModifyImageAttribute", "AuthFailure", Description={"Value": "x"}),
    of_amazons("DisableImage", "AuthFailure"),
    of_amazons("EnableImageDeprecation", "AuthFailure", DeprecateAt=AT),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*CREATED, *SHOWN, *CHANGED)
