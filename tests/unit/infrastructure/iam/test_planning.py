"""Who only looks plans what a promotion or a rollback would move, as the workflow `publication` has it done first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import pytest

from tests.support.localcloud.iam import KEY, REGION, IamLab
from zmanim_ami.pipeline.account import workflow_roles
from zmanim_ami.pipeline.ami import image as amis
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.publish import parameters, publication, record
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse
from zmanim_ami.pipeline.visibility import Written
from zmanim_ami.rehearsal import identity

PREFIX, DIGEST = Settings().parameter_prefix, "a" * 64
SERVICES = [field.name for field in fields(Clients) if field.name not in {"region", "written"}]


def clients(lab: IamLab, credentials: Mapping[str, str] | None = None) -> Clients:
    return Clients(**{name: lab.client(name, credentials) for name in SERVICES}, region=REGION, written=Written())


def looking(lab: IamLab) -> Clients:
    """The clients of the job that plans."""
    sts, name = lab.client("sts"), workflow_roles.name("look")
    token = identity.token("look", "refs/heads/main", KEY)
    arn = lab.client("iam").get_role(RoleName=name)["Role"]["Arn"]
    taken = sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="look", WebIdentityToken=token)
    return clients(lab, taken["Credentials"])


@pytest.fixture(scope="module")
def published(lab: IamLab) -> Mapping[str, str]:
    """Two versions that were published one after the other; their images."""
    owner, made = clients(lab), dict[str, str]()
    for version in ("v3.0.0", "v3.0.1"):
        ami_id = str(owner.ec2.register_image(Name=f"zmanim-{version}", RootDeviceName="/dev/xvda")["ImageId"])
        tags = {"zmanim:version": version, "zmanim:run": "7", amis.VERIFIED_TAG: DIGEST}
        owner.ec2.create_tags(Resources=[ami_id], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
        owner.ec2.enable_image_deregistration_protection(ImageId=ami_id)
        record.write(owner, PREFIX, record.Record(version, {REGION: ami_id}, DIGEST))
        parameters.read(owner, PREFIX).move(parameters.Target(ami_id, version), yielding=True)
        made[version] = ami_id
    return made


def test_who_looks_plans_a_rollback_and_moves_nothing(lab: IamLab, published: Mapping[str, str]) -> None:
    plan = publication.roll_back(looking(lab), Settings(), dry=True)
    assert isinstance(plan, Plan)
    assert [each.subject for each in plan.steps] == [
        f"{PREFIX}/ami-version = v3.0.0 in {REGION}",
        f"{PREFIX}/ami-id = {published['v3.0.0']} in {REGION}",
    ]
    now = parameters.read(clients(lab), PREFIX)
    assert now.ami_id is not None
    assert now.ami_id.value == published["v3.0.1"]


def test_who_looks_plans_a_promotion(lab: IamLab, published: Mapping[str, str]) -> None:
    parameters.read(clients(lab), PREFIX).move(parameters.Target(published["v3.0.0"], "v3.0.0"), yielding=False)
    plan = publication.promote(looking(lab), Settings(), version=parse("v3.0.1"), dry=True)
    assert isinstance(plan, Plan)
    assert [each.action for each in plan.steps] == ["write", "write"]
