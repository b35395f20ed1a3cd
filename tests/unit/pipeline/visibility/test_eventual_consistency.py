"""Each task on a day when reads lag: it waits for what it has just written, says so, and for nothing else.

The account is the local cloud's API in this process. Its clock is the pipeline's, and only waiting moves it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import botocore.awsrequest
import pytest
from botocore.compat import HTTPHeaders

from localcloud import bad_day
from localcloud.bad_day import BadDay
from support.errors import Error
from tests.support import ROOT
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.localcloud.iam import REGION, IamLab, iam_lab
from tests.support.stages.verification import Stage, good_answers, staged
from zmanim_ami.pipeline import instance, run_command
from zmanim_ami.pipeline.account import changes, requirements
from zmanim_ami.pipeline.account.keys import release_key, signing_key
from zmanim_ami.pipeline.ami import build, image, packer, provenance, sweep
from zmanim_ami.pipeline.ami.sweep import Scope
from zmanim_ami.pipeline.aws import Clients, Poller
from zmanim_ami.pipeline.backup import remote
from zmanim_ami.pipeline.channel import bucket as channel
from zmanim_ami.pipeline.publish import parameters, publication
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify.verification import VerifyResult
from zmanim_ami.pipeline.version import parse
from zmanim_ami.pipeline.visibility import PATIENCE_SECONDS, Written

POLICIES = ROOT / "infrastructure" / "iam"
WAITS = "waiting for "
LAG = BadDay(lag_seconds=6, check_seconds=8)
# Longer than anybody's patience: as good as never.
FOREVER = BadDay(lag_seconds=10_000)


@dataclass
class World:
    """An account on a day of its own, and the clients of whoever asks."""

    lab: IamLab
    directory: Path
    now: list[float] = field(default_factory=lambda: [0.0])

    def has(self, day: BadDay | None) -> None:
        bad_day.write(self.directory, day)

    def sleep(self, seconds: float) -> None:
        self.now[0] += seconds

    def poller(self) -> Poller:
        return Poller(1.0, sleep=self.sleep, clock=lambda: self.now[0])

    def clients(self, credentials: Mapping[str, str] | None = None) -> Clients:
        """Return the clients of another run, which has written nothing yet."""
        written = Written(self.sleep, lambda: self.now[0])
        services: Any = [each.name for each in fields(Clients) if each.name not in {"region", "written"}]
        made = {name: self.lab.client(name, credentials) for name in services}
        for client in made.values():
            written.watch(client)
        return Clients(**made, region=REGION, written=written)

    def asked(self, operation: str) -> int:
        lines = (self.directory / "api.jsonl").read_text().splitlines()
        return sum(json.loads(line)["operation"] == operation for line in lines)

    @contextmanager
    def account(self) -> Iterator[Clients]:
        yield self.clients()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    now = [0.0]
    (tmp_path / "cloud").mkdir()
    with iam_lab(tmp_path / "cloud", lambda: now[0]) as lab:
        yield World(lab, tmp_path / "cloud", now)


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Iterator[Stage]:
    """An account that is prepared, and an image in it, before the day turns bad."""
    account: Callable[[], AbstractContextManager[Clients]] = world.account
    with staged(tmp_path / "clone", account) as made:
        yield made


def waited(capsys: pytest.CaptureFixture[str], *what: str) -> None:
    """Assert that stderr says what was waited for."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(WAITS)]
    for each in what:
        assert any(each in line and "eventual consistency" in line for line in lines), (each, lines)


