"""What a cloud is asked to be (CloudSettings) and what it then is (Cloud), with their files in the state directory."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from localcloud.bad_day import BadDay
from support.errors import BadInput

# moto serves one account under this number whatever keys a client uses.
ACCOUNT = "123456789012"
# What the key of a cloud's owner begins with: it says to whoever finds one that it opens nothing of AWS's.
KEY_PREFIX = "LOCALCLOUD"
# What it is signed with: whoever knows the key knows this too.
SECRET = "localcloud"  # noqa: S105
_KEY_FILE = "key"
# Where the API answers with its caller's address, as https://checkip.amazonaws.com does; no bucket's name begins so.
ADDRESS_PATH = "/.checkip"
DEFAULT_STATE = Path("/var/lib/localcloud")
# The kinds of machine: containers on the host's kernel, and whole machines with one of their own.
NSPAWN, QEMU = "nspawn", "qemu"


@dataclass(frozen=True)
class BaseImage:
    """An image that the cloud offers from the start, as AWS offers Amazon Linux.

    `root` is a root file system tree prepared by `machine.base.fit`; it is never written to. `creation_date` is RFC
    3339, `root_size_gib` what the image says its disk is (in GiB). `disk` is a directory that
    machine.qemu.base_disk.make has filled from `root`, or machine.qemu.disk_image.make from a disk image, which needs
    no `root`: machines with a kernel of their own start from that.
    """

    name: str
    root: Path
    architecture: str = "arm64"
    owner_id: str = "137112412989"
    owner_alias: str = "amazon"
    description: str = ""
    creation_date: str = "2026-09-30T00:00:00.000Z"
    root_device: str = "/dev/xvda"
    root_size_gib: int = 8
    disk: Path | None = None


@dataclass(frozen=True)
class CloudSettings:
    """One cloud: its name, its images, the directory of its certificate authority, and where its state lives.

    With `egress`, machines reach ports 80 and 443 of the internet by name, else nothing but the cloud. `egress_hosts`
    is for tests: a file like /etc/hosts whose names lead to the addresses there, which need not be public. `bad_day` is
    the day that it begins with; control.set_bad_day gives it another one. `machines` is their kind, NSPAWN or QEMU;
    `accelerator`, for the latter, is "kvm" or "tcg" (machine.qemu.acceleration chooses).
    """

    images: tuple[BaseImage, ...]
    authority: Path
    name: str = "default"
    region: str = "eu-west-1"
    state: Path = DEFAULT_STATE
    egress: bool = False
    egress_hosts: Path | None = None
    bad_day: BadDay | None = None
    machines: str = NSPAWN
    accelerator: str = "tcg"

    @property
    def emulated(self) -> bool:
        """Whether the machines' processor is emulated."""
        return self.machines == QEMU and self.accelerator == "tcg"

    @property
    def directory(self) -> Path:
        """Where everything of this cloud is kept: state/NAME."""
        return self.state / self.name


def ended_sessions(directory: Path) -> Path:
    """Return the file of the keys whose sessions a cloud takes for ended: `control.end_session` writes it."""
    return directory / "ended-sessions"


@dataclass(frozen=True)
class Cloud:
    """A cloud that was started. `index` is the N of its subnets: link 10.212.N.0/30, machines 10.213.N.0/24.

    `key` is its owner's: it may do everything, so only the cloud's directory holds it, and nothing prints it by chance.
    The processor of its machines is this host's own unless it is `emulated`, which is many times slower.
    """

    name: str
    region: str
    directory: Path
    index: int
    key: str = field(default="", repr=False)
    emulated: bool = False

    @property
    def host_address(self) -> str:
        """The host's end of the link."""
        return f"10.212.{self.index}.1"

    @property
    def link_address(self) -> str:
        """The cloud's end of the link, where the host finds the API."""
        return f"10.212.{self.index}.2"

    @property
    def gateway(self) -> str:
        """The cloud's address among the machines: their API, name server, DHCP server and (closed) gateway."""
        return f"10.213.{self.index}.1"

    @property
    def egress_address(self) -> str:
        """Where the egress proxy listens, to which every name that is not the cloud's leads."""
        return f"10.213.{self.index}.2"

    @property
    def subnet(self) -> str:
        """The machines' subnet."""
        return f"10.213.{self.index}.0/24"

    @property
    def address_url(self) -> str:
        """Where a client on the host learns the address that machines see of it."""
        return f"{self.endpoint}{ADDRESS_PATH}"

    @property
    def endpoint(self) -> str:
        """The API's address for clients on the host."""
        return f"http://{self.link_address}:5000"

    @property
    def link(self) -> str:
        """The name of the host's end of the link; the cloud's own end is called uplink."""
        return link_name(self.directory)


