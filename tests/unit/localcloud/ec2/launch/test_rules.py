"""Launches that AWS refuses for where and how they are to run."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud.iam import IamLab, refused
from tests.unit.localcloud.ec2.account import base, delete_default_vpc


def launch(ec2: Any, instance_type: str = "t4g.small", **given: Any) -> str:
    launched = ec2.run_instances(ImageId=base(ec2), InstanceType=instance_type, MinCount=1, MaxCount=1, **given)
    return str(launched["Instances"][0]["InstanceId"])


@pytest.mark.parametrize("wanted", ["standard", "unlimited"])
def test_a_burstable_instance_has_the_cpu_credits_that_its_launch_asked_for(lab: IamLab, wanted: str) -> None:
    ec2 = lab.client("ec2")
    instance = launch(ec2, CreditSpecification={"CpuCredits": wanted})
    (shown,) = ec2.describe_instance_credit_specifications(InstanceIds=[instance])["InstanceCreditSpecifications"]
    assert shown == {"InstanceId": instance, "CpuCredits": wanted}


def test_a_launch_that_says_nothing_of_credits_gets_what_its_type_has(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    burstable, _other = launch(ec2), launch(ec2, "m7g.medium")
    unlimited = ec2.describe_instance_credit_specifications()["InstanceCreditSpecifications"]
    assert unlimited == [{"InstanceId": burstable, "CpuCredits": "unlimited"}]


def test_credits_of_a_type_without_them_are_refused(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    for wanted in ("standard", "unlimited"):
        with pytest.raises(ClientError, match=r"The m7g\.medium instance type does not support T2 Unlimited") as error:
            launch(ec2, "m7g.medium", CreditSpecification={"CpuCredits": wanted})
        assert error.value.response["Error"]["Code"] == "InstanceCreditSpecification.NotSupported"
    assert refused(launch, ec2, CreditSpecification={"CpuCredits": "some"}) == "InvalidParameterValue"
    assert ec2.describe_instances()["Reservations"] == []


def test_an_account_without_a_default_vpc_launches_nothing_where_no_subnet_is_named(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    delete_default_vpc(ec2)
    with pytest.raises(ClientError, match="No default VPC for this user"):
        launch(ec2)
    assert refused(launch, ec2) == "VPCIdNotSpecified"
    assert refused(ec2.create_security_group, GroupName="x", Description="x") == "VPCIdNotSpecified"


def test_a_vpc_of_one_s_own_takes_the_place_of_the_default_one_where_it_is_named(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    delete_default_vpc(ec2)
    vpc = ec2.create_vpc(CidrBlock="10.90.0.0/24")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.90.0.0/25", AvailabilityZone="eu-west-1b")["Subnet"]
    assert ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"] == []
    group = ec2.create_security_group(GroupName="x", Description="x", VpcId=vpc)["GroupId"]
    assert launch(ec2, SubnetId=subnet["SubnetId"], SecurityGroupIds=[group])


def test_a_zone_that_lacks_the_instance_type_refuses_it_and_names_those_that_have_it(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    subnets = {each["AvailabilityZone"]: each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]}
    with pytest.raises(ClientError) as error:
        launch(ec2, "hpc7g.4xlarge", SubnetId=subnets["eu-west-1a"])
    assert error.value.response["Error"]["Code"] == "Unsupported"
    assert error.value.response["Error"]["Message"] == (
        "Your requested instance type (hpc7g.4xlarge) is not supported in your requested Availability Zone "
        "(eu-west-1a). Please retry your request by not specifying an Availability Zone or choosing eu-west-1b."
    )
    assert launch(ec2, "hpc7g.4xlarge", SubnetId=subnets["eu-west-1b"])
