"""What can be chosen about a release, and where each choice was made.

`[tool.zmanim]` in pyproject.toml, then `ZMANIM_<FIELD>` in the environment, then a task's flag; the later wins. The
`ZMANIM_` names are kept for settings: one that is none is refused, for a typing error would build something else. An
empty variable or flag counts as not given, for that is what CI passes on for a variable that is not set.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from support.errors import BadInput

PREFIX = "ZMANIM_"
_TABLE = "[tool.zmanim] in pyproject.toml"

_GRAVITON = r"[a-z]+\d+g[a-z]*\.[a-z0-9]+"

Value = str | int | bool | tuple[str, ...]


def _setting(default: Value, help: str, form: str = "", example: str = "") -> Any:
    """Describe one field: what it is for, and the regular expression that its texts match."""
    return field(default=default, metadata={"help": help, "form": form, "example": example})


@dataclass(frozen=True)
class Settings:
    """Every setting. Empty means "not chosen", never "unknown"; lists are comma-separated outside pyproject.toml."""

    region: str = _setting(
        "eu-west-1", "AWS region that the image is built in and published to", r"[a-z]{2}(-[a-z]+)+-\d", "eu-west-1"
    )
    instance_type: str = _setting("t4g.small", "instance type of the builder (Graviton)", _GRAVITON, "t4g.small")
    # Production's own type: 4 GiB, for which PostgreSQL and Redis are tuned, on the processor generation that runs it.
    # On the builder's 2 GiB a good image could fail, and a bad one pass only there. Some minutes of it cost a cent.
    verify_instance_type: str = _setting(
        "m7g.medium", "instance type that an image is verified on (Graviton)", _GRAVITON, "m7g.medium"
    )
    source_ami_id: str = _setting(
        "", "source image; empty: the one that versions_file pins", r"ami-[0-9a-f]{8,17}", "ami-0123456789abcdef0"
    )
    subnet_id: str = _setting(
        "", "subnet of the builder and of verification; empty: the default VPC", r"subnet-[0-9a-f]{8,17}", "subnet-0a1b"
    )
    kms_key_id: str = _setting(
        "", "KMS key that encrypts the image; empty: AWS's choice", r"[A-Za-z0-9:/_-]+", "alias/x"
    )
    root_encrypted: bool = _setting(True, "whether the image is encrypted; on AWS's own key it can't be shared")
    root_volume_gib: int = _setting(10, "size of the root volume in GiB")
    ami_users: tuple[str, ...] = _setting((), "accounts that the image is shared with", r"\d{12}", "123456789012")
    ami_regions: tuple[str, ...] = _setting(
        (), "further regions that the image is copied to", r"[a-z]{2}(-[a-z]+)+-\d", "eu-central-1"
    )
    deprecate_days: int = _setting(0, "days after which AWS calls the image deprecated; 0: never")
    api_dir: str = _setting("api", "source tree of the API, relative to the project's root", r".*\S.*", "api")
    versions_file: str = _setting(
        "infrastructure/packer/versions.json", "pins of everything that goes into the image", r".*\S.*", "versions.json"
    )
    postgresql_repo: str = _setting(
        "amazonlinux",
        "whose PostgreSQL is in the image: amazonlinux or pgdg",
        r"amazonlinux|pgdg",
        "amazonlinux or pgdg",
    )
    release_environments: tuple[str, ...] = _setting(
        ("prod", "verify"),
        "environments whose release channel an instance of the image may follow: their public keys go into it",
        r"[a-z][a-z0-9-]{0,19}",
        "prod",
    )
    data_volume_gib: int = _setting(8, "size of the data volume that an image is verified with, in GiB")
    parameter_prefix: str = _setting(
        "/zmanim/prod", "path of the SSM parameters ami-id and ami-version", r"(/[A-Za-z0-9_.-]+)+", "/zmanim/prod"
    )
    github_subject: str = _setting(
        "",
        "the `sub` claim of this repository's workflows in an environment of GitHub; empty: no roles for workflows",
        r"repo:[A-Za-z0-9_.@/-]+:environment:\{environment\}",
        "repo:owner/name:environment:{environment}",
    )
    run: str = _setting(
        "by-hand",
        "what a run makes is tagged zmanim:run with this, for sweep to find; CI gives its run's id",
        r"[A-Za-z0-9-]{1,40}",
        "1234567890",
    )
    boot_timeout: int = _setting(300, "seconds that an instance may take from launch to ready")


_LIMITS: Mapping[str, tuple[int, int]] = {
    "root_volume_gib": (8, 100),
    "deprecate_days": (0, 3650),
    "data_volume_gib": (1, 16384),
    "boot_timeout": (1, 3600),
}


@dataclass(frozen=True)
class Row:
    """One setting as `inv settings` shows it; `origin` says who chose the value."""

    name: str
    value: Value
    origin: str
    help: str


def load(root: Path, environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Settings:
    """Return the settings of the project at `root`; `flags` maps field names to what a task was given.

    Raises `setting-unknown` and `setting-invalid`, which name the key and where it was set.
    """
    return Settings(**{row.name: row.value for row in explain(root, environ, flags)})  # type: ignore[arg-type]  # _typed() has checked each


def explain(root: Path, environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> list[Row]:
    """Return every setting with its value and origin, in the order of the class; raises as `load` does."""
    chosen: dict[str, tuple[object, str]] = {}
    for key, value in _table(root).items():
        chosen[_known(key, key, _TABLE)] = (value, _TABLE)
    for key, value in environ.items():
        if key.startswith(PREFIX):
            name = _known(key.removeprefix(PREFIX).lower(), key, "the environment")
            if value:
                chosen[name] = (value, key)
    for key, given in (flags or {}).items():
        if given not in (None, "", [], ()):
            flag = "--" + key.replace("_", "-")
            chosen[_known(key, flag, "the command line")] = (given, flag)
    rows = []
    for item in fields(Settings):
        raw, origin = chosen.get(item.name, (None, "default"))
        value = _default(item.name) if origin == "default" else _typed(item.name, raw, origin)
        rows.append(Row(item.name, value, origin, item.metadata["help"]))
    return rows


def help_for(name: str) -> str:
    """Return what the setting `name` is for, as a task's `--help` says it."""
    return next(str(item.metadata["help"]) for item in fields(Settings) if item.name == name)


