"""What can't be deleted while an instance, a rule or a gateway needs it."""

from __future__ import annotations

from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, launched, until_state


def test_a_network_is_deleted_once_nothing_needs_it(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.90.0.0/24")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.90.0.0/25")["Subnet"]["SubnetId"]
    worn = ec2.create_security_group(GroupName="worn", Description="x", VpcId=vpc)["GroupId"]
    named = ec2.create_security_group(GroupName="named", Description="x", VpcId=vpc)["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": named}]}
    ec2.authorize_security_group_ingress(GroupId=worn, IpPermissions=[rule])
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    instance = launched(ec2, SubnetId=subnet, SecurityGroupIds=[worn])
    (interface,) = ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert refused(ec2.delete_network_interface, NetworkInterfaceId=interface["NetworkInterfaceId"]) == (
        "InvalidParameterValue"
    )
    assert refused(ec2.delete_subnet, SubnetId=subnet) == "DependencyViolation"
    for group in (worn, named):
        assert refused(ec2.delete_security_group, GroupId=group) == "DependencyViolation"
    ec2.terminate_instances(InstanceIds=[instance])
    until_state(ec2, instance, "terminated")
    ec2.delete_subnet(SubnetId=subnet)
    assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    for group in (worn, named):
        assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
        ec2.delete_security_group(GroupId=group)
    ec2.delete_vpc(VpcId=vpc)


def test_the_default_group_is_nobody_s_to_delete(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    (default,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
    assert refused(ec2.delete_security_group, GroupId=default["GroupId"]) == "CannotDelete"
    assert refused(ec2.delete_security_group, GroupName="default") == "CannotDelete"


def test_a_key_pair_is_deleted_while_it_is_in_use_and_its_instance_keeps_it(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    ec2.create_key_pair(KeyName="key", KeyType="ed25519")
    instance = launched(ec2, KeyName="key")
    ec2.delete_key_pair(KeyName="key")
    assert lab.metadata(instance).public_key