def link_name(directory: Path) -> str:
    """Name a cloud's link after its state directory, so that `down` finds it with nothing else left."""
    return "lc" + hashlib.sha256(str(directory).encode()).hexdigest()[:10]


def check(settings: CloudSettings) -> None:
    """Refuse settings that can't be meant. Raises `bad-settings`."""
    check_name(settings.name)
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", settings.region):
        raise BadInput(
            "the cloud's region is not a region's name",
            code="bad-settings",
            expected="for example eu-west-1",
            found=repr(settings.region),
        )
    if settings.machines not in {NSPAWN, QEMU}:
        raise BadInput(
            "there is no such kind of machine",
            code="bad-settings",
            expected=f"{NSPAWN} or {QEMU}",
            found=repr(settings.machines),
        )
    for image in settings.images:
        if settings.machines == NSPAWN and not (image.root / "usr").is_dir():
            raise BadInput(
                f"the base image {image.name} has no root file system",
                code="bad-settings",
                expected=f"a tree with /usr in it at {image.root}",
                found="no such directory" if not image.root.is_dir() else "a directory without usr/",
                fix="build the base first",
            )
        if settings.machines == QEMU and not (image.disk and (image.disk / "kernel").is_file()):
            raise BadInput(
                f"the base image {image.name} has no disk with a kernel",
                code="bad-settings",
                expected="a directory that machine.qemu has filled: base_disk.make, or disk_image.make",
                found=str(image.disk),
                fix="make its disk first",
            )


def check_name(name: str) -> None:
    """Refuse a cloud's name that is no plain word (it becomes a directory, a control group, a binfmt entry)."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,30}", name):
        raise BadInput(
            "the cloud's name is not usable",
            code="bad-settings",
            expected="1 to 31 of a-z, 0-9, - and _, beginning with a letter or digit",
            found=repr(name),
        )


def settings_to_json(settings: CloudSettings) -> str:
    """Write settings down for the server (server.py reads them)."""
    return json.dumps(asdict(settings), default=str, indent=1)


def settings_from_json(text: str) -> CloudSettings:
    """Read what `settings_to_json` wrote."""
    raw: dict[str, Any] = json.loads(text)
    images = tuple(
        BaseImage(**{**image, "root": Path(image["root"]), "disk": Path(image["disk"]) if image["disk"] else None})
        for image in raw.pop("images")
    )
    return CloudSettings(
        images=images,
        authority=Path(raw["authority"]),
        name=raw["name"],
        region=raw["region"],
        state=Path(raw["state"]),
        egress=raw["egress"],
        egress_hosts=Path(raw["egress_hosts"]) if raw["egress_hosts"] else None,
        bad_day=BadDay(**raw["bad_day"]) if raw["bad_day"] else None,
        machines=raw["machines"],
        accelerator=raw["accelerator"],
    )


def make_key(directory: Path) -> str:
    """Make a cloud's key, of 128 random bits, write it into its directory for root alone, and return it."""
    key = KEY_PREFIX + secrets.token_hex(16).upper()
    path = directory / _KEY_FILE
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(key)
    return key


def cloud_to_json(cloud: Cloud) -> str:
    """Write a cloud down for `find` and for the server; its key has a file of its own."""
    described = {"name": cloud.name, "region": cloud.region, "index": cloud.index, "emulated": cloud.emulated}
    return json.dumps(described)


def read_cloud(directory: Path) -> Cloud | None:
    """Return the cloud that a state directory describes, running or not; None when there is none or half of one."""
    try:
        raw = json.loads((directory / "cloud.json").read_text())
        key = (directory / _KEY_FILE).read_text()
        name, region = str(raw["name"]), str(raw["region"])
        return Cloud(name, region, directory, int(raw["index"]), key, emulated=raw["emulated"] is True)
    except (OSError, ValueError, KeyError):
        return None
