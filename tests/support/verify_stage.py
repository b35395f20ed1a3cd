"""An account with an image to verify, and an instance that answers as a test wants it to."""

from __future__ import annotations

import base64
import gzip
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
from zmanim_ami.pipeline.backup import remote
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.settings import Settings
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
        "booted": "1764400000",
        "made:/etc/machine-id": "1764400000",
        "made:/etc/ssh/ssh_host_ed25519_key": "1764400009",
        "made:/var/lib/systemd/random-seed": "1764400003",
        "kernel": "6.12.9",
        "os": "Amazon Linux 2023",
        "end": "",
    }


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
    on_console: Callable[[], None] = lambda: None
    agent_after: int = 0
    scripts: list[str] = field(default_factory=list)
    launches: list[Mapping[str, Any]] = field(default_factory=list)

    def console(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.on_console()
        text = "[    0.0] booting\r\n"
        if self.ready is not None:
            text += console_lines(self.ready)
        return {"Output": base64.b64encode(text.encode()).decode()}

    def send(self, request: Mapping[str, Any]) -> Mapping[str, Any] | str:
        if self.agent_after > 0:
            self.agent_after -= 1
            return "InvalidInstanceId"
        self.scripts.append("\n".join(cloud.json_body(request)["Parameters"]["commands"]))
        return {"Command": {"CommandId": "0" * 36}}

    def invocation(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.scripts[-1] == remote.PROVE.rstrip("\n"):
            return {
                "Status": self.proof_status,
                "StandardOutputContent": self.proof,
                "StandardErrorContent": "the words of the unit",
            }
        text = "\n".join(f"{name} {value}" for name, value in self.answers.items())
        return {"Status": self.status, "StandardOutputContent": text, "StandardErrorContent": "curl: (7)"}

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
        yield made


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Give a stage of the test's own; a module that imports it has the fixture."""
    with staged(tmp_path) as prepared:
        yield prepared
