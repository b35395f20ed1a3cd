"""An account as account.apply makes it, with something in it that is not this project's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support import ROOT
from tests.support.localcloud.iam import REGION, IamLab, iam_lab
from zmanim_ami.pipeline.account import changes, requirements
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.rehearsal import identity

POLICIES = ROOT / "infrastructure" / "iam"
SETTINGS = Settings(github_subject=identity.SUBJECT)
SERVICES = [field.name for field in fields(Clients) if field.name not in {"region", "written"}]
RUN = [{"Key": "zmanim:run", "Value": "7"}]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IamLab]:
    with iam_lab(tmp_path_factory.mktemp("iam")) as made:
        clients = cast(
            Clients,
            SimpleNamespace(**{name: made.client(name) for name in SERVICES}, region=REGION),
        )
        for environment in ("prod", "verify"):
            changes.apply(requirements.plan(clients, environment, policies=POLICIES, settings=SETTINGS))
        for environment in ("prod", "verify"):
            assert requirements.plan(clients, environment, policies=POLICIES, settings=SETTINGS) == []
        yield made


@pytest.fixture(scope="module")
def image(lab: IamLab) -> str:
    made = lab.client("ec2").register_image(Name="zmanim-v1.0.0", RootDeviceName="/dev/xvda")["ImageId"]
    lab.client("ec2").create_tags(Resources=[made], Tags=RUN)
    return str(made)


@pytest.fixture(scope="module")
def foreign(lab: IamLab) -> Mapping[str, str]:
    """Things in the account that are not this project's."""
    ec2 = lab.client("ec2")
    image = ec2.register_image(Name="foreign", RootDeviceName="/dev/xvda")["ImageId"]
    instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    volume = ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    group = ec2.create_security_group(GroupName="foreign", Description="x")["GroupId"]
    ec2.create_key_pair(KeyName="foreign")
    return {"image": image, "instance": instance, "volume": volume, "snapshot": snapshot, "group": group}