def _table(root: Path) -> dict[str, object]:
    path = root / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text()).get("tool", {}).get("zmanim", {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadInput(
            "pyproject.toml can't be read", code="setting-invalid", expected="TOML", found=str(error)
        ) from error
    if not isinstance(table, dict):
        raise BadInput("the settings are no table", code="setting-invalid", expected="[tool.zmanim]", found=repr(table))
    return table


def _default(name: str) -> Value:
    value: Value = getattr(Settings, name)
    return value


def _known(name: str, as_written: str, where: str) -> str:
    names = [item.name for item in fields(Settings)]
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    raise BadInput(
        f"there is no setting {as_written}",
        code="setting-unknown",
        expected=f"one of {', '.join(names)}",
        found=f"{as_written} in {where}",
        fix=f"did you mean {near[0]}?" if near else "remove it",
    )


def _typed(name: str, raw: object, origin: str) -> Value:
    item = next(item for item in fields(Settings) if item.name == name)
    if isinstance(item.default, bool):
        return _truth(name, raw, origin)
    if isinstance(item.default, int):
        return _number(name, raw, origin)
    example = item.metadata["example"]
    form = re.compile(item.metadata["form"], re.ASCII)
    if isinstance(item.default, tuple):
        texts = [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) and form.fullmatch(t) for t in texts):
            raise _invalid(name, f"a list such as {example}", raw, origin)
        return tuple(texts)
    if not isinstance(raw, str) or not (form.fullmatch(raw) or raw == item.default):
        raise _invalid(name, f"text such as {example}", raw, origin)
    return raw


def _number(name: str, raw: object, origin: str) -> int:
    low, high = _LIMITS[name]
    text = raw if isinstance(raw, str) else str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else ""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
        raise _invalid(name, f"a whole number from {low} to {high}", raw, origin)
    return int(text)


def _truth(name: str, raw: object, origin: str) -> bool:
    if isinstance(raw, bool):
        return raw
    if raw in ("true", "false"):
        return raw == "true"
    raise _invalid(name, "true or false", raw, origin)


def _invalid(name: str, expected: str, raw: object, origin: str) -> BadInput:
    return BadInput(
        f"the setting {name} can't be {raw!r}",
        code="setting-invalid",
        expected=expected,
        found=f"{raw!r} from {origin}",
        fix=f"correct {origin}",
    )
