"""What can be chosen about a release: `[tool.zmanim]` in pyproject.toml, `ZMANIM_<FIELD>`, a task's flag.

How the three are read is in setting_sources.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from zmanim_ami.pipeline import setting_sources as reading
from zmanim_ami.pipeline.setting_sources import Row, Sources, Value

NAME = "zmanim"

_GRAVITON = r"[a-z]+\d+g[a-z]*\.[a-z0-9]+"
REGION = r"[a-z]{2}(-[a-z]+)+-\d"
_BUCKET = r"[a-z0-9][a-z0-9-]*-\{environment\}(-[a-z0-9]+)*"
_ADDRESS = r"[A-Za-z0-9._+-]+@[a-z0-9-]+(\.[a-z0-9-]+)+"


class Reader(Enum):
    """Who reads a setting: our own code alone, or the template as a variable of the same name.

    What a variable of IMAGE_CONTENT says is in the image that is built, so it is part of the image's digest.
    """

    PIPELINE = "our own code"
    TEMPLATE = "the template"
    IMAGE_CONTENT = "the template, and the image holds it"


def _setting(
    default: Value,
    help: str,
    form: str = "",
    example: str = "",
    *,
    limits: tuple[int, int] = (0, 0),
    reader: Reader = Reader.PIPELINE,
) -> Any:
    """Describe a field, as reading.setting does, and who reads it."""
    return reading.setting(default, help, form, example, limits=limits, reader=reader)


@dataclass(frozen=True)
class Settings:
    """Every setting. Empty means "not chosen", never "unknown"; lists are comma-separated outside pyproject.toml."""

    region: str = _setting(
        "eu-west-1",
        "AWS region that the image is built in and published to",
        REGION,
        "eu-west-1",
        reader=Reader.TEMPLATE,
    )
    # A T type has CPU credits of its own only after hours; the template lets it have as many as it takes (some cents).
    instance_type: str = _setting(
        "t4g.small", "instance type of the builder (Graviton)", _GRAVITON, "t4g.small", reader=Reader.TEMPLATE
    )
    # Production's own type: 4 GiB, for which PostgreSQL and Redis are tuned, on the processor generation that runs it.
    # On the builder's 2 GiB a good image could fail, and a bad one pass only there. Some minutes of it cost a cent.
    verify_instance_type: str = _setting(
        "m7g.medium", "instance type that an image is verified on (Graviton)", _GRAVITON, "m7g.medium"
    )
    source_ami_id: str = _setting(
        "",
        "source image; empty: the one that versions_file pins",
        r"ami-[0-9a-f]{8,17}",
        "ami-0123456789abcdef0",
        reader=Reader.IMAGE_CONTENT,
    )
    subnet_id: str = _setting(
        "",
        "subnet of the builder and of verification; empty: the default VPC",
        r"subnet-[0-9a-f]{8,17}",
        "subnet-0a1b",
        reader=Reader.TEMPLATE,
    )
    ssh_source: str = _setting(
        "https://checkip.amazonaws.com",
        "who may reach a builder by SSH: a URL that answers with this machine's address, or a range (192.0.2.7/32)",
        r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._/-]*)?|(\d{1,3}\.){3}\d{1,3}/(1[6-9]|2\d|3[0-2])",
        "192.0.2.7/32 (/16 at the widest)",
    )
    kms_key_id: str = _setting(
        "",
        "KMS key that encrypts the image, in each region; empty: AWS's own, and then the image can't be shared",
        r"[A-Za-z0-9:/_-]+",
        "alias/x",
        reader=Reader.IMAGE_CONTENT,
    )
    root_encrypted: bool = _setting(True, "whether the image is encrypted", reader=Reader.IMAGE_CONTENT)
    root_volume_gib: int = _setting(10, "size of the root volume in GiB", limits=(8, 100), reader=Reader.IMAGE_CONTENT)
    ami_users: tuple[str, ...] = _setting(
        (),
        "accounts that the image is shared with; an encrypted one takes kms_key_id",
        r"\d{12}",
        "123456789012",
        reader=Reader.TEMPLATE,
    )
    ami_regions: tuple[str, ...] = _setting(
        (), "further regions that the image is copied to, shared and deprecated like it", REGION, "eu-central-1"
    )
    deprecate_days: int = _setting(0, "days after which AWS calls the image deprecated; 0: never", limits=(0, 3650))
    api_dir: str = _setting("api", "source tree of the API, relative to the project's root", r".*\S.*", "api")
    versions_file: str = _setting(
        "infrastructure/packer/versions.json", "pins of everything that goes into the image", r".*\S.*", "versions.json"
    )
    postgresql_repo: str = _setting(
        "amazonlinux",
        "whose PostgreSQL is in the image: amazonlinux or pgdg",
        r"amazonlinux|pgdg",
        "amazonlinux or pgdg",
        reader=Reader.IMAGE_CONTENT,
    )
    release_environments: tuple[str, ...] = _setting(
        ("prod", "verify"),
        "environments whose release channel an instance of the image may follow: their public keys go into it",
        r"[a-z][a-z0-9-]{0,19}",
        "prod",
    )
    data_volume_gib: int = _setting(
        8, "size of the data volume that an image is verified with, in GiB", limits=(1, 16384)
    )
    parameter_prefix: str = _setting(
        "/zmanim/prod", "path of the SSM parameters ami-id and ami-version", r"(/[A-Za-z0-9_.-]+)+", "/zmanim/prod"
    )
    backups_bucket: str = _setting(
        "zmanim-backups-{environment}",
        "name of an environment's bucket for backups; a new one ends in the account and the region",
        _BUCKET,
        "zmanim-backups-{environment}",
    )
    releases_bucket: str = _setting(
        "zmanim-releases-{environment}",
        "name of an environment's bucket for the API's releases; a new one ends in the account and the region",
        _BUCKET,
        "zmanim-releases-{environment}",
    )
    mail_from: str = _setting(
        "backup@zmanim.shtetl.io", "address that mail about failures comes from", _ADDRESS, "backup@example.org"
    )
    mail_to: str = _setting("admin@shtetl.io", "address that hears of failures", _ADDRESS, "admin@example.org")
    alarms_topic: str = _setting(
        "zmanim-{environment}-alarms",
        "SNS topic that an environment's alarms tell",
        r"[A-Za-z0-9_-]*\{environment\}[A-Za-z0-9_-]*",
        "zmanim-{environment}-alarms",
    )
    alarm_prefix: str = _setting(
        "zmanim-{environment}-",
        "what the names of an environment's alarms begin with",
        r"[A-Za-z0-9_-]*\{environment\}[A-Za-z0-9_-]*",
        "zmanim-{environment}-",
    )
    github_subject: str = _setting(
        "",
        "the `sub` claim of this repository's workflows in an environment of GitHub; empty: no roles for workflows",
        # Two names, or two names with their ids.
        r"repo:[\w.-]+(/[\w.-]+|@\d+/[\w.-]+@\d+):environment:\{environment\}",
        "repo:owner@1/name@2:environment:{environment}",
    )
    account_wide: bool = _setting(
        True,
        "whether account.apply sets for the whole account: volumes encrypted, no image or snapshot public",
    )
    advisories_url: str = _setting(
        "https://cdn.amazonlinux.com/al2023/core/mirrors/latest/aarch64/mirror.list",
        "list of mirrors of the newest release's repository, whose advisories an image is compared with",
        r"https://[A-Za-z0-9.-]+(:\d{1,5})?/[A-Za-z0-9._/-]+",
        "https://example.org/mirror.list",
    )
    run: str = _setting(
        "by-hand",
        "what a run makes is tagged zmanim:run with this, for sweep to find; CI gives its run's id",
        r"[A-Za-z0-9-]{1,40}",
        "1234567890",
        reader=Reader.TEMPLATE,
    )
    retire_keep: int = _setting(5, "how many of the newest verified versions image.retire leaves", limits=(1, 1000))
    retire_publications: int = _setting(
        3, "of how many of the last publications image.retire leaves the images", limits=(1, 100)
    )
    retire_days: int = _setting(
        90, "days after its build and after its last launch that image.retire leaves an image alone", limits=(0, 3650)
    )
    retire_step_days: int = _setting(
        14,
        "days between the steps of image.retire: deprecated, disabled, deregistered",
        limits=(0, 365),
    )
    retire_limit: int = _setting(10, "how many images one image.retire changes at most", limits=(1, 100))
    ready_seconds: int = _setting(
        60, "seconds from its kernel's start in which a verified image has to be ready", limits=(1, 3600)
    )
    boot_timeout: int = _setting(300, "seconds that an instance may take from launch to ready", limits=(1, 3600))
    command_timeout: int = _setting(
        120, "seconds that a short script may take on an instance that is verified", limits=(30, 3600)
    )
    backup_timeout: int = _setting(
        900, "seconds that a backup, or its restore, may take on an instance that is verified", limits=(30, 7200)
    )

    def read_by(self, *readers: Reader) -> dict[str, Value]:
        """Return the settings that one of `readers` reads, by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.metadata["reader"] in readers}


