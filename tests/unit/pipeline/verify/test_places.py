"""Where AWS has no place for a verification, the task names the settings that choose another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.localcloud.iam import IamLab
from tests.unit.localcloud.ec2.account import clients, delete_default_vpc, ec2_lab, made_image
from zmanim_ami.pipeline import instance
from zmanim_ami.pipeline.account import network
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    with ec2_lab(tmp_path) as made:
        yield made


@pytest.fixture
def account(lab: IamLab) -> Clients:
    """An account in which something can be verified."""
    made = clients(lab)
    made.ec2.create_security_group(GroupName=network.GROUP_NAME, Description="x")
    made.iam.create_instance_profile(InstanceProfileName="zmanim-verify-instance")
    return made


def launch(account: Clients, settings: Settings) -> None:
    ami = image.of_id(account, made_image(account.ec2, "zmanim-v1.2.3"))
    with instance.launched(account, settings, ami, cloud.hurried()):
        raise AssertionError("it was launched")


def test_a_zone_without_the_type_is_told_with_the_settings_for_another(account: Clients) -> None:
    zone = [{"Name": "availability-zone", "Values": ["eu-west-1a"]}]
    subnet = account.ec2.describe_subnets(Filters=zone)["Subnets"][0].get("SubnetId", "")  # type: ignore[arg-type]
    with raises("not-launched") as error:
        launch(account, Settings(verify_instance_type="hpc7g.4xlarge", subnet_id=subnet))
    assert "choosing eu-west-1b" in error.value.found
    assert "verify_instance_type" in error.value.fix
    assert "subnet_id" in error.value.fix


def test_an_account_without_a_default_vpc_is_told_the_setting_and_the_task_that_makes_a_network(
    account: Clients,
) -> None:
    ami = image.of_id(account, made_image(account.ec2, "zmanim-v1.2.3"))
    delete_default_vpc(account.ec2)
    with (
        raises("account-not-prepared") as error,
        instance.launched(account, Settings(), ami, cloud.hurried()),
    ):
        raise AssertionError("it was launched")
    assert "setting subnet_id" in error.value.expected
    assert "account.apply" in error.value.fix
