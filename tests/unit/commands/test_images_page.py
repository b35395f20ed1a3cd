"""docs/images.md, typed from its first line to its last, in an account with three versions in two regions."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from invoke.program import Program

import tasks
from support import https
from support.errors import HostLacks
from tests.support import ROOT, bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.image_life import THERE, Life, two_regions
from tests.support.images.inventories import inventory, rpm
from tests.support.images.updateinfo import MIRRORS, packed, repository, update
from zmanim_ami import toolchain
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.publish import publication
from zmanim_ami.pipeline.sbom import document
from zmanim_ami.pipeline.sbom import store as sbom
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

PAGE = (ROOT / "docs/images.md").read_text("utf-8")
COMMANDS = [
    " ".join(line.split())
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
# What stands behind a command's words is looked for in what it says, once it has been typed.
SAYS = {
    "publish-ssm": "v1.2.4",
    "image.history": "v1.2.4",
    "image.rollback": "v1.2.",
    "image.promote": "v1.2.4",
    "image.list": "v1.2.3",
    "image.show": "v1.2.3",
    "image.diff": "## v1.2.3 → v1.2.4",
    "image.sbom": "pkg:golang",
    "image.advisories": "0 critical, 0 important, 0 medium, 0 low open, 3 not covered",
    "image.check": "yes",
    "image.retire": "",
    "sweep": "",
}

NOTHING_OPEN = {"open": [], "not_covered": ["redis (rpm)"], "advisories": []}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Life, Life]]:
    with two_regions() as (here, there):
        monkeypatch.setattr(aws, "connect", lambda region, *_: cloud.clients(region))
        monkeypatch.setenv("ZMANIM_AMI_REGIONS", THERE)
        monkeypatch.setenv("ZMANIM_REGION", here.clients.region)
        cloud.prepare_reports(here.clients)
        bucket = bucket_name("releases", "verify")
        old = repository(packed(update("ALAS-1", "critical", rpm("openssl", "3.0.1"))))
        monkeypatch.setattr(https, "read", lambda url, *_: old[url])
        monkeypatch.setenv("ZMANIM_ADVISORIES_URL", MIRRORS)
        monkeypatch.setattr(toolchain, "program", no_tool)
        for version in ("v1.2.2", "v1.2.3", "v1.2.4"):
            made = here.image(version, verified="")
            sbom.keep(here.clients, made, document.make(inventory(), datetime(2026, 11, 30, tzinfo=UTC)))
            cloud.attest(here.clients, made, packages={}, versions={})
            for kind, content in (("inventories", inventory()), ("advisories", NOTHING_OPEN)):
                body = json.dumps(content).encode()
                here.clients.s3.put_object(Bucket=bucket, Key=f"{kind}/{made}.json", Body=body)
            there.image(version, source=made)
        for version in ("v1.2.2", "v1.2.3"):
            settings = Settings(ami_regions=(THERE,))
            publication.publish(here.clients, settings, [there.clients], version=parse(version))
        yield here, there


def no_tool(cache: Path, name: str) -> Path:
    """Stand in for a tool that can't be built: then the API is not covered."""
    raise HostLacks(f"no {name}", code="no-go")


def run(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Type a command; return what it printed."""
    words = shlex.split(command)
    assert words[0] == "./inv"
    capsys.readouterr()
    Program(namespace=tasks.namespace).run(["inv", *words[1:]])
    return capsys.readouterr().out


def test_every_command_of_the_page_does_what_it_says(
    account: tuple[Life, Life], capsys: pytest.CaptureFixture[str]
) -> None:
    typed = set[str]()
    for command in COMMANDS:
        task = command.split()[1]
        assert SAYS[task] in run(command, capsys), command
        typed.add(task)
    assert typed == set(SAYS)
