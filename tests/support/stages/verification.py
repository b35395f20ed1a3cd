"""An account with an image to verify, and an instance that answers as a test wants it to."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, bucket_name
from tests.support import pipeline_cloud as cloud
from zmanim_ami.pipeline.account import changes, requirements
from zmanim_ami.pipeline.ami.image import VERIFIED_TAG
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify import facts
from zmanim_ami.pipeline.verify.verification import VerifyResult, verify_ami
from zmanim_ami.pipeline.version import parse
from zmanim_host.readiness import console_lines

SHA = cloud.SHA
HEALTH = {"data": {"status": "ok", "database": "ok", "version": "v1.2.3"}, "meta": {}}
PACKAGES = {"bash": "5.2.15-1.amzn2023.aarch64", "redis": "7.2.4-1.aarch64"}

PROOF = json.dumps({"run": "20261124T030212Z-0a1b2c", "seconds": 4.5, "age": 9, "rows": 19, "keys": 2})


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def packed(packages: object) -> str:
    """Return packages as inspect.sh prints them."""
    return base64.b64encode(gzip.compress(json.dumps(packages).encode(), mtime=0)).decode()


def good_ready() -> dict[str, Any]:
    return {
        "ok": True,
        "version": "v1.2.3",
        "environment": "verify",
        "binary_sha256": SHA,
        "seconds": 6.1,
        "checks": {
            "postgresql": {"ok": True, "required": True, "detail": ""},
            "metrics": {"ok": False, "required": False, "detail": "no agent"},
        },
        "health": HEALTH,
    }


def good_answers() -> dict[str, str]:
    return {
        "main-pid": "812",
        "mapped": SHA,
        "manifest": encoded({"version": "v1.2.3", "commit": cloud.COMMIT, "sha256": SHA}),
        "current": "/opt/zmanim/releases/v1.2.3",
        "baked": "/opt/zmanim/releases/v1.2.3",
        "health-status": "200",
        "health": encoded(HEALTH),
        "packages": packed(PACKAGES),
        "listening tcp 0.0.0.0:22": "",
        "listening tcp *:8080": "",
        "listening tcp 127.0.0.1:6379": "",
        "listening udp 10.0.0.7%ens5:68": "",
        "booted": "1764400000",
        "made:/etc/machine-id": "1764400000",
        "made:/etc/ssh/ssh_host_ed25519_key": "1764400009",
        "made:/var/lib/systemd/random-seed": "1764400003",
        "kernel": "6.12.9",
        "os": "Amazon Linux 2023",
        "end": "",
    }


def written(word: str) -> dict[str, str]:
    """Return what trial.sh prints of a volume that was written to with `word`."""
    digest = hashlib.md5(",".join(f"{word}{n}" for n in range(1, 1001)).encode(), usedforsecurity=False).hexdigest()
    values = {"rows": "1000", "digest": digest, "right": "t", "lasting": word, "expiring": word}
    return {**values, "ttl": "86000", "end": ""}


CHART = (
    '<?xml version="1.0"?>\n<svg width="9px" height="9px"><g><text x="1" y="1">zmanim-api.service</text></g></svg>\n'
)


def good_facts() -> dict[str, tuple[str, str]]:
    """Return what facts.sh finds out on an instance: the state of each fact, and what its program printed."""
    exposure = [{"unit": "sshd.service", "exposure": "9.6", "predicate": "UNSAFE", "happy": "X"}]
    settings = [{"name": "shared_buffers", "value": "438MB", "source": "/run/zmanim/postgresql.conf"}]
    return {
        "time": ("known", "Startup finished in 1.071s (userspace).\n"),
        "blame": ("known", "1min 2.500s cloud-init.service\n  180ms sshd.service\n"),
        "chain": ("known", "zmanim-ready.service @6.1s\n"),
        "exposure": ("known", json.dumps(exposure)),
        "postgresql": ("known", json.dumps(settings)),
        "redis-files": ("known", "# words\nmaxmemory 1gb\nsave 900 1\nsave 300 10\nmaxmemory 438mb\n"),
        "redis-says": ("known", "# Memory\r\nmaxmemory_human:438.00M\r\nused_memory:9\r\n"),
        "connections": ("known", '0 0 10.0.0.7:40000 10.0.0.2:443 users:(("agent",pid=9,fd=3))\n'),
        "chart": ("known", CHART),
    }


def fact_parts(found: Mapping[str, tuple[str, str]], bytes_each: int = 600) -> list[str]:
    """Return what facts.sh prints of that for its parts."""
    plain = "".join(f"{name} {state} {len(text.encode())}\n{text}\n" for name, (state, text) in found.items())
    packed = base64.b64encode(gzip.compress(plain.encode(), mtime=0)).decode()
    each = [packed[at : at + bytes_each] for at in range(0, len(packed), bytes_each)]
    parts = [*each, *([""] * (facts.PARTS - len(each)))]
    return [f"parts {len(each)}\npart {part}\nend\n" for part in parts]


@dataclass
class Stage:
    """An account with an image, and how its instances behave."""

    clients: Clients
    root: Path
    ami_id: str
    ready: dict[str, Any] | None = field(default_factory=good_ready)
    answers: dict[str, str] = field(default_factory=good_answers)
    status: str = "Success"
    proof: str = PROOF
    proof_status: str = "Success"
    backup_status: str = "Success"
    backup_says: str = "run 20261124T030212Z-0a1b2c is complete: 48213 bytes in 4 s\n"
    # What the scripts of facts.sh print, part by part.
    facts: list[str] = field(default_factory=lambda: fact_parts(good_facts()))
    facts_status: str = "Success"
    on_console: Callable[[], None] = lambda: None
    # What is done to what an instance answers when it is read what was written, by which instance it is (1, 2, 3).
    on_read: Callable[[int, dict[str, str]], None] = lambda number, found: None
    # What is done to a later boot's report, by which instance it is and which of its boots.
    on_boot: Callable[[int, int, dict[str, Any]], None] = lambda number, boot, report: None
    agent_after: int = 0
    scripts: list[str] = field(default_factory=list)
    launches: list[Mapping[str, Any]] = field(default_factory=list)
    reboots: list[str] = field(default_factory=list)
    # Which word is on a volume, and in the backup.
    words: dict[str, str] = field(default_factory=dict)
    backed_up: str = ""
    # What a restore leaves in the place of the backup, if it is not that.
    restored_as: str = ""

    def number(self, instance_id: str) -> int:
        """Return which of a verification's instances that is: 1, 2 or 3, in the order of their launches."""
        filters: Any = [{"Name": "tag:zmanim:verification", "Values": ["true"]}]
        known = self.clients.ec2.describe_instances(Filters=filters)["Reservations"]
        listed = [each["InstanceId"] for item in known for each in item["Instances"]]
        return listed.index(instance_id) % 3 + 1

    def console(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.on_console()
        instance_id = request["body"]["InstanceId"]
        text = "[    0.0] booting\r\n"
        boots = 1 + self.reboots.count(instance_id)
        for boot in range(1, boots + 1 if self.ready is not None else 0):
            report = {**self.ready, "boot": f"{instance_id}-{boot}"}  # type: ignore[dict-item]
            self.on_boot(self.number(instance_id), boot, report)
            text += console_lines(report)
        return {"Output": base64.b64encode(text.encode()).decode()}

    def send(self, request: Mapping[str, Any]) -> Mapping[str, Any] | str:
        if self.agent_after > 0:
            self.agent_after -= 1
            return "InvalidInstanceId"
        body = cloud.json_body(request)
        self.scripts.append("\n".join(body["Parameters"]["commands"]))
        return {"Command": {"CommandId": f"{len(self.scripts) - 1:036d}"}}

    def invocation(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        body = cloud.json_body(request)
        status, output = self.run(body["InstanceId"], self.scripts[int(body["CommandId"])])
        return {"Status": status, "StandardOutputContent": output, "StandardErrorContent": "the words of the unit"}

    def run(self, instance_id: str, script: str) -> tuple[str, str]:
        """Return how a script ends on an instance, and what it prints."""
        verb = script.partition("\n")[0].split()
        if "restore.sh" in script:
            if self.proof_status == "Success":
                self.words[self.volume(instance_id)] = self.restored_as or self.backed_up
            return self.proof_status, self.proof
        if verb[:3] == ["set", "--", "write"]:
            self.words[self.volume(instance_id)] = verb[3]
            if "restic-backup.service" in script:
                self.backed_up = verb[3]
                return self.backup_status, self.backup_says
            return "Success", ""
        if verb[:2] == ["set", "--"] and verb[2].isdecimal():
            return self.facts_status, self.facts[int(verb[2]) - 1]
        if verb[:3] == ["set", "--", "read"]:
            found = written(self.words.get(self.volume(instance_id), ""))
            self.on_read(self.number(instance_id), found)
            return "Success", "\n".join(f"{name} {value}" for name, value in found.items())
        return self.status, "\n".join(f"{name} {value}" for name, value in self.answers.items())

    def volume(self, instance_id: str) -> str:
        """Return the data volume of an instance."""
        ((item,),) = [each["Instances"] for each in self.described(instance_id)]
        mapped: dict[str, str] = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in item["BlockDeviceMappings"]}
        return mapped.get("/dev/sdf", "")

    def described(self, instance_id: str) -> Any:
        return self.clients.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]

    def verify(self, **options: Any) -> VerifyResult | Plan:
        given = {"version": parse("v1.2.3"), "poller": cloud.hurried(), **options}
        return verify_ami(self.clients, Settings(), root=self.root, **given)

    def tag(self) -> str | None:
        return cloud.image_tags(self.clients, self.ami_id).get(VERIFIED_TAG)

    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.root / f"build/verify/{self.ami_id}.json").read_text())
        return content


@contextmanager
def staged(directory: Path, account: Callable[[], AbstractContextManager[Clients]] = cloud.account) -> Iterator[Stage]:
    with account() as clients:
        changes.apply(requirements.plan(clients, "verify", policies=ROOT / "infrastructure/iam"))
        # moto takes what is refused without TLS for refused always.
        clients.s3.delete_bucket_policy(Bucket=bucket_name("releases", "verify"))
        ami_id = cloud.make_image(clients, version="v1.2.3", commit=cloud.COMMIT, tree_digest=cloud.TREE)
        made = Stage(clients, directory, ami_id)
        cloud.answer(clients.ec2, "GetConsoleOutput", made.console)
        cloud.answer(clients.ssm, "SendCommand", made.send)
        cloud.answer(clients.ssm, "GetCommandInvocation", made.invocation)
        cloud.answer(clients.ec2, "RunInstances", lambda request: made.launches.append(request["body"]))
        cloud.answer(
            clients.ec2, "RebootInstances", lambda request: made.reboots.append(request["body"]["InstanceId.1"])
        )
        yield made


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Give a stage of the test's own; a module that imports it has the fixture."""
    with staged(tmp_path) as prepared:
        yield prepared
