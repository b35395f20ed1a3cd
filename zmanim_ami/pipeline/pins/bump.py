"""bump: newer versions of what is pinned, found and written into the tree; a person decides on the pull request.

What may follow what is here: a pin stays on its line (Redis 7.2 for its licence, the base on its kernel), and a newer
file's SHA-256 is that of the file as it was downloaded: whoever merges compares it with what its makers publish.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.errors import Error
from support.version_order import version_key

VERSIONS = Path("infrastructure/packer/versions.json")
WORKFLOWS = Path(".github/workflows")
TOOLS = Path("tools")
# Artifact -> where its tags are, and what a tag of its line looks like: the group is the version.
_LINES: Mapping[str, tuple[str, str]] = {
    "redis": ("https://github.com/redis/redis", r"(7\.2\.\d+)"),
    "pgvector": ("https://github.com/pgvector/pgvector", r"v(0\.\d+\.\d+)"),
    "pg_cron": ("https://github.com/citusdata/pg_cron", r"v(1\.\d+\.\d+)"),
    "restic": ("https://github.com/restic/restic", r"v(0\.\d+\.\d+)"),
}
# Tool -> the module whose version is the tool's, and the line that it stays on.
_MODULES: Mapping[str, tuple[str, str]] = {
    "packer": ("github.com/hashicorp/packer", r"v(1\.\d+\.\d+)"),
    "packer-plugin-amazon": ("github.com/hashicorp/packer-plugin-amazon", r"v(1\.\d+\.\d+)"),
    "restic": ("github.com/restic/restic", r"v(0\.\d+\.\d+)"),
}
_USES = re.compile(r"uses: (?P<action>[\w-]+/[\w-]+)(?P<path>[\w/-]*)@(?P<commit>[0-9a-f]{40})  # v(?P<version>[\d.]+)")
_ACTION_TAG = r"v(\d+\.\d+\.\d+)"
_IMAGE = re.compile(r"al2023-ami-(2023\.\d+\.\d{8})\.\d+-kernel-([\d.]+)-arm64")


@dataclass(frozen=True)
class LookUps:
    """Where newer versions are looked up: each may fail with a Error.

    `tags` gives the commits of a repository's tags by their names, `modules` a Go module's versions, `images` the names
    of Amazon's images, `sha256` the digest of what is at an address. `get` changes the Go module in a directory to need
    a module in a version.
    """

    tags: Callable[[str], Mapping[str, str]]
    modules: Callable[[str], Sequence[str]]
    images: Callable[[], Sequence[str]]
    sha256: Callable[[str], str]
    get: Callable[[Path, str, str], None]


@dataclass(frozen=True)
class Bump:
    """One pin that has something newer; `where` is the file that holds it."""

    what: str
    old: str
    new: str
    where: str


def bump(root: Path, look: LookUps, *, dry: bool = False) -> list[Bump]:
    """Write what is newer into the clone at `root`, and return it; with `dry` only return it.

    Raises `look-up-failed` and the look-ups' own faults; files are written when everything has been looked up.
    """
    text = (root / VERSIONS).read_text()
    pins = json.loads(text)
    found: list[Bump] = []
    for name, new in _base(pins["base"], look):
        found.append(Bump(name, pins["base"]["release"], new, str(VERSIONS)))
        text = _replace(text, f'"release": "{pins["base"]["release"]}"', f'"release": "{new}"')
    for name, artifact in pins["artifacts"].items():
        if (new := _artifact(name, artifact["version"], look)) != artifact["version"]:
            url = artifact["url"].replace(artifact["version"], new)
            found.append(Bump(name, artifact["version"], new, str(VERSIONS)))
            text = _replace(text, f'"version": "{artifact["version"]}",\n      "url": "{artifact["url"]}"', (
                f'"version": "{new}",\n      "url": "{url}"'
            ))  # fmt: skip
            text = _replace(text, artifact["sha256"], look.sha256(url))
    workflows = {path: path.read_text() for path in sorted((root / WORKFLOWS).glob("*.yml"))}
    used = _actions(workflows)
    actions = {each: _newest(look.tags(f"https://github.com/{each}"), _ACTION_TAG, each) for each in used}
    for path, content in workflows.items():
        workflows[path] = _USES.sub(lambda used: _use(used, actions), content)
    found += _moved(actions, root)
    modules = list(_newer_modules(root, look))
    found += [Bump(name, old, new, f"{TOOLS}/{name}/go.mod") for name, _, old, new in modules]
    if not dry:
        (root / VERSIONS).write_text(text)
        for path, content in workflows.items():
            path.write_text(content)
        for name, module, _, new in modules:
            look.get(root / TOOLS / name, module, f"v{new}")
    return found


def words(found: Sequence[Bump]) -> str:
    """Return the changes as a pull request tells them, in Markdown."""
    lines = [f"- {each.what}: {each.old} → {each.new} (`{each.where}`)" for each in found]
    return "\n".join(["Newer pins, each on its own line:", "", *lines]) + "\n"


def _base(base: Mapping[str, str], look: LookUps) -> Iterator[tuple[str, str]]:
    # The release pins the repositories, and the filter of the source image is derived from it: one step for both.
    images = [found for name in look.images() if (found := _IMAGE.fullmatch(name))]
    releases = [found[1] for found in images if found[2] == base["kernel"]]
    if not releases:
        raise _failed("Amazon Linux 2023", f"an image with kernel {base['kernel']}")
    newest = max(releases, key=version_key)
    if version_key(newest) > version_key(base["release"]):
        yield "Amazon Linux 2023", newest


def _artifact(name: str, version: str, look: LookUps) -> str:
    if name not in _LINES:
        return version  # no line to follow: its address is always that of the newest
    repository, line = _LINES[name]
    newest = _newest(look.tags(repository), line, name)[0]
    return newest if version_key(newest) > version_key(version) else version


def _newest(tags: Mapping[str, str], line: str, name: str) -> tuple[str, str]:
    """Return the newest version on a line, and its commit."""
    versions = {found[1]: commit for tag, commit in tags.items() if (found := re.fullmatch(line, tag))}
    if not versions:
        raise _failed(name, f"a tag like {line}")
    newest = max(versions, key=version_key)
    return newest, versions[newest]


def _actions(workflows: Mapping[Path, str]) -> list[str]:
    return sorted({used["action"] for text in workflows.values() for used in _USES.finditer(text)})


def _use(used: re.Match[str], actions: Mapping[str, tuple[str, str]]) -> str:
    version, commit = actions[used["action"]]
    if version_key(version) <= version_key(used["version"]):
        return used[0]
    return f"uses: {used['action']}{used['path']}@{commit}  # v{version}"


def _moved(actions: Mapping[str, tuple[str, str]], root: Path) -> Iterator[Bump]:
    seen: dict[tuple[str, str], str] = {}
    for path in sorted((root / WORKFLOWS).glob("*.yml")):
        for used in _USES.finditer(path.read_text()):
            seen.setdefault((used["action"], used["version"]), str(path.relative_to(root)))
    for (action, old), where in sorted(seen.items()):
        if version_key(actions[action][0]) > version_key(old):
            yield Bump(action, old, actions[action][0], where)


def _newer_modules(root: Path, look: LookUps) -> Iterator[tuple[str, str, str, str]]:
    for name, (module, line) in _MODULES.items():
        text = (root / TOOLS / name / "go.mod").read_text()
        found = re.search(rf"^(?:require\s+|\t){re.escape(module)} v(\S+)", text, re.MULTILINE)
        if not found:
            raise _failed(name, f"a requirement of {module} in {TOOLS}/{name}/go.mod")
        newest = _newest(dict.fromkeys(look.modules(module), ""), line, name)[0]
        if version_key(newest) > version_key(found[1]):
            yield name, module, found[1], newest


def _replace(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise Error(
            f"{VERSIONS} can't be changed",
            code="look-up-failed",
            expected=f"{old} once",
            found=f"{text.count(old)} times",
            fix="by hand",
        )
    return text.replace(old, new)


def _failed(name: str, expected: str) -> Error:
    return Error(
        f"nobody can say what is newest of {name}",
        code="look-up-failed",
        expected=expected,
        found="none",
        fix="look by hand",
    )
