"""Launching as people do: templates, parameters, fleets, spot requests, Auto Scaling groups, counts, client tokens."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, base, described, launched, until_state

USER_DATA = base64.b64encode(b"#!/bin/sh\n").decode()


def template_data(ec2: Any, **given: Any) -> dict[str, Any]:
    return {
        "ImageId": base(ec2),
        "InstanceType": "t4g.small",
        "UserData": USER_DATA,
        "IamInstanceProfile": {"Name": "profile"},
        "MetadataOptions": {"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        "BlockDeviceMappings": [
            {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 10, "VolumeType": "gp3", "Iops": 4000}}
        ],
        "Monitoring": {"Enabled": True},
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": "zmanim:environment", "Value": "prod"}]},
            {"ResourceType": "volume", "Tags": [{"Key": "of", "Value": "template"}]},
        ],
        **given,
    }


@pytest.fixture
def template(lab: Ec2Lab) -> str:
    lab.client("iam").create_instance_profile(InstanceProfileName="profile")
    ec2 = lab.client("ec2")
    made = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=template_data(ec2))
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def by_template(ec2: Any, template: str, version: str = "$Default", **given: Any) -> str:
    named = {"LaunchTemplateId": template, "Version": version}
    request = {"LaunchTemplate": named, "MinCount": 1, "MaxCount": 1, **given}
    return str(ec2.run_instances(**request)["Instances"][0]["InstanceId"])


def assert_as_the_template_says(ec2: Any, instance: str, template: str, version: str = "1") -> None:
    shown = described(ec2, instance)
    assert shown["InstanceType"] == "t4g.small"
    assert shown["IamInstanceProfile"]["Arn"].endswith("/profile")
    assert (shown["MetadataOptions"]["HttpTokens"], shown["MetadataOptions"]["InstanceMetadataTags"]) == (
        "required",
        "enabled",
    )
    assert shown["Monitoring"]["State"] == "enabled"
    tags = {tag["Key"]: tag["Value"] for tag in shown["Tags"]}
    assert tags["zmanim:environment"] == "prod"
    assert (tags["aws:ec2launchtemplate:id"], tags["aws:ec2launchtemplate:version"]) == (template, version)
    volumes = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in shown["BlockDeviceMappings"]}
    (data,) = ec2.describe_volumes(VolumeIds=[volumes["/dev/sdf"]])["Volumes"]
    assert (data["Size"], data["Iops"], data["Tags"]) == (10, 4000, [{"Key": "of", "Value": "template"}])
    data = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]["Value"]
    assert data == USER_DATA


def test_a_launch_template_launches_all_that_it_says(lab: Ec2Lab, template: str) -> None:
    ec2 = lab.client("ec2")
    assert_as_the_template_says(ec2, by_template(ec2, template), template)


def test_a_launch_takes_the_version_it_names_and_overrides_it(lab: Ec2Lab, template: str) -> None:
    ec2 = lab.client("ec2")
    ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"InstanceType": "t4g.micro"}
    )
    kinds = {version: described(ec2, by_template(ec2, template, version))["InstanceType"]
             for version in ("1", "2", "$Latest", "$Default")}  # fmt: skip
    assert kinds == {"1": "t4g.small", "2": "t4g.micro", "$Latest": "t4g.micro", "$Default": "t4g.small"}
    for version in ("0", "3", "latest"):
        assert refused(by_template, ec2, template, version) == "InvalidLaunchTemplateId.VersionNotFound"
    disk = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 20}}]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "zmanim:environment", "Value": "verify"}]}]
    own = by_template(ec2, template, "2", InstanceType="t4g.nano", BlockDeviceMappings=disk, TagSpecifications=tags,
                      MetadataOptions={"HttpPutResponseHopLimit": 3})  # fmt: skip
    shown = described(ec2, own)
    assert shown["InstanceType"] == "t4g.nano"
    assert {tag["Key"]: tag["Value"] for tag in shown["Tags"]}["zmanim:environment"] == "verify"
    assert shown["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    assert shown["MetadataOptions"]["HttpPutResponseHopLimit"] == 3
    volumes = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in shown["BlockDeviceMappings"]}
    (data,) = ec2.describe_volumes(VolumeIds=[volumes["/dev/sdf"]])["Volumes"]
    assert (data["Size"], data["Iops"]) == (20, 4000)


def test_an_image_is_named_by_a_parameter_of_the_type_that_is_there_for_it(lab: Ec2Lab) -> None:
    ec2, ssm = lab.client("ec2"), lab.client("ssm")
    ssm.put_parameter(Name="/zmanim/prod/ami-id", Value=base(ec2), Type="String", DataType="aws:ec2:image")
    ssm.put_parameter(Name="/text", Value=base(ec2), Type="String")
    for name in ("/zmanim/prod/ami-id", "/zmanim/prod/ami-id:1"):
        assert described(ec2, launched(ec2, ImageId=f"resolve:ssm:{name}"))["ImageId"] == base(ec2)
    assert refused(launched, ec2, ImageId="resolve:ssm:/text") == "SsmInvalidParameter"
    for name in ("/zmanim/prod/ami-id:7", "/none"):
        assert refused(launched, ec2, ImageId=f"resolve:ssm:{name}") == "SsmInvalidParameter"
    made = ec2.create_launch_template(
        LaunchTemplateName="by-name",
        LaunchTemplateData={"ImageId": "resolve:ssm:/zmanim/prod/ami-id", "InstanceType": "t4g.small"},
    )["LaunchTemplate"]["LaunchTemplateId"]
    assert described(ec2, by_template(ec2, made))["ImageId"] == base(ec2)


def test_as_many_instances_are_launched_as_there_is_room_for(lab: Ec2Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ec2 = lab.client("ec2")
    request = {"ImageId": base(ec2), "InstanceType": "t4g.small"}
    assert len(ec2.run_instances(MinCount=1, MaxCount=2, **request)["Instances"]) == 2
    monkeypatch.setattr(lab.fleet, "room", lambda: 1)
    assert len(ec2.run_instances(MinCount=1, MaxCount=2, **request)["Instances"]) == 1
    assert refused(ec2.run_instances, MinCount=2, MaxCount=2, **request) == "InsufficientFreeAddressesInSubnet"


def test_a_client_token_launches_once_and_not_with_other_parameters(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    first = launched(ec2, ClientToken="one")
    assert launched(ec2, ClientToken="one") == first
    assert refused(launched, ec2, ClientToken="one", InstanceType="t4g.micro") == "IdempotentParameterMismatch"
    assert launched(ec2, ClientToken="two") != first


def test_packer_s_spot_build_launches_by_an_instant_fleet(lab: Ec2Lab, template: str) -> None:
    ec2 = lab.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    named = {"LaunchTemplateName": "web", "Version": "1"}
    overrides = [{"InstanceType": "t3.small"}, {"InstanceType": "t4g.small", "SubnetId": subnet}]
    answer = ec2.create_fleet(
        Type="instant",
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": named, "Overrides": overrides}],
        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
    )
    # A type that does not fit is told, and the next one is taken.
    assert [each["ErrorCode"] for each in answer["Errors"]] == ["InvalidParameterValue"]
    (row,) = answer["Instances"]
    assert (row["Lifecycle"], row["InstanceType"]) == ("spot", "t4g.small")
    (instance,) = row["InstanceIds"]
    until_state(ec2, instance, "running")
    assert_as_the_template_says(ec2, instance, template)
    shown = described(ec2, instance)
    assert (shown["InstanceLifecycle"], shown["SubnetId"]) == ("spot", subnet)
    (request,) = ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert (request["InstanceId"], request["SpotInstanceRequestId"]) == (instance, shown["SpotInstanceRequestId"])
    ec2.terminate_instances(InstanceIds=[instance])
    until_state(ec2, instance, "terminated")


def test_a_fleet_launches_on_demand_by_requirements_and_is_deleted_with_its_instances(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    ec2.create_launch_template(LaunchTemplateName="image", LaunchTemplateData={"ImageId": base(ec2)})
    wanted = {"InstanceRequirements": {"VCpuCount": {"Min": 2}, "MemoryMiB": {"Min": 4096}}}
    configuration = {"LaunchTemplateSpecification": {"LaunchTemplateName": "image", "Version": "$Latest"},
                     "Overrides": [wanted]}  # fmt: skip
    fleet = ec2.create_fleet(
        Type="request", LaunchTemplateConfigs=[configuration],
        TargetCapacitySpecification={"TotalTargetCapacity": 2, "DefaultTargetCapacityType": "on-demand"},
    )["FleetId"]  # fmt: skip
    rows = ec2.describe_fleet_instances(FleetId=fleet)["ActiveInstances"]
    assert len(rows) == 2
    # It fits the image, which is of another architecture than most types.
    (kind,) = {described(ec2, row["InstanceId"])["InstanceType"] for row in rows}
    assert ec2.describe_instance_types(InstanceTypes=[kind])["InstanceTypes"][0]["ProcessorInfo"][
        "SupportedArchitectures"
    ] == ["arm64"]
    ec2.delete_fleets(FleetIds=[fleet], TerminateInstances=True)
    for row in rows:
        until_state(ec2, row["InstanceId"], "terminated")


def test_diversified_spot_capacity_is_of_all_specifications_and_overrides_are_told_as_given(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    ec2.create_launch_template(LaunchTemplateName="image", LaunchTemplateData=template_data(ec2, IamInstanceProfile={}))
    zones = [{"AvailabilityZone": f"eu-west-1{letter}"} for letter in "abc"]
    named = {"LaunchTemplateName": "image", "Version": "1"}
    fleet = ec2.create_fleet(
        Type="maintain", LaunchTemplateConfigs=[{"LaunchTemplateSpecification": named, "Overrides": zones}],
        TargetCapacitySpecification={"TotalTargetCapacity": 4, "DefaultTargetCapacityType": "spot"},
        SpotOptions={"AllocationStrategy": "diversified"},
    )["FleetId"]  # fmt: skip
    rows = ec2.describe_fleet_instances(FleetId=fleet)["ActiveInstances"]
    placed = [described(ec2, row["InstanceId"])["Placement"]["AvailabilityZone"] for row in rows]
    assert sorted(placed) == ["eu-west-1a", "eu-west-1a", "eu-west-1b", "eu-west-1c"]
    (shown,) = ec2.describe_fleets(FleetIds=[fleet])["Fleets"]
    assert shown["LaunchTemplateConfigs"][0]["Overrides"] == zones


def test_a_fleet_without_a_template_or_with_an_unknown_one_is_refused(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    capacity = {"TotalTargetCapacity": 1}
    named = [{"LaunchTemplateSpecification": {"LaunchTemplateName": "none", "Version": "1"}}]
    assert refused(ec2.create_fleet, LaunchTemplateConfigs=named, TargetCapacitySpecification=capacity) == (
        "InvalidLaunchTemplateName.NotFoundException"
    )
    assert ec2.describe_fleets()["Fleets"] == []


def test_a_spot_request_is_fulfilled_with_all_of_its_specification(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    lab.client("iam").create_instance_profile(InstanceProfileName="profile")
    group = ec2.create_security_group(GroupName="own", Description="x")["GroupId"]
    data = template_data(ec2, SecurityGroupIds=[group])
    names = ("ImageId", "InstanceType", "UserData", "IamInstanceProfile", "BlockDeviceMappings", "SecurityGroupIds")
    given = {name: data[name] for name in names}
    requests = ec2.request_spot_instances(SpotPrice="0.05", InstanceCount=2, LaunchSpecification=given)
    instances = [each["InstanceId"] for each in requests["SpotInstanceRequests"]]
    assert len(set(instances)) == 2
    shown = described(ec2, instances[0])
    assert shown["IamInstanceProfile"]["Arn"].endswith("/profile")
    assert [each["GroupId"] for each in shown["SecurityGroups"]] == [group]
    assert [each["DeviceName"] for each in shown["BlockDeviceMappings"]] == ["/dev/xvda", "/dev/sdf"]
    bad = {**given, "IamInstanceProfile": {"Name": "nobody"}}
    assert refused(ec2.request_spot_instances, LaunchSpecification=bad) == "InvalidParameterValue"
    assert len(ec2.describe_spot_instance_requests()["SpotInstanceRequests"]) == 2


def test_an_auto_scaling_group_launches_its_template_s_version_in_its_subnets(lab: Ec2Lab, template: str) -> None:
    ec2, scaling = lab.client("ec2"), lab.client("autoscaling")
    ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"InstanceType": "t4g.micro"}
    )
    subnets = [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]][:2]
    tags = [{"Key": "group", "Value": "web", "PropagateAtLaunch": True, "ResourceId": "g",
             "ResourceType": "auto-scaling-group"}]  # fmt: skip
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="g", MinSize=2, MaxSize=3, VPCZoneIdentifier=",".join(subnets), Tags=tags,
        LaunchTemplate={"LaunchTemplateId": template, "Version": "2"},
    )  # fmt: skip

    def instances() -> list[str]:
        (group,) = scaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        return [each["InstanceId"] for each in group["Instances"]]

    shown = [described(ec2, each) for each in instances()]
    assert {each["SubnetId"] for each in shown} == set(subnets)
    assert {each["InstanceType"] for each in shown} == {"t4g.micro"}
    for each in shown:
        assert each["IamInstanceProfile"]["Arn"].endswith("/profile")
        assert each["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
        assert "/dev/sdf" in [mapping["DeviceName"] for mapping in each["BlockDeviceMappings"]]
        named = {tag["Key"]: tag["Value"] for tag in each["Tags"]}
        assert (named["group"], named["aws:autoscaling:groupName"]) == ("web", "g")
        assert (named["zmanim:environment"], named["aws:ec2launchtemplate:version"]) == ("prod", "2")
    scaling.set_desired_capacity(AutoScalingGroupName="g", DesiredCapacity=3)
    assert len(instances()) == 3


def test_a_group_whose_template_can_t_be_launched_is_refused_and_leaves_nothing(lab: Ec2Lab) -> None:
    ec2, scaling = lab.client("ec2"), lab.client("autoscaling")
    ec2.create_launch_template(
        LaunchTemplateName="bad", LaunchTemplateData={"ImageId": base(ec2), "InstanceType": "t3.small"}
    )
    group = {"AutoScalingGroupName": "g", "MinSize": 1, "MaxSize": 1, "AvailabilityZones": ["eu-west-1a"]}
    with pytest.raises(ClientError, match="valid fully-formed launch template") as error:
        scaling.create_auto_scaling_group(**group, LaunchTemplate={"LaunchTemplateName": "bad"})
    assert error.value.response["Error"]["Code"] == "ValidationError"
    assert scaling.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert ec2.describe_instances()["Reservations"] == []


def test_a_group_with_a_launch_configuration_launches_all_of_it(lab: Ec2Lab) -> None:
    ec2, scaling = lab.client("ec2"), lab.client("autoscaling")
    lab.client("iam").create_instance_profile(InstanceProfileName="profile")
    scaling.create_launch_configuration(
        LaunchConfigurationName="c", ImageId=base(ec2), InstanceType="t4g.small", IamInstanceProfile="profile",
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5}}], AssociatePublicIpAddress=False,
    )  # fmt: skip
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="g", LaunchConfigurationName="c", MinSize=1, MaxSize=1, AvailabilityZones=["eu-west-1b"]
    )
    (instance,) = scaling.describe_auto_scaling_instances()["AutoScalingInstances"]
    shown = described(ec2, instance["InstanceId"])
    assert shown["IamInstanceProfile"]["Arn"].endswith("/profile")
    assert "PublicIpAddress" not in shown
    assert shown["Placement"]["AvailabilityZone"] == "eu-west-1b"
    assert "/dev/sdf" in [mapping["DeviceName"] for mapping in shown["BlockDeviceMappings"]]


def test_a_group_made_of_an_instance_launches_with_that_one_s_security_groups(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.213.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.213.0.0/24")["Subnet"]["SubnetId"]
    instance = launched(ec2, SubnetId=subnet)
    scaling = lab.client("autoscaling")
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="g", InstanceId=instance, MinSize=1, MaxSize=1, VPCZoneIdentifier=subnet
    )
    (made,) = scaling.describe_auto_scaling_instances()["AutoScalingInstances"]
    groups = described(ec2, instance)["SecurityGroups"]
    assert described(ec2, made["InstanceId"])["SecurityGroups"] == groups