@dataclass(frozen=True)
class BuildInputs:
    """What a build hands to the template besides settings: each is a variable of that name, and none is a secret.

    Paths are absolute; `package_cache` and `release_keys` are empty for none, `deprecate_at` is empty or UTC.
    """

    version: str
    bundle_dir: str
    versions_file: str
    package_cache: str
    release_keys: str
    ssh_source_cidr: str
    deprecate_at: str
    commit: str
    tree_digest: str
    tool_versions: str
    output_dir: str


# The template's types of what a field can hold.
_TYPES = {"str": "string", "int": "number", "bool": "bool", "tuple[str, ...]": "list(string)"}


def template_variables() -> dict[str, str]:
    """Return every variable that the template has to declare, and its type there."""
    read = [item for item in fields(Settings) if item.metadata["reader"] is not Reader.PIPELINE]
    return {item.name: _TYPES[str(item.type)] for item in (*read, *fields(BuildInputs))}


def load(
    root: Path,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    *,
    others: Sequence[type[Any]] = (),
) -> Settings:
    """Return the settings of the project at `root`; `flags` maps field names to what a task was given.

    `others` are dataclasses of settings that are chosen in the same places and are none of a release's.

    Raises `setting-unknown` and `setting-invalid`, which name the key and where it was set.
    """
    return Settings(**{row.name: row.value for row in explain(root, environ, flags, others=others)})  # type: ignore[arg-type]  # explain() has checked each


def explain(
    root: Path,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    *,
    others: Sequence[type[Any]] = (),
) -> list[Row]:
    """Return every setting with its value and origin, in the order of the class; raises as `load` does."""
    return Sources(NAME, (Settings, *others)).explain(Settings, root, environ, flags)


def help_for(name: str) -> str:
    """Return what the setting `name` is for, as a task's `--help` says it; empty when there is none of that name."""
    return reading.help_for(Settings, name)
