"""An account with two verified images and an instance that runs the older one, with data and an address."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.ec2.models import ec2_backends

from tests.support import pipeline_cloud as cloud
from zmanim_ami.pipeline import instance
from zmanim_ami.pipeline.account import roles
from zmanim_ami.pipeline.aws import Clients, Poller
from zmanim_ami.pipeline.instances import journal
from zmanim_ami.pipeline.instances.swap import Swapped, swap
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse
from zmanim_host.readiness import console_lines

OLD, NEW = "v1.2.3", "v1.2.4"
TYPE = "m7g.medium"
RUN = {"run": "20261124T030212Z-0a1b2c", "time": "2026-11-24T03:02:12Z", "state": "complete", "bytes": 9}
RUNS = json.dumps([{**RUN, "future": False, "proven": "2026-11-24T04:00:00Z"}])


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@dataclass
class World:
    """An account whose instances say what a test wants; `old` runs OLD, `images` are by their versions.

    What they say hangs on which image they are of, and which is the last that had the volume's database: `changes`
    says whether NEW changes that. `broken` are images whose instances are not ready.
    """

    clients: Clients
    images: dict[str, str]
    old: str = ""
    volume: str = ""
    address: str = ""
    used_percent: int = 12
    busy: bool = False
    changes: bool = False
    broken: set[str] = field(default_factory=set)
    # Instances whose agent is away.
    silent: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    scripts: list[tuple[str, str]] = field(default_factory=list)
    # Volumes that an instance of NEW ran with, and instances whose API was stopped since they were started.
    touched: set[str] = field(default_factory=set)
    quiet: set[str] = field(default_factory=set)

    @property
    def poller(self) -> Poller:
        return cloud.hurried()

    def swap(self, to: str = NEW, **options: Any) -> Swapped | Plan:
        return swap(self.clients, Settings(), to=parse(to), **{"poller": self.poller, **options})

    def described(self, instance_id: str) -> Any:
        (item,) = self.clients.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        return item["Instances"][0]

    def version(self, instance_id: str) -> str:
        ami_id = self.described(instance_id)["ImageId"]
        return next(version for version, each in self.images.items() if each == ami_id)

    def data_volume(self, instance_id: str) -> str:
        mapped = self.described(instance_id)["BlockDeviceMappings"]
        return next((each["Ebs"]["VolumeId"] for each in mapped if each["DeviceName"] == instance.DATA_DEVICE), "")

    def state(self, instance_id: str) -> str:
        return str(self.described(instance_id)["State"]["Name"])

    def serves(self) -> list[str]:
        """Return the instances that serve: they run, have the data, and their API was not stopped."""
        running = [each for each in cloud.alive(self.clients) if self.state(each) == "running"]
        return [each for each in running if self.data_volume(each) and each not in self.quiet]

    def leads_to(self) -> str:
        """Return the instance that the address leads to."""
        (found,) = self.clients.ec2.describe_addresses(PublicIps=[self.address])["Addresses"]
        return found.get("InstanceId", "")

    def unfinished(self) -> list[journal.Entry]:
        return [each.entry for each in journal.find(self.clients, "prod")]

    def tags(self, resource: str) -> dict[str, str]:
        filters: Any = [{"Name": "resource-id", "Values": [resource]}]
        return {each["Key"]: each["Value"] for each in self.clients.ec2.describe_tags(Filters=filters)["Tags"]}

    # ---- What the instances answer ----

    def console(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        instance_id = request["body"]["InstanceId"]
        text = "[    0.0] booting\r\n"
        if volume := self.data_volume(instance_id):
            version = self.version(instance_id)
            if version == NEW:
                self.touched.add(volume)
            good = version not in self.broken
            api = {"ok": good, "required": True, "detail": "" if good else "it does not answer"}
            text += console_lines({"ok": good, "boot": instance_id, "seconds": 5.0, "checks": {"api": api}})
        return {"Output": base64.b64encode(text.encode()).decode()}

    def send(self, request: Mapping[str, Any]) -> Mapping[str, Any] | str:
        body = cloud.json_body(request)
        (instance_id,) = body["InstanceIds"]
        if instance_id in self.silent or self.state(instance_id) != "running":
            return "InvalidInstanceId"
        self.scripts.append((instance_id, "\n".join(body["Parameters"]["commands"])))
        return {"Command": {"CommandId": f"{len(self.scripts) - 1:036d}"}}

    def invocation(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        body = cloud.json_body(request)
        instance_id, script = self.scripts[int(body["CommandId"])]
        status, output = self.run(instance_id, script)
        return {"Status": status, "StandardOutputContent": output, "StandardErrorContent": "the words of the unit"}

    def run(self, instance_id: str, script: str) -> tuple[str, str]:
        """Return how a script ends on an instance, and what it prints."""
        what = (
            "state"
            if script.startswith("set --")
            else "backup"
            if "restic-backup.service" in script
            else "list"
            if "--list" in script
            else "quiet"
            if script.startswith("systemctl stop zmanim-api")
            else "health"
        )
        if what in self.failing or (what == "health" and self.version(instance_id) in self.broken):
            return "Failed", ""
        if what == "quiet":
            self.quiet.add(instance_id)
        if what == "health":
            assert self.data_volume(instance_id), "it can't serve without its data"
            self.quiet.discard(instance_id)
        return "Success", {"state": self.answers(instance_id), "list": RUNS}.get(what, "")

    def answers(self, instance_id: str) -> str:
        volume = self.data_volume(instance_id)
        changed = self.changes and volume in self.touched
        lines = {
            "release": self.version(instance_id),
            "ready": encoded({"ok": True, "checks": {}}),
            "serving": encoded({"serves": True, "failed": {}}),
            "used-percent": str(self.used_percent),
            **({"busy": "yes"} if self.busy else {}),
            "database": "changed0" if changed else "asitwas0",
            "backups": packed(RUNS),
            "end": "",
        }
        return "\n".join(f"{name} {value}" for name, value in lines.items())


@contextmanager
def world(*, address: bool = True) -> Iterator[World]:
    """An account whose environment prod has one instance of OLD."""
    with cloud.account() as clients:
        clients.iam.create_instance_profile(InstanceProfileName=roles.name("prod"))
        made = World(clients, {version: _image(clients, version) for version in (OLD, NEW)})
        cloud.answer(clients.ec2, "GetConsoleOutput", made.console)
        cloud.answer(clients.ssm, "SendCommand", made.send)
        cloud.answer(clients.ssm, "GetCommandInvocation", made.invocation)
        made.old = _instance(clients, made.images[OLD])
        made.volume = made.data_volume(made.old)
        if address:
            given = clients.ec2.allocate_address(Domain="vpc")
            made.address = given["PublicIp"]
            clients.ec2.associate_address(AllocationId=given["AllocationId"], InstanceId=made.old)
        yield made


def _image(clients: Clients, version: str) -> str:
    ami_id = clients.ec2.register_image(Name=f"zmanim-{version}", RootDeviceName="/dev/xvda")["ImageId"]
    # moto does not take it from the call.
    ec2_backends[cloud.ACCOUNT][clients.region].amis[ami_id].architecture = "arm64"
    tags: Any = [{"Key": "zmanim:version", "Value": version}, {"Key": "zmanim:run", "Value": "7"}]
    clients.ec2.create_tags(Resources=[ami_id], Tags=tags)
    cloud.attest(clients, ami_id)
    return ami_id


def _instance(clients: Clients, ami_id: str) -> str:
    tags: Any = [
        {"Key": "Name", "Value": "ours"},
        {"Key": instance.ENVIRONMENT_TAG, "Value": "prod"},
        {"Key": instance.DATA_VOLUME_TAG, "Value": "new"},
    ]
    mapping: Any = {"DeviceName": instance.DATA_DEVICE, "Ebs": {"VolumeSize": 20, "DeleteOnTermination": False}}
    return clients.ec2.run_instances(
        ImageId=ami_id,
        InstanceType=TYPE,  # type: ignore[arg-type]  # a text, of which the stubs know some
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=[mapping],
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )["Instances"][0]["InstanceId"]


def assert_swapped(stage: World, result: object) -> None:
    """See that the new instance has all that the old one had, and the old one is kept."""
    assert isinstance(result, Swapped)
    new = result.instance_id
    assert stage.version(new) == NEW
    assert (stage.data_volume(new), stage.leads_to()) == (stage.volume, new)
    assert stage.serves() == [new]
    assert stage.state(stage.old) == "stopped"
    kept = stage.clients.ec2.describe_instance_attribute(InstanceId=stage.old, Attribute="disableApiTermination")
    assert kept["DisableApiTermination"] == {"Value": True}
    assert stage.tags(stage.old)["zmanim:swapped-for"] == new
    assert stage.tags(new) == {"Name": "ours", "zmanim:environment": "prod"}
    mapped = stage.described(new)["BlockDeviceMappings"]
    assert [each["Ebs"]["DeleteOnTermination"] for each in mapped if each["DeviceName"] == "/dev/sdf"] == [False]
    assert stage.unfinished() == []


def assert_as_before(stage: World) -> None:
    """See that the old instance serves with its volume and its address, and nothing else is there."""
    assert stage.serves() == [stage.old]
    assert stage.data_volume(stage.old) == stage.volume
    assert cloud.alive(stage.clients) == [stage.old]
    assert stage.leads_to() == stage.old
    assert stage.unfinished() == []