@pytest.mark.parametrize("environment", ["prod", "verify"])
def test_account_apply_makes_an_account_and_ends_when_the_next_plan_is_empty(
    world: World, environment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan() -> list[changes.Change]:
        settings = Settings(github_subject="repo:a/b:environment:{environment}")
        return requirements.plan(clients, environment, policies=POLICIES, settings=settings)

    world.has(LAG)
    clients = world.clients()
    planned = plan()
    changes.apply(planned)
    changes.settle(clients, planned, plan)
    waited(capsys, f"zmanim-{environment}-instance", "what was made")
    clients = world.clients()
    assert plan() == []


def test_build_ami_ends_when_its_image_is_seen_with_its_tags(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    version, made = parse("v1.2.3"), provenance.Provenance(cloud.COMMIT, cloud.TREE, "packer 1")
    packers = world.clients()
    instance_id = packers.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0][
        "InstanceId"
    ]
    world.has(LAG)
    ami_id = packers.ec2.create_image(InstanceId=instance_id, Name=version.image_name)["ImageId"]
    world.sleep(LAG.lag_seconds - 1)
    tags: Any = [{"Key": key, "Value": value} for key, value in made.tags(version).items()]
    world.has(None)
    world.sleep(1)
    world.has(LAG)
    packers.ec2.create_tags(Resources=[ami_id], Tags=tags)
    clients = world.clients()
    built = packer.Built(ami_id, Path("output"), Path("packer.log"))
    found = build._checked(clients, cloud.ACCOUNT, version, made, built)
    assert found.made_from(version, made)
    waited(capsys, ami_id)


def test_verify_ami_finds_its_instance_and_ends_when_its_tag_is_seen(
    world: World, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    world.has(LAG)
    # As the real one: no such instance has a console before it is seen.
    result = stage.verify(poller=world.poller())
    assert isinstance(result, VerifyResult)
    assert image.of_id(world.clients(), stage.ami_id).verified
    waited(capsys, f"zmanim:verified on {stage.ami_id}")
    world.sleep(LAG.lag_seconds)
    assert cloud.alive(world.clients()) == []


def test_verify_ami_takes_its_instance_away_though_no_search_finds_it_yet(
    world: World, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """The incident: a launch that was interrupted at once was looked for by its tag, and left running."""
    world.has(LAG)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        instance.launched(stage.clients, Settings(), image.of_id(stage.clients, stage.ami_id), world.poller()),
    ):
        interrupt()
    waited(capsys, "i-")
    world.sleep(LAG.lag_seconds)
    assert cloud.alive(world.clients()) == []


def test_a_launch_whose_answer_never_came_is_looked_for_until_it_is_seen(
    world: World, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    world.has(LAG)

    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    stage.clients.ec2.meta.events.register("after-call.ec2.RunInstances", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        instance.launched(stage.clients, Settings(), image.of_id(stage.clients, stage.ami_id), world.poller()),
    ):
        pass
    waited(capsys, "an instance that may have been launched")
    world.sleep(LAG.lag_seconds)
    assert cloud.alive(world.clients()) == []


def test_a_verification_that_fails_ends_when_the_old_tag_is_gone(world: World, stage: Stage) -> None:
    assert isinstance(stage.verify(poller=world.poller()), VerifyResult)
    stage.answers = {**good_answers(), "health-status": "503"}
    world.has(LAG)
    with pytest.raises(Error):
        stage.verify(poller=world.poller())
    assert not image.of_id(world.clients(), stage.ami_id).verified


def test_verify_ami_waits_for_capacity_and_says_so(
    world: World, stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # botocore's pauses: it tries again by itself, four times
    world.has(BadDay(no_capacity=6))
    assert isinstance(stage.verify(poller=world.poller()), VerifyResult)
    assert "waiting for capacity" in capsys.readouterr().err
    world.has(BadDay(no_capacity=1000))
    with raises("not-launched", match="InsufficientInstanceCapacity"):
        stage.verify(poller=world.poller())


def test_publish_ssm_ends_when_the_parameters_say_so(
    world: World, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.verify(poller=world.poller())
    world.has(LAG)
    published = publication.publish(world.clients(), Settings(), version=parse("v1.2.3"))
    assert isinstance(published, publication.Published)
    assert published.values["/zmanim/prod/ami-id"] == stage.ami_id
    waited(capsys, "/zmanim/prod/ami-id")


def test_publish_ssm_fails_when_aws_drops_the_image_s_id_after_all(world: World, stage: Stage) -> None:
    stage.verify(poller=world.poller())
    world.has(FOREVER)
    with raises("not-read-back"):
        publication.publish(world.clients(), Settings(), version=parse("v1.2.3"))
    assert world.now[0] <= 2 * PATIENCE_SECONDS


def test_a_release_is_published_though_each_answer_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The incident: S3 refuses the repetition of a conditional write, and our own release was taken for another's."""
    clients = world.clients()
    cloud.make_bucket(clients, "releases", "prod")
    signing_key.create(clients, release_key.of("prod"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    world.has(BadDay(lost=1))
    assert channel.put(clients, "prod", "bundles/x", b"ours")
    assert not channel.put(clients, "prod", "bundles/x", b"another's")
    channel.move(clients, "prod", b"first", None)
    with raises("channel-moved"):
        channel.move(clients, "prod", b"second", None)


def test_an_account_is_made_though_each_answer_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    world.has(BadDay(lost=1))
    clients = world.clients()
    changes.apply(requirements.plan(clients, "verify", policies=POLICIES))
    assert requirements.plan(clients, "verify", policies=POLICIES) == []


def test_sweep_takes_away_what_it_sees_on_such_a_day_too(world: World) -> None:
    clients = world.clients()
    tags: Any = [{"ResourceType": "instance", "Tags": [{"Key": "zmanim:run", "Value": "7"}]}]
    clients.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=tags)
    world.has(LAG)
    sweep.apply(clients, sweep.plan(clients, Scope("7")), world.poller())
    assert cloud.alive(clients) == []


# ---- A command for an instance whose agent has not registered ----


def command(world: World, clients: Clients, instance_id: str, refusals: list[str]) -> str:
    """Run a script on an instance that SSM refuses with each of these first; botocore gets them as answers."""

    def send(request: Any, **_: Any) -> Any:
        if refusals:
            return _answer(request, 400, {"__type": refusals.pop(0), "message": "by the test"})
        return _answer(request, 200, {"Command": {"CommandId": "0" * 36}})

    clients.ssm.meta.events.register_first("before-send.ssm.SendCommand", send)
    done = {"Status": "Success", "StandardOutputContent": "done", "StandardErrorContent": ""}
    cloud.answer(clients.ssm, "GetCommandInvocation", lambda _request: done)
    return run_command.run_script(clients, instance_id, "true", 120, world.poller())


def _answer(request: Any, status: int, body: Mapping[str, Any]) -> Any:
    return botocore.awsrequest.AWSResponse(request.url, status, HTTPHeaders(), _Raw(json.dumps(body)))


class _Raw:
    def __init__(self, text: str) -> None:
        self._text = text.encode()

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._text


def launched(clients: Clients) -> str:
    ran = clients.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
    return str(ran["Instances"][0]["InstanceId"])


def test_a_command_for_this_run_s_own_instance_waits_for_its_agent(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    clients = world.clients()
    own = launched(clients)
    assert (
        command(world, clients, own, ["AccessDeniedException", "InvalidInstanceId", "AccessDeniedException"]) == "done"
    )
    waited(capsys, own)


@pytest.mark.parametrize("task", ["make", "listed", "drill", "adopt"])
def test_a_denial_of_a_command_for_any_other_instance_is_told_at_once(world: World, task: str) -> None:
    other = launched(world.clients())
    clients = world.clients()
    refusals = ["AccessDeniedException"] * 50

    def send(request: Any, **_: Any) -> Any:
        return _answer(request, 400, {"__type": refusals.pop(), "message": "by the test"})

    clients.ssm.meta.events.register_first("before-send.ssm.SendCommand", send)
    with raises("not-allowed"):
        getattr(remote, task)(clients, other, world.poller())
    assert len(refusals) == 49
    assert world.now[0] == 0


# ---- A denial of anything else ----

DENIED: Mapping[str, tuple[str, Callable[[Clients], object]]] = {
    "account.apply": ("ListRolePolicies", lambda clients: requirements.plan(clients, "prod", policies=POLICIES)),
    "build-ami": ("DescribeImages", lambda clients: image.of_name(clients, "zmanim-v1.2.3")),
    "verify-ami": ("DescribeInstances", lambda clients: instance.leftovers(clients, "ami-1", None)),  # type: ignore[arg-type]  # it does not come to the comparison
    "publish-ssm": ("GetParameter", lambda clients: parameters.read_parameter(clients, "/zmanim/prod/ami-id")),
    "release.publish": ("GetParameter", lambda clients: channel.read(clients, "prod", channel.POINTER)),
    "sweep": ("DescribeInstances", lambda clients: sweep.plan(clients, Scope("7"))),
}


@pytest.mark.parametrize("task", DENIED)
def test_a_denial_of_what_this_run_has_not_written_is_told_at_once(world: World, task: str) -> None:
    operation, call = DENIED[task]
    owner = world.clients()
    changes.apply(requirements.plan(owner, "prod", policies=POLICIES))
    allowed = {"Effect": "Allow", "Action": ["sts:*", "s3:HeadBucket", "ssm:PutParameter"], "Resource": "*"}
    buckets = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:Get*Configuration", "s3:GetBucket*"], "Resource": "*"}
    most = [allowed, buckets] if task == "account.apply" else [allowed]
    if task == "account.apply":
        most.append({"Effect": "Allow", "Action": ["ssm:DescribeParameters", "kms:GetPublicKey"], "Resource": "*"})
    denied = world.clients(world.lab.role("nobody", *most))
    denied.ssm.put_parameter(Name="/zmanim/other", Value="x", Type="String")  # something it has written
    before = world.asked(operation)
    with raises("not-allowed"):
        call(denied)
    assert world.asked(operation) == before + 1
    assert world.now[0] == 0


def test_a_denial_of_what_this_run_has_written_is_told_after_30_seconds(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    wrote = {"Effect": "Allow", "Action": "ssm:PutParameter", "Resource": "*"}
    clients = world.clients(world.lab.role("writer", wrote))
    clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value="x", Type="String")
    with raises("not-allowed"):
        parameters.read_parameter(clients, "/zmanim/prod/ami-id")
    assert PATIENCE_SECONDS - 2 <= world.now[0] <= PATIENCE_SECONDS
    waited(capsys, "/zmanim/prod/ami-id")


def test_what_was_deleted_is_missing_at_once(world: World) -> None:
    clients = world.clients()
    clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value="x", Type="String")
    clients.ssm.delete_parameter(Name="/zmanim/prod/ami-id")
    assert parameters.read_parameter(clients, "/zmanim/prod/ami-id") is None
    assert world.now[0] == 0


def test_who_waits_is_throttled_and_waits_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The incident in view: a wait makes more calls than an SDK has retries, and each of them may be throttled."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    clients = world.clients()
    world.has(BadDay(lag_seconds=20, throttled=0.3, seed=1))
    clients.ssm.put_parameter(Name="/zmanim/prod/ami-id", Value="x", Type="String")
    assert parameters.read_parameter(clients, "/zmanim/prod/ami-id") is not None
