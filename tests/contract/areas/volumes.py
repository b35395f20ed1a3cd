"""Volumes and snapshots: sizes, types, attaching, what is refused."""

from __future__ import annotations

from typing import Any

from tests.contract.rows import Answer, Refused, Row, Step, row

ERRORS = "AWSEC2/latest/APIReference/errors-overview.html"
TYPES = "ebs/latest/userguide/ebs-volume-types.html"
NONE = "vol-0123456789abcdef0"
NO_SNAPSHOT = "snap-0123456789abcdef0"
ZONE = {"AvailabilityZone": "eu-west-1a"}


def created(says: str, request: dict[str, Any], expected: Answer | str, page: str = TYPES) -> Row:
    """A volume's creation; a refused one leaves nothing."""
    then = (Step("ec2:DescribeVolumes", {}, {"Volumes": []}),) if isinstance(expected, str) else ()
    return row("ec2:CreateVolume", says, {**ZONE, **request}, expected, page=page, then=then)


def modified(says: str, request: dict[str, Any], expected: Answer | str, **given: Any) -> Row:
    """A volume's modification."""
    return row("ec2:ModifyVolume", says, {"VolumeId": "$volume", **request}, expected, **given)


def of_unknown(operation: str, code: str = "InvalidVolume.NotFound", **request: Any) -> Row:
    """An operation on what does not exist."""
    says = "a snapshot that does not exist" if "Snapshot" in code else "a volume that does not exist"
    return row(f"ec2:{operation}", says, request, code, page=ERRORS)


