"""Every action of every policy is needed: the record of what was asked, decided again without it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import boto3
import pytest

from localcloud.iam.policy import Statement, read
from localcloud.settings import ACCOUNT
from tests.support import ROOT, bucket_name
from tests.support.machines.image import ENVIRONMENT, VERSION, ImageLab, copy_work_tree
from tests.support.machines.lab import wait_for
from tests.support.replay import read_record, unneeded
from zmanim_ami.pipeline.account import public_parameters, roles, workflow_roles
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.channel import bucket as channel
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify import verification
from zmanim_ami.pipeline.visibility import Written
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import identity

POLICIES = ROOT / "infrastructure" / "iam"
RUN = "7"
REPLACED, RETIRED = "v9.1.0", "v0.0.1"
COPIES = identity.COPIES
KEY = "alias/zmanim-images"
SETTINGS = {
    "ZMANIM_AMI_USERS": "210987654321",
    "ZMANIM_AMI_REGIONS": ",".join(COPIES),
    "ZMANIM_KMS_KEY_ID": KEY,
    "ZMANIM_DEPRECATE_DAYS": "90",
    "ZMANIM_RUN": RUN,
}
DEFAULTS = Settings()
VALUES = {
    "account": ACCOUNT,
    "region": "eu-west-1",
    "environment": ENVIRONMENT,
    "parameters": DEFAULTS.parameter_prefix,
    "mail_from": DEFAULTS.mail_from,
    "mail_to": DEFAULTS.mail_to,
    "backups_bucket": bucket_name("backups", ENVIRONMENT),
    "releases_bucket": bucket_name("releases", ENVIRONMENT),
    "every_releases_bucket": public_parameters.pattern(DEFAULTS.releases_bucket),
    "verify_releases_bucket": bucket_name("releases", "verify"),
}


def policies() -> dict[str, tuple[Statement, ...]]:
    """Return the statements of the policies by the name of their role."""
    result = {workflow_roles.name(step): _read(step) for step in workflow_roles.STEPS}
    return {**result, roles.name(ENVIRONMENT): _read("instance")}


def only_aws_asks() -> set[str]:
    """Return the actions that no request here can need."""
    pages = tomllib.loads((POLICIES / "only-aws-asks.toml").read_text())
    return {action for page in pages.values() for action in page["actions"]}


def _read(name: str) -> tuple[Statement, ...]:
    return read(roles.read(POLICIES / f"{name}.json", [VALUES], identity.COPIES), name)


def clients_of(lab: ImageLab, step: str) -> Clients:
    """Return clients with the role of a step."""
    taken = identity.environment_of(step, lab.cloud, {}, f"refs/tags/{VERSION}-ami")
    session = boto3.Session(
        taken["AWS_ACCESS_KEY_ID"],
        taken["AWS_SECRET_ACCESS_KEY"],
        taken["AWS_SESSION_TOKEN"],
        region_name=lab.cloud.region,
    )
    services: Any = [field.name for field in fields(Clients) if field.name not in {"region", "written"}]
    made = {service: session.client(service, endpoint_url=lab.cloud.endpoint) for service in services}
    return Clients(**made, region=lab.cloud.region, written=Written())


def decisions(lab: ImageLab) -> list[Any]:
    """Return what the cloud has decided so far, in order."""
    record: Path = lab.cloud.directory / "authorization.jsonl"
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


@pytest.fixture(scope="module")
def earlier(images: ImageLab) -> int:
    """How many decisions there were before: other tests try what is forbidden."""
    return len(decisions(images))


@pytest.fixture(scope="module")
def used(images: ImageLab, served: str, earlier: int, tmp_path_factory: pytest.TempPathFactory) -> ImageLab:
    """The cloud after every step has been made under its own role, in good ways and in bad."""
    _release(images)
    _replace(images, tmp_path_factory.mktemp("clone") / "clone")
    _sweep(images)
    _retire(images)
    _withdraw(images)
    _live(images, served)
    return images


def _release(lab: ImageLab) -> None:
    lab.task("verify-ami", "--version", VERSION, step="verify")
    iam, name = lab.client("iam"), workflow_roles.name("publish")
    whole = iam.get_role_policy(RoleName=name, PolicyName="publish")["PolicyDocument"]
    lab.ssm.delete_parameters(Names=["/zmanim/prod/ami-id", "/zmanim/prod/ami-version"])
    # Without the right to the pointer the label, which is written first, is taken back.
    pointer = f"arn:aws:ssm:{lab.cloud.region}:{ACCOUNT}:parameter/zmanim/prod/ami-id"
    deny = {"Sid": "Trial", "Effect": "Deny", "Action": "ssm:PutParameter", "Resource": pointer}
    narrowed = {**whole, "Statement": [*whole["Statement"], deny]}
    iam.put_role_policy(RoleName=name, PolicyName="publish", PolicyDocument=json.dumps(narrowed))
    failed = lab.try_task("publish-ssm", "--version", VERSION, step="publish")
    assert failed.returncode == 1, failed.stderr
    assert "putting /zmanim/prod/ami-version back" in failed.stderr
    assert lab.ssm.get_parameters(Names=["/zmanim/prod/ami-version"])["Parameters"] == []
    iam.put_role_policy(RoleName=name, PolicyName="publish", PolicyDocument=json.dumps(whole))
    lab.task("publish-ssm", "--version", VERSION, step="publish")
    for again in (["image.rollback", "--to", VERSION], ["image.promote", "--version", VERSION], ["image.history"]):
        lab.task(*again, step="publish")
        lab.task(*again, "--dry", step="look")  # who only looks can plan it
    # With the published image's report, and without it.
    for unknown in ("", "no report on the published image was kept"):
        report = json.loads(lab.task("show-verification", "--version", VERSION, "--json", step="verify"))
        assert report["published"]["unknown"] == unknown
        assert report["published"]["ami_id"] == lab.image
        lab.client("s3").delete_object(Bucket=bucket_name("releases", "verify"), Key=f"reports/{lab.image}.json")


def _replace(lab: ImageLab, clone: Path) -> None:
    """Build over an image of the same name that was made from something else, with every setting of a build set."""
    ec2 = lab.ec2
    _encrypt_with(lab, KEY)
    old = ec2.copy_image(SourceImageId=lab.image, SourceRegion=lab.cloud.region, Name=f"zmanim-{REPLACED}")["ImageId"]
    tags = [{"Key": "zmanim:version", "Value": REPLACED}, {"Key": "zmanim:run", "Value": "by-hand"}]
    (shown,) = ec2.describe_images(ImageIds=[old])["Images"]
    snapshots = [mapping["Ebs"]["SnapshotId"] for mapping in shown["BlockDeviceMappings"]]
    ec2.create_tags(Resources=[old, *snapshots], Tags=tags)
    copy_work_tree(clone)
    subnet = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"][0]["SubnetId"]
    # With a channel that something was published to: what the newest serial is goes into the image.
    owner = clouds.connect(lab.environment, lab.cloud.region)
    payload = channel.Payload(1, "prod", 1, "2099-01-01T00:00:00Z", "v0.0.1", "0" * 64, 1, "aarch64", "v0.0.0", False)
    assert channel.put(owner, "prod", channel.POINTER, channel.signed(owner, "prod", payload))
    there: Any = lab.session.client("ec2", region_name=COPIES[0], endpoint_url=lab.cloud.endpoint)
    stale = there.copy_image(SourceImageId=old, SourceRegion=lab.cloud.region, Name=f"zmanim-{REPLACED}")["ImageId"]
    (in_the_way,) = there.describe_images(ImageIds=[stale])["Images"]
    stale_ones = [stale, *(mapping["Ebs"]["SnapshotId"] for mapping in in_the_way["BlockDeviceMappings"])]
    there.create_tags(Resources=stale_ones, Tags=tags)
    settings = {**SETTINGS, "ZMANIM_SUBNET_ID": subnet}
    built = lab.task(
        "build-ami", "--version", REPLACED, "--replace", "--json", directory=clone, step="build", **settings
    )
    _check_distribution(lab, json.loads(built))
    owner.s3.delete_object(Bucket=channel.bucket(owner, "prod"), Key=channel.POINTER)
    remaining = ec2.describe_images(Filters=[{"Name": "image-id", "Values": [old]}])["Images"]
    assert remaining == []


def _encrypt_with(lab: ImageLab, alias: str) -> None:
    """Give the account a key of that alias wherever images are."""
    for region in (lab.cloud.region, *COPIES):
        kms = lab.session.client("kms", region_name=region, endpoint_url=lab.cloud.endpoint)
        kms.create_alias(AliasName=alias, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])


def _check_distribution(lab: ImageLab, built: Mapping[str, Any]) -> None:
    """See that the image and each of its copies is what the settings say, and the builder had its credits."""
    assert set(built["copies"]) == set(COPIES)
    for region, ami_id in {lab.cloud.region: built["ami_id"], **built["copies"]}.items():
        ec2 = lab.session.client("ec2", region_name=region, endpoint_url=lab.cloud.endpoint)
        (shown,) = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [f"zmanim-{REPLACED}"]}])[
            "Images"
        ]
        assert (shown["ImageId"], shown["State"], shown["ImdsSupport"]) == (ami_id, "available", "v2.0")
        assert shown["DeprecationTime"]
        assert shown["BlockDeviceMappings"][0]["Ebs"]["KmsKeyId"] == KEY
        shared = ec2.describe_image_attribute(ImageId=ami_id, Attribute="launchPermission")["LaunchPermissions"]
        assert shared == [{"UserId": SETTINGS["ZMANIM_AMI_USERS"]}]
        (snapshot,) = ec2.describe_snapshots(SnapshotIds=[shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]])[
            "Snapshots"
        ]
        for tagged in (shown, snapshot):
            assert {"Key": "zmanim:run", "Value": RUN} in tagged["Tags"]
    mine = lab.ec2.describe_instances(Filters=[{"Name": "tag:zmanim:builder", "Values": ["true"]}])["Reservations"]
    paid = lab.ec2.describe_instance_credit_specifications(
        InstanceIds=[instance["InstanceId"] for one in mine for instance in one["Instances"]]
    )["InstanceCreditSpecifications"]
    assert {each["CpuCredits"] for each in paid} == {"unlimited"}


def _sweep(lab: ImageLab) -> None:
    """Leave a builder with all that it has, a volume and the image, as a runner that was lost does."""
    tags = [{"Key": "zmanim:run", "Value": RUN}]

    def tagged(kind: str) -> list[dict[str, object]]:
        return [{"ResourceType": kind, "Tags": tags}]

    lab.ec2.create_key_pair(KeyName="packer_left", TagSpecifications=tagged("key-pair"))
    group = lab.ec2.create_security_group(
        GroupName="packer_left", Description="x", TagSpecifications=tagged("security-group")
    )["GroupId"]
    lab.ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a", TagSpecifications=tagged("volume"))
    lab.launch(SecurityGroupIds=[group], TagSpecifications=tagged("instance"))
    result = json.loads(lab.task("sweep", "--run", RUN, "--apply", "--json", directory=ROOT, step="build", **SETTINGS))
    kinds = {"instance", "volume", "image", "snapshot", "security group", "key pair"}
    assert {each["kind"] for each in result} == kinds
    assert len([each for each in result if each["kind"] == "image"]) == 1 + len(COPIES)
    assert json.loads(lab.task("sweep", "--run", RUN, "--json", directory=ROOT, step="build", **SETTINGS)) == []
    assert lab.ec2.describe_images(ImageIds=[lab.image])["Images"]


def _retire(lab: ImageLab) -> None:
    """Take an image with a copy through all its steps, and look at it before."""
    tags = {"zmanim:version": RETIRED, "zmanim:run": "by-hand", "zmanim:verified": "ab" * 32}
    there: Any = lab.session.client("ec2", region_name=COPIES[0], endpoint_url=lab.cloud.endpoint)

    def copy(ec2: Any, source: str, region: str, **more: str) -> str:
        ami_id = ec2.copy_image(SourceImageId=source, SourceRegion=region, Name=f"zmanim-{RETIRED}")["ImageId"]
        (shown,) = ec2.describe_images(ImageIds=[ami_id])["Images"]
        everything = [ami_id, *(mapping["Ebs"]["SnapshotId"] for mapping in shown["BlockDeviceMappings"])]
        listed = [{"Key": name, "Value": value} for name, value in {**tags, **more}.items()]
        ec2.create_tags(Resources=everything, Tags=listed)
        ec2.enable_image_deregistration_protection(ImageId=ami_id)
        return str(ami_id)

    home = copy(lab.ec2, lab.image, lab.cloud.region)
    images = {lab.cloud.region: home, COPIES[0]: copy(there, home, lab.cloud.region, **{"zmanim:copy-of": home})}
    content = json.dumps({"version": RETIRED, "images": images, "report": "ab" * 32})
    lab.ssm.put_parameter(Name=f"/zmanim/prod/images/{RETIRED}", Value=content, Type="String")
    lab.ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData={"ImageId": lab.image})
    # Its tag says that it is verified, and nobody has signed that.
    unsigned = lab.try_task("publish-ssm", "--version", RETIRED, step="publish")
    assert unsigned.returncode == 2, unsigned.stderr
    assert "no statement about it" in unsigned.stderr
    settings: dict[str, Any] = {
        "ZMANIM_AMI_REGIONS": COPIES[0],
        **{f"ZMANIM_RETIRE_{name}": value for name, value in (("KEEP", "1"), ("DAYS", "0"), ("STEP_DAYS", "0"))},
    }
    for task in ("image.list", "image.retire", "image.history"):
        assert json.loads(lab.task(task, "--json", step="look", **settings))
    lab.task("image.show", "--version", RETIRED, step="look", **settings)
    for step in ("look", "verify"):
        lab.task("image.diff", "--version", RETIRED, "--against", VERSION, step=step)
    checked = lab.try_task("image.check", step="look", **settings)
    assert checked.returncode == 1, checked.stderr  # v9.0.0 was published in one region only
    for action in ("deprecate", "disable", "deregister"):
        done = json.loads(lab.task("image.retire", "--apply", "--json", step="retire", **settings))
        assert [(row["action"], row["ami_id"]) for row in done] == [(action, home)]
    assert (
        there.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [f"zmanim-{RETIRED}"]}])["Images"]
        == []
    )
    lab.ec2.delete_launch_template(LaunchTemplateName="web")
    lab.ssm.delete_parameter(Name=f"/zmanim/prod/images/{RETIRED}")


def _withdraw(lab: ImageLab) -> None:
    clients = clients_of(lab, "verify")
    verification.withdraw(clients, image.of_id(clients, lab.image))
    assert not image.of_id(clients, lab.image).verified


def _live(lab: ImageLab, machine: str) -> None:
    """Have a machine do what it does in a year: back up, apply the retention, fail and say so."""
    lab.run(machine, "systemctl start restic-backup.service")
    # What a backup does where machines do not come and go: it says once that there is a repository.
    name = public_parameters.parameter(ENVIRONMENT, public_parameters.MARKER)
    note = f"aws ssm put-parameter --name {name} --type String --value s3:here --no-overwrite"
    lab.run(machine, f". /run/zmanim/environment; AWS_REGION=$AWS_REGION {note}")
    lab.ssm.delete_parameter(Name=name)
    lab.run(machine, "systemctl start backup-notify@a-test.service")
    calls = lab.cloud.directory / "api.jsonl"
    wait_for(lambda: '"SendEmail"' in calls.read_text(), what="a mail")


def test_every_action_of_every_policy_is_needed_or_asked_for_by_aws_alone(used: ImageLab) -> None:
    exempt = only_aws_asks()
    record = read_record(used.cloud.directory / "authorization.jsonl")
    result = [each for each in unneeded(policies(), record) if each.action not in exempt]
    assert result == []


def test_nothing_was_refused_to_a_role_that_does_its_own_step(used: ImageLab, earlier: int) -> None:
    refused = [raw for raw in decisions(used)[earlier:] if not raw["decision"]["allowed"]]
    # The one refusal that was brought about: publishing without the right to the pointer.
    assert {(raw["role"], raw["action"], raw["resource"].rpartition("/")[2]) for raw in refused} == {
        ("zmanim-publish", "ssm:PutParameter", "ami-id")
    }


def test_every_condition_was_decided(used: ImageLab) -> None:
    lines = (used.cloud.directory / "authorization.jsonl").read_text().splitlines()
    assert {key for raw in map(json.loads, lines) for key in raw["decision"]["undecided"]} == set()
