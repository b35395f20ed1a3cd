"""verify-ami against moto, whose console and Run Command are answered here as an instance would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.digest import file_sha256
from tests.support import bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.stages.verification import HEALTH, SHA, Stage, encoded, packed, staged
from zmanim_ami.pipeline import instance
from zmanim_ami.pipeline.account import network
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.verify.verification import NotVerified, VerifyResult


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as prepared:
        yield prepared


def test_a_good_image_is_tagged_with_the_digest_of_its_report(stage: Stage) -> None:
    result = stage.verify()
    assert isinstance(result, VerifyResult)
    assert stage.tag() == result.report_sha256 == file_sha256(result.report)
    assert result.health == HEALTH
    assert 0 <= result.boot["running_seconds"] <= result.boot["healthy_seconds"]
    assert stage.report()["ok"] is True
    bucket, key = bucket_name("releases", "verify"), f"reports/{stage.ami_id}.json"
    assert stage.clients.s3.get_object(Bucket=bucket, Key=key)["Body"].read() == result.report.read_bytes()
    assert all(check["ok"] for check in stage.report()["checks"])
    assert result.versions == {"kernel": "6.12.9", "os": "Amazon Linux 2023"}
    assert cloud.alive(stage.clients) == []


def test_the_instance_is_launched_as_production_is_and_without_an_open_port(stage: Stage) -> None:
    stage.verify()
    request = stage.launches[0]
    assert request["ImageId"] == stage.ami_id
    assert request["InstanceType"] == "m7g.medium"
    assert request["IamInstanceProfile.Name"] == "zmanim-verify-instance"
    assert request["MetadataOptions.HttpTokens"] == "required"
    assert request["MetadataOptions.InstanceMetadataTags"] == "enabled"
    assert request["BlockDeviceMapping.1.DeviceName"] == "/dev/sdf"
    assert request["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    tags = {
        request[f"TagSpecification.1.Tag.{n}.Key"]: request[f"TagSpecification.1.Tag.{n}.Value"] for n in range(1, 8)
    }
    assert tags["zmanim:environment"] == "verify"
    assert tags["zmanim:data-volume"] == "new"
    assert tags["zmanim:verification"] == "true"
    assert "KeyName" not in request
    (group,) = stage.clients.ec2.describe_security_groups(GroupIds=[request["SecurityGroupId.1"]])["SecurityGroups"]
    assert group["IpPermissions"] == []


def test_an_image_is_verified_by_its_id_too_and_again_when_it_is_verified_already(stage: Stage) -> None:
    stage.verify()
    result = stage.verify(version=None, ami_id=stage.ami_id)
    assert isinstance(result, VerifyResult)
    assert len(stage.launches) == 6
    assert stage.tag() == result.report_sha256


def test_the_agent_may_register_late(stage: Stage) -> None:
    stage.agent_after = 5
    assert isinstance(stage.verify(), VerifyResult)


def refused(stage: Stage, cause: str | type[BaseException]) -> str:
    """Verify, see it fail for that cause, the image untagged and the instance gone; return the message."""
    with raises(cause) if isinstance(cause, str) else pytest.raises(cause) as error:
        stage.verify()
    assert stage.tag() is None
    assert cloud.alive(stage.clients) == []
    return str(error.value)


def test_an_instance_that_never_says_ready_is_an_error_with_its_consoles_end(stage: Stage) -> None:
    stage.ready = None
    message = refused(stage, "not-ready")
    assert "[    0.0] booting" in message
    assert "300 s" in message


def ready(**changes: object) -> Callable[[Stage], None]:
    def change(stage: Stage) -> None:
        assert stage.ready is not None
        stage.ready.update(changes)

    return change


def answers(**changes: str) -> Callable[[Stage], None]:
    return lambda stage: stage.answers.update({name.replace("_", "-"): value for name, value in changes.items()})


def silent(address: str) -> Callable[[Stage], None]:
    """Return what lets nothing listen there."""
    return lambda stage: void(stage.answers.pop(f"listening {address}"))


def void(_value: object) -> None:
    """Take a value and return nothing."""


def made(path: str, seconds: str = "") -> Callable[[Stage], None]:
    """Return what lets the instance say when it made a file, or not name it."""

    def change(stage: Stage) -> None:
        del stage.answers[f"made:{path}"]
        if seconds:
            stage.answers[f"made:{path}"] = seconds

    return change


@pytest.mark.parametrize(
    ("defect", "names"),
    [
        (ready(ok=False), "ready: ok"),
        (ready(ok="true"), "ready: ok"),
        (ready(checks={"redis": {"ok": False, "required": True, "detail": "no answer"}}), "no answer"),
        (ready(version="v1.2.2"), "ready: version"),
        (ready(environment="prod"), "ready: environment"),
        (ready(binary_sha256="00" * 32), "ready: binary_sha256"),
        (answers(mapped="00" * 32), "running program"),
        (answers(main_pid="0"), "API runs"),
        (answers(manifest=encoded({"version": "v1.2.2", "sha256": SHA})), "version in the image"),
        (answers(manifest=encoded({})), "version in the image"),
        (answers(current="/opt/zmanim/releases/v1.2.2"), "release in use"),
        (answers(current="", baked=""), "release in use"),
        (answers(health_status="503"), "GET /health"),
        (answers(health=encoded({"data": {"status": "ok", "database": "down"}})), "/health: database"),
        (answers(health=""), "/health: status"),
        (made("/etc/machine-id", "1764399998"), "its own /etc/machine-id"),
        (made("/etc/ssh/ssh_host_ed25519_key", "1764300000"), "its own /etc/ssh/ssh_host_ed25519_key"),
        (made("/var/lib/systemd/random-seed", "0"), "its own /var/lib/systemd/random-seed"),
        (made("/etc/machine-id"), "no /etc/machine-id"),
        (made("/etc/ssh/ssh_host_ed25519_key"), "no /etc/ssh/ssh_host_"),
        (ready(seconds=61.0), "the setting ready_seconds"),
        (ready(seconds=None), "the setting ready_seconds"),
        (answers(**{"listening tcp *:6379": ""}), "tcp *:6379"),
        (answers(**{"listening tcp 10.0.0.7:5432": ""}), "tcp 10.0.0.7:5432"),
        (silent("tcp *:8080"), "listening"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_thing_that_is_not_as_it_has_to_be_is_named_and_the_image_not_tagged(
    stage: Stage, defect: Callable[[Stage], None], names: str
) -> None:
    defect(stage)
    message = refused(stage, "not-verified")
    assert names in message
    assert "booting" in message
    assert stage.report()["ok"] is False


@pytest.mark.parametrize("packages", ["", "AAAA", packed({})[:-8], packed({}), packed([]), packed({"a": "1"})[:-12]])
def test_an_inventory_that_was_cut_off_or_is_empty_is_not_taken_for_one(stage: Stage, packages: str) -> None:
    stage.answers["packages"] = packages
    assert "packages" in refused(stage, "answers-unreadable")


def test_a_wrong_ready_line_is_enough_and_no_command_is_run(stage: Stage) -> None:
    ready(ok=False)(stage)
    refused(stage, "not-verified")
    assert stage.scripts == []


def test_the_binary_is_compared_with_this_clones_bundle_of_the_same_commit(stage: Stage) -> None:
    bundle = stage.root / "build/bundle/v1.2.3/manifest.json"
    bundle.parent.mkdir(parents=True)
    bundle.write_text(json.dumps({"commit": "another", "sha256": "00" * 32}))
    assert isinstance(stage.verify(), VerifyResult)
    bundle.write_text(json.dumps({"commit": cloud.COMMIT, "sha256": "00" * 32}))
    with pytest.raises(NotVerified, match="bundle's binary"):
        stage.verify()


def test_an_image_that_fails_loses_the_tag_of_an_earlier_verification(stage: Stage) -> None:
    stage.verify()
    assert stage.tag()
    answers(health_status="503")(stage)
    refused(stage, "not-verified")


def test_an_instance_that_dies_is_told_with_its_console(stage: Stage) -> None:
    stage.ready = None

    def die() -> None:
        for instance_id in cloud.alive(stage.clients):
            stage.clients.ec2.terminate_instances(InstanceIds=[instance_id])

    stage.on_console = die
    assert "booting" in refused(stage, "not-ready")


@pytest.mark.parametrize("status", ["Failed", "TimedOut", "Cancelled"])
def test_a_command_that_does_not_end_well_is_an_error(stage: Stage, status: str) -> None:
    stage.status = status
    assert status in refused(stage, "command-not-run")


def test_a_command_that_never_ends_is_an_error(stage: Stage) -> None:
    stage.status = "InProgress"
    refused(stage, "command-not-run")


def test_an_agent_that_never_registers_is_an_error(stage: Stage) -> None:
    stage.agent_after = 10**6
    assert "never registered" in refused(stage, "command-not-run")


@pytest.mark.parametrize("where", ["console", "command"])
def test_an_interrupted_verification_leaves_no_instance_and_no_tag(stage: Stage, where: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if where == "console":
        stage.on_console = interrupt
    else:
        cloud.answer(stage.clients.ssm, "SendCommand", interrupt)
    refused(stage, KeyboardInterrupt)


def test_an_interrupt_between_the_launch_and_its_answer_leaves_no_instance(stage: Stage) -> None:
    launching = [False]

    def interrupt(request: Mapping[str, Any]) -> None:
        if not launching[0]:  # the inner call really launches; what is interrupted is the way back
            launching[0] = True
            body = request["body"]
            given: Any = [
                {"Key": body[f"TagSpecification.1.Tag.{n}.Key"], "Value": body[f"TagSpecification.1.Tag.{n}.Value"]}
                for n in range(1, 6)
            ]
            stage.clients.ec2.run_instances(
                ImageId=stage.ami_id,
                MinCount=1,
                MaxCount=1,
                TagSpecifications=[{"ResourceType": "instance", "Tags": given}],
            )
            assert len(cloud.alive(stage.clients)) == 1
            raise KeyboardInterrupt

    cloud.answer(stage.clients.ec2, "RunInstances", interrupt)
    refused(stage, KeyboardInterrupt)


def leave(stage: Stage, ami_id: str) -> str:
    return stage.clients.ec2.run_instances(
        ImageId=ami_id,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": instance.TAG, "Value": "true"}]}],
    )["Instances"][0]["InstanceId"]


def test_what_a_killed_run_left_is_terminated_by_the_next_one_and_said(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    leftover = leave(stage, stage.ami_id)
    stage.verify()
    assert cloud.alive(stage.clients) == []
    assert f"an earlier verification left {leftover} running" in capsys.readouterr().err


def test_another_images_verification_that_runs_now_is_left_alone_until_it_is_old(stage: Stage) -> None:
    other = cloud.make_image(stage.clients, "zmanim-v1.2.4", version="v1.2.4")
    running = leave(stage, other)
    stage.verify()
    assert cloud.alive(stage.clients) == [running]
    now = datetime.now(UTC)
    assert instance.leftovers(stage.clients, stage.ami_id, now) == []
    assert instance.leftovers(stage.clients, stage.ami_id, now + timedelta(hours=3)) == [running]


def test_a_dry_run_says_what_would_be_done_and_launches_nothing(stage: Stage) -> None:
    leftover = leave(stage, stage.ami_id)
    plan = stage.verify(dry=True)
    assert isinstance(plan, Plan)
    assert [step.action for step in plan.steps] == ["terminate", "launch", "launch", "run", "launch", "keep", "tag"]
    assert cloud.alive(stage.clients) == [leftover]
    assert stage.tag() is None


def test_an_image_that_is_not_available_is_not_launched(stage: Stage) -> None:
    item = stage.clients.ec2.describe_images(ImageIds=[stage.ami_id])["Images"][0]
    cloud.answer(stage.clients.ec2, "DescribeImages", lambda request: {"Images": [{**item, "State": "pending"}]})
    with raises("image-not-available"):
        stage.verify()
    assert stage.launches == []


def test_no_capacity_is_an_error_that_says_what_to_choose(stage: Stage) -> None:
    cloud.answer(stage.clients.ec2, "RunInstances", lambda request: "InsufficientInstanceCapacity")
    assert "verify_instance_type" in refused(stage, "not-launched")


def test_without_the_security_group_nothing_is_launched(stage: Stage) -> None:
    stage.clients.ec2.delete_security_group(GroupName=network.GROUP_NAME)
    assert "account.apply" in refused(stage, "account-not-prepared")
    assert stage.launches == []


def test_a_security_group_with_an_open_port_is_refused(stage: Stage) -> None:
    place = network.find(stage.clients, "")
    rule: Any = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    stage.clients.ec2.authorize_security_group_ingress(GroupId=place.security_group_id, IpPermissions=rule)
    refused(stage, "account-not-prepared")
    assert stage.launches == []
