"""Look-ups for `bump` that know what a clone has, and besides only what a test adds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, cast

from zmanim_ami.pipeline.pins import bump, locks
from zmanim_ami.pipeline.pins.bump import Bump
from zmanim_ami.pipeline.pins.locks import LOCKS
from zmanim_ami.pipeline.pins.look_ups import LookUps
from zmanim_ami.pipeline.pins.versions import VERSIONS
from zmanim_ami.toolchain import pins as tools

TODAY = date(2030, 1, 2)


def pins(clone: Path) -> Any:
    """Return the versions file as it stands there."""
    return json.loads((clone / VERSIONS).read_text())


@dataclass
class Known:
    """Stands in for LookUps; `got` are the modules that a tool was made to need."""

    clone: Path
    tagged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    imaged: Sequence[str] = ()
    published: Mapping[str, Sequence[str]] = field(default_factory=dict)
    resolved: Callable[[str], str] = str
    got: list[tuple[str, str, str]] = field(default_factory=list)

    def tags(self, repository: str) -> list[str]:
        known = {
            each["tags"]["repository"]: (name, each)
            for name, each in pins(self.clone)["artifacts"].items()
            if "tags" in each
        }
        name, artifact = known[repository]
        prefix = "v" if artifact["tags"]["line"].startswith("v") else ""
        return [f"{prefix}{artifact['version']}", *self.tagged.get(name, ())]

    def images(self) -> list[str]:
        base = pins(self.clone)["base"]
        return [f"al2023-ami-{base['release']}.0-kernel-{base['kernel']}-arm64", *self.imaged]

    def modules(self, module: str) -> list[str]:
        (tool,) = (each for each in tools.pins(self.clone / "tools") if each.module == module)
        return [f"v{tool.version}", *self.published.get(tool.name, ())]

    def sha256(self, url: str) -> str:
        assert self.tagged, "nothing is newer"
        return hashlib.sha256(url.encode()).hexdigest()

    def get(self, directory: Path, module: str, version: str) -> None:
        self.got.append((directory.name, module, version))

    def lock(self, root: Path, sources: Sequence[str], preferred: str) -> str:
        (name,) = (name for name, each in LOCKS.items() if each == sources)
        return self.resolved((root / name).read_text())

    def wheels(self, root: Path, lock: str) -> str:
        return pylock({pin.key: [f"{pin.key.replace('==', '-')}-py3-none-any.whl"] for pin in locks.pins(lock)})


def pylock(files: Mapping[str, Sequence[str]]) -> str:
    """Return a pylock.toml of these wheels by NAME==VERSION."""
    text = 'lock-version = "1.0"\n'
    for key, wheels in files.items():
        name, _, version = key.partition("==")
        listed = ", ".join(f'{{ url = "https://index.example/{wheel}" }}' for wheel in wheels)
        text += f'[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{listed}]\n'
    return text


def write_page(root: Path) -> None:
    """Stand in for the contents page, which is made from the whole image."""
    base = pins(root)["base"]
    (root / "docs/ami-contents.md").write_text(f"on {base['release']}\n")


def run(known: Known, *, dry: bool = False, write: Callable[[Path], object] = write_page) -> list[Bump]:
    """Bump the clone of `known`; `write` makes its contents page."""
    return bump.bump(known.clone, cast(LookUps, known), TODAY, write_page=write, dry=dry)