CREATED = (
    created("of gp3", {"Size": 4, "VolumeType": "gp3"}, {"Size": 4, "VolumeType": "gp3", "Iops": 3000, "Throughput": 125, "State": "creating"}),
    created("of gp3 with more", {"Size": 20, "VolumeType": "gp3", "Iops": 4000, "Throughput": 250}, {"Iops": 4000, "Throughput": 250}),
    created("of io2", {"Size": 4, "VolumeType": "io2", "Iops": 200}, {"Iops": 200, "VolumeType": "io2"}),
    created("of io1", {"Size": 4, "VolumeType": "io1", "Iops": 200}, {"Iops": 200}),
    created("gp2 where nothing is said", {"Size": 4}, {"VolumeType": "gp2", "Iops": 100}),
    created("of a snapshot, as large", {"SnapshotId": "$snapshot", "Size": None}, {"Size": 2, "SnapshotId": "$snapshot"}),
    created("with tags", {"Size": 1, "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]}, {"Tags": [{"Key": "a", "Value": "b"}]}),
    created("encrypted by the account's default key", {"Size": 1, "Encrypted": True}, {"Encrypted": True, "starts_with(KmsKeyId, 'arn:aws:kms:eu-west-1:')": True}),
    created("without size and snapshot", {}, "MissingParameter", ERRORS),
    created("without a zone", {"AvailabilityZone": None, "Size": 1}, "MissingParameter", ERRORS),
    created("in a zone that does not exist", {"AvailabilityZone": "eu-west-1z", "Size": 1}, "InvalidZone.NotFound", ERRORS),
    created("of no size", {"Size": 0}, "InvalidParameterValue"),
    created("beyond gp3's size", {"Size": 70000, "VolumeType": "gp3"}, "InvalidParameterValue"),
    created("below st1's size", {"Size": 1, "VolumeType": "st1"}, "InvalidParameterValue"),
    created("of a type that does not exist", {"Size": 1, "VolumeType": "gp9"}, "UnknownVolumeType"),
    created("io2 without Iops", {"Size": 4, "VolumeType": "io2"}, "InvalidParameterCombination", ERRORS),
    created("gp2 with Iops", {"Size": 4, "VolumeType": "gp2", "Iops": 300}, "InvalidParameterCombination", ERRORS),
    created("io2 with more Iops than its size may have", {"Size": 4, "VolumeType": "io2", "Iops": 40000}, "InvalidParameterValue"),
    created("of a snapshot that does not exist", {"SnapshotId": NO_SNAPSHOT}, "InvalidSnapshot.NotFound", ERRORS),
    row("ec2:CreateVolume", "smaller than its snapshot", {**ZONE, "SnapshotId": "$snapshot", "Size": 1}, "InvalidParameterValue"),
    row("ec2:CreateVolume", "a dry run", {**ZONE, "Size": 1, "DryRun": True}, "DryRunOperation"),
)  # fmt: skip
CHANGED = (
    row("ec2:DescribeVolumes", "what every volume says, of no snapshot too", {"VolumeIds": ["$volume"]}, {"Volumes[0].SnapshotId": "", "Volumes[0].MultiAttachEnabled": False}),
    modified("larger", {"Size": 5}, {"VolumeModification.TargetSize": 5, "VolumeModification.OriginalSize": 2}, then=(Step("ec2:DescribeVolumes", {"VolumeIds": ["$volume"]}, {"Volumes[0].Size": 5}),)),
    modified("smaller", {"Size": 1}, "InvalidParameterValue", then=(Step("ec2:DescribeVolumes", {"VolumeIds": ["$volume"]}, {"Volumes[0].Size": 2}),)),
    modified("one modification at a time", {"Size": 6}, "IncorrectModificationState", before=(Step("ec2:ModifyVolume", {"VolumeId": "$volume", "Size": 5}),), page="ebs/latest/userguide/ebs-modify-volume.html"),
    modified("to a type that does not exist", {"VolumeType": "gp9"}, "UnknownVolumeType"),
    modified("more Iops", {"Size": 8, "Iops": 3500}, {"VolumeModification.TargetIops": 3500}),
    of_unknown("ModifyVolume", VolumeId=NONE, Size=5),
    row("ec2:DescribeVolumesModifications", "what was modified", {"VolumeIds": ["$volume"]}, {"VolumesModifications[0].TargetSize": 5}, before=(Step("ec2:ModifyVolume", {"VolumeId": "$volume", "Size": 5}),)),
)  # fmt: skip
ATTACHED = (
    row("ec2:AttachVolume", "attached", {"VolumeId": "$volume", "InstanceId": "$instance", "Device": "/dev/sdf"}, {"State": "attaching"}, before=(Step("ec2:DescribeInstances", {"InstanceIds": ["$instance"]}, {"Reservations[0].Instances[0].Placement.AvailabilityZone": "eu-west-1a"}),), then=(Step("ec2:DescribeVolumes", {"VolumeIds": ["$volume"]}, {"Volumes[0].State": "in-use", "Volumes[0].Attachments[0].State": "attached"}),)),
    row("ec2:AttachVolume", "a second time", {"VolumeId": "$attached", "InstanceId": "$instance", "Device": "/dev/sdg"}, "VolumeInUse", page=ERRORS),
    row("ec2:AttachVolume", "where another is", {"VolumeId": "$volume", "InstanceId": "$instance", "Device": "/dev/xvda"}, Refused("InvalidParameterValue", "in use"), page=ERRORS),
    row("ec2:AttachVolume", "a device's name that is none", {"VolumeId": "$volume", "InstanceId": "$instance", "Device": "disk"}, "InvalidParameterValue", page="AWSEC2/latest/UserGuide/device_naming.html"),
    row("ec2:AttachVolume", "to a terminated instance", {"VolumeId": "$volume", "InstanceId": "$terminated", "Device": "/dev/sdf"}, "IncorrectState", page=ERRORS),
    of_unknown("AttachVolume", VolumeId=NONE, InstanceId="$instance", Device="/dev/sdf"),
    row("ec2:DetachVolume", "free afterwards", {"VolumeId": "$attached"}, {"State": "detaching"}, then=(Step("ec2:DescribeVolumes", {"VolumeIds": ["$attached"]}, {"Volumes[0].State": "available"}),)),
    row("ec2:DetachVolume", "not attached", {"VolumeId": "$volume"}, "IncorrectState", page=ERRORS),
    row("ec2:DetachVolume", "by another device's name", {"VolumeId": "$attached", "Device": "/dev/sdz"}, "InvalidAttachment.NotFound", page=ERRORS),
    row("ec2:DetachVolume", "the root of a running instance", {"VolumeId": "$root"}, "OperationNotPermitted", page="ebs/latest/userguide/ebs-detaching-volume.html"),
    of_unknown("DetachVolume", VolumeId=NONE),
    row("ec2:DeleteVolume", "gone afterwards", {"VolumeId": "$volume"}, {}, then=(Step("ec2:DescribeVolumes", {"VolumeIds": ["$volume"]}, Refused("InvalidVolume.NotFound")),)),
    row("ec2:DeleteVolume", "in use", {"VolumeId": "$attached"}, "VolumeInUse", page=ERRORS),
    of_unknown("DeleteVolume", VolumeId=NONE),
    of_unknown("DescribeVolumes", VolumeIds=[NONE]),
    row("ec2:DescribeVolumes", "an id that is none", {"VolumeIds": ["disk"]}, "InvalidParameterValue", page=ERRORS),
    row("ec2:DescribeVolumes", "by whether it is free", {"Filters": [{"Name": "status", "Values": ["available"]}]}, {"length(Volumes)": 1}, before=(Step("ec2:DescribeVolumes", {"VolumeIds": ["$volume"]}),)),
    row("ec2:DescribeVolumes", "by its instance", {"Filters": [{"Name": "attachment.instance-id", "Values": ["$instance"]}]}, {"length(Volumes)": 1, "Volumes[0].Attachments[0].Device": "/dev/xvda"}),
    row("ec2:DescribeVolumes", "a filter that does not exist", {"Filters": [{"Name": "colour", "Values": ["red"]}]}, "InvalidParameterValue", page=ERRORS),
    row("ec2:DescribeVolumes", "a token that is none", {"NextToken": "garbage"}, "InvalidNextToken", page=ERRORS),
    row("ec2:DescribeVolumeStatus", "is well", {"VolumeIds": ["$volume"]}, {"VolumeStatuses[0].VolumeId": "$volume", "VolumeStatuses[0].VolumeStatus.Status": "ok"}),
    of_unknown("DescribeVolumeStatus", VolumeIds=[NONE]),
    row("ec2:DescribeVolumeAttribute", "its input goes on", {"VolumeId": "$volume", "Attribute": "autoEnableIO"}, {"AutoEnableIO.Value": False}),
)  # fmt: skip
SNAPSHOTS = (
    row("ec2:CreateSnapshot", "names its volume", {"VolumeId": "$volume", "Description": "own"}, {"VolumeId": "$volume", "VolumeSize": 2, "OwnerId": "$account", "State": "pending"}, then=(Step("ec2:DescribeSnapshots", {"OwnerIds": ["self"]}, {"Snapshots[0].VolumeId": "$volume", "Snapshots[0].State": "completed"}),)),
    of_unknown("CreateSnapshot", VolumeId=NONE),
    row("ec2:CreateSnapshot", "tags of something else", {"VolumeId": "$volume", "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}]}, "InvalidParameterValue"),
    row("ec2:CreateSnapshots", "of all volumes of an instance", {"InstanceSpecification": {"InstanceId": "$instance"}}, {"length(Snapshots)": 1}),
    of_unknown("DescribeSnapshots", "InvalidSnapshot.NotFound", SnapshotIds=[NO_SNAPSHOT]),
    row("ec2:DescribeSnapshots", "only one's own", {"OwnerIds": ["self"]}, {"Snapshots": []}),
    row("ec2:DescribeSnapshots", "a filter that does not exist", {"Filters": [{"Name": "colour", "Values": ["red"]}]}, "InvalidParameterValue", page=ERRORS),
    row("ec2:DescribeSnapshots", "the base image's belong to Amazon", {"SnapshotIds": ["$base_snapshot"]}, {"Snapshots[0].OwnerId": "137112412989", "Snapshots[0].OwnerAlias": "amazon"}),
    row("ec2:DeleteSnapshot", "gone afterwards", {"SnapshotId": "$snapshot"}, {}, then=(Step("ec2:DescribeSnapshots", {"SnapshotIds": ["$snapshot"]}, Refused("InvalidSnapshot.NotFound")),)),
    row("ec2:DeleteSnapshot", "of an image that is there", {"SnapshotId": "$image_snapshot"}, "InvalidSnapshot.InUse", page=ERRORS),
    row("ec2:DeleteSnapshot", "of Amazon's", {"SnapshotId": "$base_snapshot"}, "OperationNotPermitted"),
    of_unknown("DeleteSnapshot", "InvalidSnapshot.NotFound", SnapshotId=NO_SNAPSHOT),
    row("ec2:CopySnapshot", "to another region", {"SourceRegion": "eu-west-1", "SourceSnapshotId": "$snapshot", "Description": "copy"}, {"SnapshotId": ...}, region="eu-central-1", then=(Step("ec2:DescribeSnapshots", {"OwnerIds": ["self"]}, {"Snapshots[0].State": "completed", "Snapshots[0].VolumeSize": 2, "Snapshots[0].Description": "copy"}, region="eu-central-1"),)),
    row("ec2:CopySnapshot", "one that does not exist", {"SourceRegion": "eu-west-1", "SourceSnapshotId": NO_SNAPSHOT}, "InvalidSnapshot.NotFound", page=ERRORS, region="eu-central-1"),
    row("ec2:ModifySnapshotAttribute", "shared", {"SnapshotId": "$snapshot", "Attribute": "createVolumePermission", "OperationType": "add", "UserIds": ["111122223333"]}, {}, then=(Step("ec2:DescribeSnapshotAttribute", {"SnapshotId": "$snapshot", "Attribute": "createVolumePermission"}, {"CreateVolumePermissions[0].UserId": "111122223333"}),)),
    row("ec2:DescribeSnapshotAttribute", "nobody else may use a new one", {"SnapshotId": "$snapshot", "Attribute": "createVolumePermission"}, {"SnapshotId": "$snapshot", "CreateVolumePermissions": []}),
    of_unknown("DescribeSnapshotAttribute", "InvalidSnapshot.NotFound", SnapshotId=NO_SNAPSHOT, Attribute="createVolumePermission"),
    row("ec2:GetSnapshotBlockPublicAccessState", "off in a new account", {}, {"State": "unblocked"}),
    row("ec2:EnableSnapshotBlockPublicAccess", "no sharing with everybody", {"State": "block-all-sharing"}, {"State": "block-all-sharing"}, then=(Step("ec2:GetSnapshotBlockPublicAccessState", {}, {"State": "block-all-sharing"}),)),
    row("ec2:GetEbsEncryptionByDefault", "off in a new account", {}, {"EbsEncryptionByDefault": False}),
    row("ec2:EnableEbsEncryptionByDefault", "new volumes are encrypted", {}, {"EbsEncryptionByDefault": True}, then=(Step("ec2:GetEbsEncryptionByDefault", {}, {"EbsEncryptionByDefault": True}), Step("ec2:CreateVolume", {**ZONE, "Size": 1}, {"Encrypted": True}))),
    row("ec2:DisableEbsEncryptionByDefault", "off again", {}, {"EbsEncryptionByDefault": False}, before=(Step("ec2:EnableEbsEncryptionByDefault"),)),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*CREATED, *CHANGED, *ATTACHED, *SNAPSHOTS)
