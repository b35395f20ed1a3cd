"""Networks, security groups, key pairs, addresses, tags, and what a region has."""

from __future__ import annotations

from typing import Any

from tests.contract.rows import Refused, Row, Step, row

ERRORS = "AWSEC2/latest/APIReference/errors-overview.html"
NO_GROUP = "sg-0123456789abcdef0"
NO_SUBNET = "subnet-0123456789abcdef0"
NO_VPC = "vpc-0123456789abcdef0"
SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}
TAG = [{"Key": "a", "Value": "b"}]


def of_unknown(operation: str, code: str, **request: Any) -> Row:
    """An operation on what does not exist."""
    return row(f"ec2:{operation}", "one that does not exist", request, code, page=ERRORS)


def odd(operation: str) -> tuple[Row, ...]:
    """A filter and a token that do not exist."""
    filters = {"Filters": [{"Name": "colour", "Values": ["red"]}]}
    return (row(f"ec2:{operation}", "a filter that does not exist", filters, Refused("InvalidParameterValue", "colour"), page=ERRORS),)  # fmt: skip


GROUPS = (
    row("ec2:CreateSecurityGroup", "in the default network", {"GroupName": "g", "Description": "d"}, {"GroupId": ...}),
    row("ec2:CreateSecurityGroup", "with tags", {"GroupName": "g", "Description": "d", "VpcId": "$vpc", "TagSpecifications": [{"ResourceType": "security-group", "Tags": TAG}]}, {"Tags": TAG}),
    row("ec2:CreateSecurityGroup", "a name that is taken", {"GroupName": "own", "Description": "d", "VpcId": "$vpc"}, "InvalidGroup.Duplicate", page=ERRORS, before=(Step("ec2:DescribeSecurityGroups", {"GroupIds": ["$group"]}),)),
    row("ec2:CreateSecurityGroup", "named as ids are", {"GroupName": "sg-own", "Description": "d"}, "InvalidParameterValue"),
    row("ec2:CreateSecurityGroup", "a name with other letters", {"GroupName": "größe", "Description": "d"}, "InvalidParameterValue"),
    row("ec2:CreateSecurityGroup", "in a network that does not exist", {"GroupName": "g", "Description": "d", "VpcId": NO_VPC}, "InvalidVpcID.NotFound", page=ERRORS),
    of_unknown("DescribeSecurityGroups", "InvalidGroup.NotFound", GroupIds=[NO_GROUP]),
    of_unknown("DeleteSecurityGroup", "InvalidGroup.NotFound", GroupId=NO_GROUP),
    row("ec2:DeleteSecurityGroup", "the default one", {"GroupId": "$default_group"}, "CannotDelete", page=ERRORS),
    row("ec2:DeleteSecurityGroup", "worn by an instance", {"GroupId": "$group"}, "DependencyViolation", page=ERRORS, before=(Step("ec2:ModifyInstanceAttribute", {"InstanceId": "$instance", "Groups": ["$group"]}),)),
    row("ec2:DeleteSecurityGroup", "gone afterwards", {"GroupId": "$group"}, {}, then=(Step("ec2:DescribeSecurityGroups", {"GroupIds": ["$group"]}, Refused("InvalidGroup.NotFound")),)),
    row("ec2:AuthorizeSecurityGroupIngress", "let in", {"GroupId": "$group", "IpPermissions": [SSH]}, {"Return": True}, then=(Step("ec2:DescribeSecurityGroups", {"GroupIds": ["$group"]}, {"SecurityGroups[0].IpPermissions[0].FromPort": 22}),)),
    row("ec2:AuthorizeSecurityGroupIngress", "twice", {"GroupId": "$group", "IpPermissions": [SSH]}, "InvalidPermission.Duplicate", page=ERRORS, before=(Step("ec2:AuthorizeSecurityGroupIngress", {"GroupId": "$group", "IpPermissions": [SSH]}),)),
    of_unknown("AuthorizeSecurityGroupIngress", "InvalidGroup.NotFound", GroupId=NO_GROUP, IpPermissions=[SSH]),
    row("ec2:RevokeSecurityGroupIngress", "what is not there", {"GroupId": "$group", "IpPermissions": [SSH]}, "InvalidPermission.NotFound", page=ERRORS),
    row("ec2:RevokeSecurityGroupIngress", "shut out again", {"GroupId": "$group", "IpPermissions": [SSH]}, {"Return": True}, before=(Step("ec2:AuthorizeSecurityGroupIngress", {"GroupId": "$group", "IpPermissions": [SSH]}),), then=(Step("ec2:DescribeSecurityGroups", {"GroupIds": ["$group"]}, {"SecurityGroups[0].IpPermissions": []}),)),
    row("ec2:DescribeInstances", "an instance without a group has the default one", {"InstanceIds": ["$instance"]}, {"Reservations[0].Instances[0].SecurityGroups[0].GroupId": "$default_group"}, page="AWSEC2/latest/UserGuide/creating-security-group.html"),
    *odd("DescribeSecurityGroups"),
)  # fmt: skip
NETWORKS = (
    row("ec2:DescribeVpcs", "the default one", {"Filters": [{"Name": "is-default", "Values": ["true"]}]}, {"length(Vpcs)": 1, "Vpcs[0].State": "available"}),
    of_unknown("DescribeVpcs", "InvalidVpcID.NotFound", VpcIds=[NO_VPC]),
    row("ec2:CreateVpc", "of a range", {"CidrBlock": "10.90.0.0/24"}, {"Vpc.CidrBlock": "10.90.0.0/24"}),
    row("ec2:CreateVpc", "of a range that is too large", {"CidrBlock": "10.0.0.0/8"}, "InvalidVpc.Range"),
    row("ec2:DeleteVpc", "with subnets in it", {"VpcId": "$vpc"}, "DependencyViolation", page=ERRORS),
    row("ec2:DescribeSubnets", "one in each zone", {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}, {"length(Subnets)": 3, "Subnets[0].MapPublicIpOnLaunch": True}),
    of_unknown("DescribeSubnets", "InvalidSubnetID.NotFound", SubnetIds=[NO_SUBNET]),
    row("ec2:CreateSubnet", "outside of its network", {"VpcId": "$vpc", "CidrBlock": "10.90.0.0/24"}, "InvalidSubnet.Range", page=ERRORS),
    of_unknown("DeleteSubnet", "InvalidSubnetID.NotFound", SubnetId=NO_SUBNET),
    row("ec2:DeleteSubnet", "with an instance in it", {"SubnetId": "$instance_subnet"}, "DependencyViolation", page=ERRORS),
    row("ec2:CreateInternetGateway", "made", {}, {"InternetGateway.InternetGatewayId": ...}),
    row("ec2:AttachInternetGateway", "to a network that does not exist", {"InternetGatewayId": "$gateway", "VpcId": NO_VPC}, "InvalidVpcID.NotFound", page=ERRORS),
    row("ec2:DescribeInternetGateways", "made ones", {"InternetGatewayIds": ["$gateway"]}, {"InternetGateways[0].InternetGatewayId": "$gateway"}),
    row("ec2:CreateRoute", "to anywhere", {"RouteTableId": "$routes", "DestinationCidrBlock": "192.0.2.0/24", "GatewayId": "$gateway"}, {"Return": True}),
    row("ec2:DescribeRouteTables", "the network's own", {"Filters": [{"Name": "vpc-id", "Values": ["$vpc"]}]}, {"RouteTables[0].VpcId": "$vpc"}),
    row("ec2:ModifySubnetAttribute", "no public addresses", {"SubnetId": "$subnet", "MapPublicIpOnLaunch": {"Value": False}}, {}, then=(Step("ec2:DescribeSubnets", {"SubnetIds": ["$subnet"]}, {"Subnets[0].MapPublicIpOnLaunch": False}),)),
    row("ec2:ModifyVpcAttribute", "names of hosts", {"VpcId": "$vpc", "EnableDnsHostnames": {"Value": True}}, {}),
    row("ec2:CreateNetworkInterface", "in a subnet that does not exist", {"SubnetId": NO_SUBNET}, "InvalidSubnetID.NotFound", page=ERRORS),
    of_unknown("DescribeNetworkInterfaces", "InvalidNetworkInterfaceID.NotFound", NetworkInterfaceIds=["eni-0123456789abcdef0"]),
    row("ec2:DescribeAddresses", "none in a new account", {}, {"Addresses": []}),
    row("ec2:AllocateAddress", "an address", {"Domain": "vpc"}, {"AllocationId": ..., "PublicIp": ...}),
    row("ec2:AssociateAddress", "to an instance that does not exist", {"AllocationId": "$allocation", "InstanceId": "i-0123456789abcdef0"}, "InvalidInstanceID.NotFound", page=ERRORS),
    row("ec2:AssociateAddress", "to an instance", {"AllocationId": "$allocation", "InstanceId": "$instance"}, {"AssociationId": ...}, then=(Step("ec2:DescribeAddresses", {"AllocationIds": ["$allocation"]}, {"Addresses[0].InstanceId": "$instance"}),)),
    row("ec2:AssociateAddress", "that an instance has, to an interface", {"AllocationId": "$allocation", "NetworkInterfaceId": "$eni"}, {"AssociationId": ...}, page="AWSEC2/latest/APIReference/API_AssociateAddress.html", before=(Step("ec2:AssociateAddress", {"AllocationId": "$allocation", "InstanceId": "$instance"}),), then=(Step("ec2:DescribeAddresses", {"AllocationIds": ["$allocation"]}, {"Addresses[0].NetworkInterfaceId": "$eni"}),)),
    row("ec2:AssociateAddress", "that an instance is to keep", {"AllocationId": "$allocation", "NetworkInterfaceId": "$eni", "AllowReassociation": False}, "Resource.AlreadyAssociated", page=ERRORS, before=(Step("ec2:AssociateAddress", {"AllocationId": "$allocation", "InstanceId": "$instance"}),)),
    row("ec2:AssociateAddress", "that does not exist", {"AllocationId": "eipalloc-0123456789abcdef0", "InstanceId": "$instance"}, "InvalidAllocationID.NotFound", page=ERRORS),
    row("ec2:ReleaseAddress", "free again", {"AllocationId": "$allocation"}, {}, then=(Step("ec2:DescribeAddresses", {}, {"Addresses": []}),)),
    of_unknown("ReleaseAddress", "InvalidAllocationID.NotFound", AllocationId="eipalloc-0123456789abcdef0"),
    *odd("DescribeSubnets"),
    *odd("DescribeVpcs"),
)  # fmt: skip
KEYS = (
    row("ec2:CreateKeyPair", "with its private part", {"KeyName": "k", "KeyType": "ed25519"}, {"KeyMaterial": ..., "KeyName": "k", "KeyFingerprint": ...}),
    row("ec2:CreateKeyPair", "a name that is taken", {"KeyName": "$key"}, "InvalidKeyPair.Duplicate", page=ERRORS),
    of_unknown("DescribeKeyPairs", "InvalidKeyPair.NotFound", KeyNames=["none"]),
    row("ec2:DescribeKeyPairs", "made ones", {"KeyNames": ["$key"]}, {"KeyPairs[0].KeyType": "ed25519"}),
    row("ec2:ImportKeyPair", "what is no key", {"KeyName": "k", "PublicKeyMaterial": b"none"}, "InvalidKey.Format", page=ERRORS),
    row("ec2:DeleteKeyPair", "an instance has it, and keeps it", {"KeyName": "$key"}, {"Return": True}, before=(Step("ec2:RunInstances", {"ImageId": "$base", "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1, "KeyName": "$key"}),), then=(Step("ec2:DescribeInstances", {}, {"Reservations[0].Instances[0].KeyName": "own"}),)),
    row("ec2:DeleteKeyPair", "gone, and again no error", {"KeyName": "$key"}, {"Return": True}, then=(Step("ec2:DescribeKeyPairs", {"KeyNames": ["own"]}, Refused("InvalidKeyPair.NotFound")), Step("ec2:DeleteKeyPair", {"KeyName": "own"}))),
)  # fmt: skip
TAGS = (
    row("ec2:CreateTags", "on an instance", {"Resources": ["$instance"], "Tags": TAG}, {}, then=(Step("ec2:DescribeTags", {"Filters": [{"Name": "resource-id", "Values": ["$instance"]}]}, {"Tags[0].Value": "b", "Tags[0].ResourceType": "instance"}),)),
    row("ec2:CreateTags", "on an instance that does not exist", {"Resources": ["i-0123456789abcdef0"], "Tags": TAG}, "InvalidInstanceID.NotFound", page=ERRORS),
    row("ec2:CreateTags", "on an image that does not exist", {"Resources": ["ami-0123456789abcdef0"], "Tags": TAG}, "InvalidAMIID.NotFound", page=ERRORS),
    row("ec2:CreateTags", "on what is no id", {"Resources": ["thing"], "Tags": TAG}, "InvalidID", page=ERRORS),
    row("ec2:CreateTags", "on an interface that does not exist", {"Resources": ["eni-0123456789abcdef0"], "Tags": TAG}, "InvalidNetworkInterfaceID.NotFound", page=ERRORS),
    row("ec2:CreateTags", "on one that exists and one that does not: neither is", {"Resources": ["$volume", "vol-0123456789abcdef0"], "Tags": TAG}, "InvalidVolume.NotFound", page=ERRORS, then=(Step("ec2:DescribeTags", {}, {"Tags": []}),)),
    row("ec2:CreateTags", "too long a name", {"Resources": ["$instance"], "Tags": [{"Key": "x" * 129, "Value": ""}]}, "InvalidParameterValue", page="AWSEC2/latest/UserGuide/Using_Tags.html"),
    row("ec2:CreateTags", "too long a value", {"Resources": ["$instance"], "Tags": [{"Key": "x", "Value": "x" * 257}]}, "InvalidParameterValue", page="AWSEC2/latest/UserGuide/Using_Tags.html"),
    row("ec2:CreateVolume", "tags with names that are AWS's", {"AvailabilityZone": "eu-west-1a", "Size": 1, "TagSpecifications": [{"ResourceType": "volume", "Tags": [{"Key": "AWS:x", "Value": ""}]}]}, "InvalidParameterValue", page="AWSEC2/latest/UserGuide/Using_Tags.html"),
    row("ec2:CreateTags", "names that are AWS's", {"Resources": ["$instance"], "Tags": [{"Key": "aws:x", "Value": "b"}]}, "InvalidParameterValue", page="AWSEC2/latest/UserGuide/Using_Tags.html"),
    row("ec2:CreateTags", "more than fifty", {"Resources": ["$instance"], "Tags": [{"Key": str(each), "Value": ""} for each in range(51)]}, "TagLimitExceeded", page=ERRORS),
    row("ec2:DeleteTags", "gone, and again no error", {"Resources": ["$instance"], "Tags": [{"Key": "a"}]}, {}, before=(Step("ec2:CreateTags", {"Resources": ["$instance"], "Tags": TAG}),), then=(Step("ec2:DescribeTags", {}, {"Tags": []}),)),
    row("ec2:DescribeTags", "by key", {"Filters": [{"Name": "key", "Values": ["a"]}]}, {"length(Tags)": 1}, before=(Step("ec2:CreateTags", {"Resources": ["$volume"], "Tags": TAG}),)),
)  # fmt: skip
REGION = (
    row("ec2:DescribeRegions", "all of them", {"AllRegions": True}, {"contains(Regions[].RegionName, 'eu-west-1')": True, "contains(Regions[].OptInStatus, 'not-opted-in')": True}),
    row("ec2:DescribeRegions", "one that does not exist", {"RegionNames": ["eu-north-9"]}, "InvalidParameterValue", guess="EC2's code for a value that is none"),
    row("ec2:DescribeAvailabilityZones", "of this region", {}, {"length(AvailabilityZones)": 3, "AvailabilityZones[0].RegionName": "eu-west-1"}),
    row("ec2:DescribeInstanceTypes", "by name", {"InstanceTypes": ["t4g.small"]}, {"InstanceTypes[0].MemoryInfo.SizeInMiB": 2048}),
    row("ec2:DescribeInstanceTypes", "one that does not exist", {"InstanceTypes": ["t9.huge"]}, "InvalidInstanceType", page=ERRORS),
    row("ec2:DescribeInstanceTypeOfferings", "by zone", {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": ["t4g.small"]}]}, {"InstanceTypeOfferings[0].InstanceType": "t4g.small"}),
    row("ec2:DescribeAccountAttributes", "the default network", {"AttributeNames": ["default-vpc"]}, {"length(AccountAttributes)": 1, "AccountAttributes[0].AttributeName": "default-vpc", "AccountAttributes[0].AttributeValues[0].AttributeValue": "$vpc"}),
    row("ec2:DescribeAccountAttributes", "one that does not exist", {"AttributeNames": ["colour"]}, "InvalidParameterValue", guess="EC2's code for a value that is none"),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*GROUPS, *NETWORKS, *KEYS, *TAGS, *REGION)
