"""bump: newer versions of what is pinned, looked up and written into the tree; a person decides on the pull request.

A pin stays on its line (Redis 7.2 for its licence, the base on its kernel, a Go module on its major); a newer file's
SHA-256 is that of the file as it was downloaded: whoever merges compares it with what its makers publish. GitHub's
actions and the API's Go modules are Dependabot's (.github/dependabot.yml).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from support.errors import Error
from support.version_order import version_key
from zmanim_ami.pipeline.advisories import releases
from zmanim_ami.pipeline.advisories.releases import Fixes
from zmanim_ami.pipeline.pins import locks
from zmanim_ami.pipeline.pins.look_ups import LookUps
from zmanim_ami.pipeline.pins.versions import VERSIONS
from zmanim_ami.toolchain import pins as tools

TOOLS = Path("tools")
PLUGINS = Path("infrastructure/packer/plugins.pkr.hcl")
# When to look again at what has just been looked at.
REVIEW_AGAIN = timedelta(days=120)
_BASE = "Amazon Linux 2023"
_IMAGE = re.compile(r"al2023-ami-(2023\.\d+\.\d{8})\.\d+-kernel-([\d.]+)-arm64")


@dataclass(frozen=True)
class Bump:
    """One pin that has something newer; `where` is the file that holds it."""

    what: str
    old: str
    new: str
    where: str


def bump(
    root: Path, look: LookUps, today: date, *, write_page: Callable[[Path], object], dry: bool = False
) -> list[Bump]:
    """Write what is newer into the clone at `root`, and return it; with `dry` only return it.

    A pin that moves gets a later review date, and `write_page` writes the contents page anew. Files are written when
    everything has been looked up. Raises `look-up-failed`, `pin-unreadable`.
    """
    pins = json.loads((root / VERSIONS).read_text())
    pinned = [*_base(pins["base"], look, today), *_artifacts(pins["artifacts"], look, today)]
    modules = list(_modules(root, look))
    locked_anew = locks.resolve(root, look, newest=True)
    locked = packages(root, locked_anew)
    bumps = [*pinned, *(each for _, each in modules), *locked]
    if bumps and not dry:
        (root / VERSIONS).write_text(json.dumps(pins, indent=2, ensure_ascii=False) + "\n")
        for tool, each in modules:
            look.get(tool.directory, tool.module, f"v{each.new}")
            if tool.name == "packer-plugin-amazon":
                plugins = (root / PLUGINS).read_text()
                (root / PLUGINS).write_text(plugins.replace(f'"= {each.old}"', f'"= {each.new}"'))
        for name, text in locked_anew.items():
            (root / name).write_text(text)
        write_page(root)
    return bumps


def lock(root: Path, look: locks.Resolver) -> list[Bump]:
    """Lock what pyproject.toml of the clone at `root` asks for, in the versions that are locked where they fit.

    Writes the locks and what wheels they have, and returns what has changed. Raises `look-up-failed`; nothing is
    written then.
    """
    texts = locks.resolve(root, look, newest=False)
    changed = packages(root, texts)
    for name, text in texts.items():
        (root / name).write_text(text)
    return changed


def packages(root: Path, texts: Mapping[str, str]) -> list[Bump]:
    """Return how the versions of these texts of locks, by name, differ from those that the clone at `root` has."""
    found = []
    for lock in locks.LOCKS:
        before, after = (_versions(text) for text in ((root / lock).read_text(), texts[lock]))
        differing = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
        found += [Bump(name, before.get(name, "none"), after.get(name, "none"), lock) for name in differing]
    return found


def _versions(lock: str) -> dict[str, str]:
    keys = (pin.key.partition("==") for pin in locks.pins(lock))
    return {name: version for name, _, version in keys}


def fixes(bumps: Sequence[Bump], mirror_list: str) -> Fixes | None:
    """Return which security advisories the base's newer release fixes; None where the base stays.

    `mirror_list` is the setting advisories_url.
    """
    base = next((each for each in bumps if each.what == _BASE), None)
    return releases.between(mirror_list, base.old, base.new) if base else None


def as_markdown(bumps: Sequence[Bump], fixed: Fixes | None = None) -> str:
    """Return the changes as a pull request's description, with what the base's newer release fixes."""
    lines = [f"- {each.what}: {each.old} → {each.new} (`{each.where}`)" for each in bumps]
    text = "\n".join(["Newer pins, each on its own line:", "", *lines]) + "\n"
    return f"{text}\n{releases.markdown(fixed)}" if fixed else text


def _base(base: dict[str, str], look: LookUps, today: date) -> Iterator[Bump]:
    # The release pins the repositories, and the filter of the source image is derived from it: one step for both.
    images = [image for name in look.images() if (image := _IMAGE.fullmatch(name))]
    found = [image[1] for image in images if image[2] == base["kernel"]]
    old, new = base["release"], _newest(_BASE, base["release"], found)
    if new != old:
        _move(base, today, release=new)
        yield Bump(_BASE, old, new, str(VERSIONS))


def _artifacts(artifacts: Mapping[str, dict[str, Any]], look: LookUps, today: date) -> Iterator[Bump]:
    for name, artifact in artifacts.items():
        if "tags" not in artifact:
            continue  # no line to follow: its address is always that of the newest
        repository, line = artifact["tags"]["repository"], artifact["tags"]["line"]
        tags = [tag.removeprefix("v") for tag in look.tags(repository) if fnmatchcase(tag, line)]
        old, new = artifact["version"], _newest(name, artifact["version"], tags)
        if new != old:
            url = artifact["url"].replace(old, new)
            _move(artifact, today, version=new, url=url, sha256=look.sha256(url))
            yield Bump(name, old, new, str(VERSIONS))


def _modules(root: Path, look: LookUps) -> Iterator[tuple[tools.Pin, Bump]]:
    for tool in tools.pins(root / TOOLS):
        major = tool.version.partition(".")[0]
        versions = [each.removeprefix("v") for each in look.modules(tool.module) if each.startswith(f"v{major}.")]
        new = _newest(tool.name, tool.version, versions)
        if new != tool.version:
            yield tool, Bump(tool.name, tool.version, new, f"{TOOLS}/{tool.name}/go.mod")


def _newest(what: str, current: str, versions: Iterable[str]) -> str:
    """Return the newest of the released versions that were listed, or the current one."""
    released = [version for version in versions if re.fullmatch(r"\d+(\.\d+)+", version)]
    if not released:
        raise Error(
            f"no version of {what} can be found",
            code="look-up-failed",
            expected=f"versions of the line that {current} is of",
            found="none",
            fix="look by hand",
        )
    return max([current, *released], key=version_key)


def _move(pin: dict[str, Any], today: date, **changes: str) -> None:
    pin.update(changes, review_by=max(pin["review_by"], str(today + REVIEW_AGAIN)))
