"""A clone, an account and build tools that only note what is asked of them: what build-ami is tested with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.errors import Error
from support.git import git
from tests.support import pipeline_cloud as cloud
from tests.support.images.inventories import inventory, rpm
from tests.support.images.updateinfo import packed, update
from zmanim_ami.pipeline.ami.build import BuildResult, build_ami
from zmanim_ami.pipeline.ami.packer import Built
from zmanim_ami.pipeline.ami.packer_errors import ImageNotSeen
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.setting_sources import Value
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version, parse

V = parse("v1.2.3")
VERSIONS = {"programs": {"architecture": "aarch64"}, "artifacts": {}}


@dataclass
class Site:
    """A clone, an account, and build tools that note what is asked of them."""

    clients: Clients
    root: Path
    cache: Path
    done: list[str] = field(default_factory=list)
    fails: bool = False
    unseen: int = 0
    metadata: bool = True
    tamper: Callable[[str], None] = lambda ami_id: None
    values: Mapping[str, Value] = field(default_factory=dict)

    def made(
        self, *, settings: Settings | None = None, replace: bool = False, dry: bool = False, package_cache: bool = True
    ) -> BuildResult | Plan:
        return build_ami(
            self.clients,
            settings or Settings(),
            V,
            root=self.root,
            cache=self.cache,
            builder=self,
            poller=cloud.hurried(),
            replace=replace,
            dry=dry,
            package_cache=package_cache,
        )

    def built(self, *, replace: bool = False) -> BuildResult:
        result = self.made(replace=replace)
        assert isinstance(result, BuildResult)
        return result

    def change(self) -> None:
        (self.root / "infrastructure/packer/main.pkr.hcl").write_text("# another\n")

    def versions(self) -> Mapping[str, str]:
        return {"packer": "1.15.0"}

    def bundle(self, version: Version) -> Path:
        self.done.append("bundle")
        return self.root / "build/bundle"

    def ssh_source(self, source: str) -> str:
        return "192.0.2.7/32"

    def validate(self, values: Mapping[str, Value]) -> None:
        self.done.append("validate")

    def build(self, version: Version, values: Mapping[str, Value], *, force: bool) -> Built:
        self.done.append("build, forced" if force else "build")
        self.values = values
        if self.fails:
            raise Error("a script failed", code="provisioner-failed")
        if force:  # as Packer: the old image goes when the new one is provisioned, and its snapshots stay
            for old in self.clients.ec2.describe_images(Owners=["self"])["Images"]:
                self.clients.ec2.deregister_image(ImageId=old["ImageId"])
        if self.unseen:  # made, and Packer's first look does not find it
            self.unseen -= 1
            cloud.make_image(self.clients, f"zmanim-{version}", run="7")
            raise ImageNotSeen("Packer does not find it", code="image-not-seen")
        tags = {name: str(values[name]) for name in ("version", "commit", "tree_digest")}
        ami_id = cloud.make_image(self.clients, f"zmanim-{version}", **tags, source_ami="ami-0000000000000000b")
        self.tamper(ami_id)
        output = self.root / "build/packer" / str(version)
        (output / "rpms").mkdir(parents=True, exist_ok=True)
        (output / "manifest.json").write_text(json.dumps({"artifact_id": f"eu-west-1:{ami_id}"}))
        (output / "inventory.json").write_text(json.dumps(inventory()))
        fix = update("ALAS-1", "important", rpm("openssl", "3.0.9", epoch="1"))
        (output / "updateinfo.xml.gz").write_bytes(packed(fix) if self.metadata else b"")
        (output / "rpms/redis-7.2.16-1.aarch64.rpm").write_text("compiled")
        return Built(ami_id, output, output / "packer.log")


@contextmanager
def site_in(tmp_path: Path) -> Iterator[Site]:
    """Give a site below a directory, in an account of its own."""
    root = tmp_path / "clone"
    (root / "infrastructure/packer").mkdir(parents=True)
    (root / "infrastructure/packer/versions.json").write_text(json.dumps(VERSIONS))
    (root / "infrastructure/packer/main.pkr.hcl").write_text("# template\n")
    (root / ".gitignore").write_text("build/\n")
    (root / "build/bundle").mkdir(parents=True)
    (root / "build/bundle/manifest.json").write_text(json.dumps({"sha256": "00", "go": "go1.26.8"}))
    git(root, "init", "--quiet")
    git(root, "add", ".")
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    git(root, *who, "commit", "--quiet", "--message", "first")
    with cloud.account() as clients:
        yield Site(clients, root, tmp_path / "cache")
