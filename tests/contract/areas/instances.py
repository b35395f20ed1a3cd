"""Instances after their launch: states, attributes, what is shown of them."""

from __future__ import annotations

from tests.contract.rows import Refused, Row, Step, row

ERRORS = "AWSEC2/latest/APIReference/errors-overview.html"
NONE = "i-0123456789abcdef0"
ONE = "Reservations[0].Instances[0]"


def state(name: str) -> tuple[Step, ...]:
    """Wait until the only instance is shown in a state."""
    return (Step("ec2:DescribeInstances", {}, {f"{ONE}.State.Name": name}),)


def of_unknown(operation: str, **request: object) -> Row:
    """An operation on an instance that does not exist."""
    given = request or {"InstanceIds": [NONE]}
    return row(f"ec2:{operation}", "an instance that does not exist", given, "InvalidInstanceID.NotFound", page=ERRORS)


def shown(says: str, name: str, value: str, count: int = 1) -> Row:
    """A filter of DescribeInstances."""
    filters = [{"Name": name, "Values": [value]}]
    expected = {"length(Reservations)": count}
    return row("ec2:DescribeInstances", says, {"Filters": filters}, expected, before=state_of_one)


state_of_one = (Step("ec2:DescribeInstances", {"InstanceIds": ["$instance"]}, {f"{ONE}.State.Name": "running"}),)
UNKNOWN = (
    of_unknown("DescribeInstances"),
    of_unknown("StartInstances"),
    of_unknown("StopInstances"),
    of_unknown("RebootInstances"),
    of_unknown("TerminateInstances"),
    of_unknown("MonitorInstances"),
    of_unknown("UnmonitorInstances"),
    of_unknown("DescribeInstanceStatus"),
    of_unknown("GetConsoleOutput", InstanceId=NONE),
    of_unknown("DescribeInstanceAttribute", InstanceId=NONE, Attribute="instanceType"),
    of_unknown("ModifyInstanceAttribute", InstanceId=NONE, DisableApiTermination={"Value": True}),
    of_unknown("ModifyInstanceMetadataOptions", InstanceId=NONE, HttpTokens="required"),
    of_unknown("AttachVolume", InstanceId=NONE, VolumeId="$volume", Device="/dev/sdf"),
    of_unknown("CreateImage", InstanceId=NONE, Name="own"),
    of_unknown("DescribeInstanceCreditSpecifications"),
    row("ec2:DescribeInstances", "an id that is none", {"InstanceIds": ["machine"]}, "InvalidInstanceID.Malformed", page=ERRORS),
)  # fmt: skip
STATES = (
    row("ec2:StopInstances", "stopping, then stopped", {"InstanceIds": ["$instance"]}, {"StoppingInstances[0].CurrentState.Name": "stopping", "StoppingInstances[0].PreviousState.Name": "running"}, then=state("stopped")),
    row("ec2:StopInstances", "by force too", {"InstanceIds": ["$instance"], "Force": True}, {"StoppingInstances[0].CurrentState.Name": "stopping"}, then=state("stopped")),
    row("ec2:StopInstances", "a stopped one stays so", {"InstanceIds": ["$stopped"]}, {"StoppingInstances[0].CurrentState.Name": "stopped", "StoppingInstances[0].PreviousState.Name": "stopped"}),
    row("ec2:StopInstances", "a terminated one can't be", {"InstanceIds": ["$terminated"]}, "IncorrectInstanceState", page=ERRORS),
    row("ec2:StartInstances", "pending, then running", {"InstanceIds": ["$stopped"]}, {"StartingInstances[0].CurrentState.Name": "pending", "StartingInstances[0].PreviousState.Name": "stopped"}, then=state("running")),
    row("ec2:StartInstances", "a terminated one can't be", {"InstanceIds": ["$terminated"]}, "IncorrectInstanceState", page=ERRORS),
    row("ec2:RebootInstances", "it runs on", {"InstanceIds": ["$instance"]}, {}, then=state("running")),
    row("ec2:TerminateInstances", "shutting down, then terminated", {"InstanceIds": ["$instance"]}, {"TerminatingInstances[0].CurrentState.Name": "shutting-down", "TerminatingInstances[0].PreviousState.Name": "running"}, then=state("terminated")),
    row("ec2:TerminateInstances", "twice is no error", {"InstanceIds": ["$terminated"]}, {"TerminatingInstances[0].CurrentState.Name": "terminated"}),
    row("ec2:TerminateInstances", "a protected one can't be", {"InstanceIds": ["$instance"]}, "OperationNotPermitted", before=(Step("ec2:ModifyInstanceAttribute", {"InstanceId": "$instance", "DisableApiTermination": {"Value": True}}),)),
    row("ec2:TerminateInstances", "one unknown among others: none is", {"InstanceIds": ["$instance", NONE]}, "InvalidInstanceID.NotFound", page=ERRORS, then=state("running")),
    row("ec2:DescribeInstances", "a terminated one is shown for a while", {"InstanceIds": ["$terminated"]}, {f"{ONE}.State.Name": "terminated"}, page="AWSEC2/latest/UserGuide/terminating-instances.html"),
    row("ec2:DescribeInstances", "a stopped one has no public address", {"InstanceIds": ["$stopped"]}, {f"{ONE}.PublicIpAddress": None, f"{ONE}.PrivateIpAddress": ...}, page="AWSEC2/latest/UserGuide/using-instance-addressing.html"),
    row("ec2:DescribeInstances", "the private name fits the address", {"InstanceIds": ["$instance"]}, {f"starts_with({ONE}.PrivateDnsName, 'ip-10-')": True, f"ends_with({ONE}.PrivateDnsName, '.eu-west-1.compute.internal')": True}, page="AWSEC2/latest/UserGuide/ec2-instance-naming.html"),
    row("ec2:GetConsoleOutput", "what it has written", {"InstanceId": "$instance", "Latest": True}, {"Output": ..., "InstanceId": "$instance"}),
    row("ec2:MonitorInstances", "pending or enabled", {"InstanceIds": ["$instance"]}, {"InstanceMonitorings[0].InstanceId": "$instance"}, then=(Step("ec2:DescribeInstances", {}, {f"{ONE}.Monitoring.State": "enabled"}),)),
    row("ec2:UnmonitorInstances", "disabled again", {"InstanceIds": ["$instance"]}, {"InstanceMonitorings[0].InstanceId": "$instance"}, then=(Step("ec2:DescribeInstances", {}, {f"{ONE}.Monitoring.State": "disabled"}),)),
    row("ec2:DescribeInstanceStatus", "only running ones", {}, {"length(InstanceStatuses)": 1, "InstanceStatuses[0].InstanceState.Name": "running"}, before=state_of_one),
    row("ec2:DescribeInstanceStatus", "stopped ones only when asked for", {}, {"InstanceStatuses": []}, before=(Step("ec2:DescribeInstances", {"InstanceIds": ["$stopped"]}),)),
    row("ec2:DescribeInstanceCreditSpecifications", "of a burstable type", {"InstanceIds": ["$instance"]}, {"InstanceCreditSpecifications[0].CpuCredits": "unlimited"}),
)  # fmt: skip
ATTRIBUTES = (
    row("ec2:ModifyInstanceAttribute", "the type of a running one", {"InstanceId": "$instance", "InstanceType": {"Value": "t4g.micro"}}, "IncorrectInstanceState", page=ERRORS),
    row("ec2:ModifyInstanceAttribute", "the type of a stopped one", {"InstanceId": "$stopped", "InstanceType": {"Value": "t4g.micro"}}, {}, then=(Step("ec2:DescribeInstances", {}, {f"{ONE}.InstanceType": "t4g.micro"}),)),
    row("ec2:ModifyInstanceAttribute", "a type that does not exist", {"InstanceId": "$stopped", "InstanceType": {"Value": "t9.huge"}}, "InvalidInstanceType"),
    row("ec2:ModifyInstanceAttribute", "user data of a running one", {"InstanceId": "$instance", "UserData": {"Value": "aGk="}}, "IncorrectInstanceState"),
    row("ec2:ModifyInstanceAttribute", "a group that does not exist", {"InstanceId": "$instance", "Groups": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound", page=ERRORS),
    row("ec2:ModifyInstanceAttribute", "groups", {"InstanceId": "$instance", "Groups": ["$group"]}, {}, then=(Step("ec2:DescribeInstances", {}, {f"{ONE}.SecurityGroups[0].GroupId": "$group"}),)),
    row("ec2:DescribeInstanceAttribute", "protection from termination", {"InstanceId": "$instance", "Attribute": "disableApiTermination"}, {"DisableApiTermination.Value": False}),
    row("ec2:DescribeInstanceAttribute", "the type", {"InstanceId": "$instance", "Attribute": "instanceType"}, {"InstanceType.Value": "t4g.small"}),
    row("ec2:DescribeInstanceAttribute", "what shutting down does", {"InstanceId": "$instance", "Attribute": "instanceInitiatedShutdownBehavior"}, {"InstanceInitiatedShutdownBehavior.Value": "stop"}),
    row("ec2:ModifyInstanceMetadataOptions", "one option leaves the others", {"InstanceId": "$instance", "InstanceMetadataTags": "enabled"}, {"InstanceMetadataOptions.InstanceMetadataTags": "enabled", "InstanceMetadataOptions.HttpTokens": "required"}),
    row("ec2:ResetImageAttribute", "who may launch it", {"ImageId": "$image", "Attribute": "launchPermission"}, {}, before=(Step("ec2:ModifyImageAttribute", {"ImageId": "$image", "LaunchPermission": {"Add": [{"UserId": "111122223333"}]}}),), then=(Step("ec2:DescribeImageAttribute", {"ImageId": "$image", "Attribute": "launchPermission"}, {"LaunchPermissions": []}),)),
)  # fmt: skip
FILTERS = (
    shown("by state", "instance-state-name", "running"),
    shown("by state's code", "instance-state-code", "16"),
    shown("by another state's code", "instance-state-code", "80", 0),
    shown("by the root device's name", "root-device-name", "/dev/xvda"),
    shown("by image", "image-id", "$base"),
    shown("by type", "instance-type", "t4g.*"),
    shown("by launch time", "launch-time", "20*"),
    shown("by launch time long ago", "launch-time", "2001-*", 0),
    shown("by client token", "client-token", "none", 0),
    row("ec2:DescribeInstances", "by the client token of its launch", {"Filters": [{"Name": "client-token", "Values": ["once"]}]}, {"length(Reservations)": 1}, before=(Step("ec2:RunInstances", {"ImageId": "$base", "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1, "ClientToken": "once"}),)),
    shown("by a tag it has not", "tag:kind", "x", 0),
    shown("by zone", "availability-zone", "eu-west-1*"),
    shown("by private address", "private-ip-address", "$address"),
    shown("by architecture", "architecture", "arm64"),
    shown("by network", "vpc-id", "$vpc"),
    row("ec2:DescribeInstances", "a filter that does not exist", {"Filters": [{"Name": "colour", "Values": ["red"]}]}, Refused("InvalidParameterValue", "colour"), page=ERRORS),
    row("ec2:DescribeInstances", "a token that is none", {"NextToken": "garbage", "MaxResults": 5}, "InvalidNextToken", page=ERRORS),
    row("ec2:DescribeInstances", "too few at a time", {"MaxResults": 1}, "InvalidParameterValue"),
    row("ec2:DescribeInstances", "ids together with a limit", {"InstanceIds": ["$instance"], "MaxResults": 5}, "InvalidParameterCombination"),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*UNKNOWN, *STATES, *ATTRIBUTES, *FILTERS)
