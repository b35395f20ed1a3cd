"""Where an image comes from: the commit, a digest of everything it is made from, and the tools that made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.digest import file_sha256, tree_sha256
from support.errors import BadInput, Error
from support.git import git, own_files
from support.process import CommandFailed
from zmanim_ami.pipeline.settings import Reader, Settings
from zmanim_ami.pipeline.version import Version

PACKER_DIRECTORY = Path("infrastructure/packer")
_SOURCES = (
    *("infrastructure", "api", "support", "tools", "requirements.txt"),
    *("zmanim_ami/commands", "zmanim_ami/pipeline", "zmanim_ami/toolchain"),
)


@dataclass(frozen=True)
class Provenance:
    """What the image's tags tell of its making.

    `commit` is 40 hex digits, with `-dirty` behind them when the work tree differs from it. `tree_digest` is a SHA-256
    in hex. `tool_versions` is one line such as `packer 1.15.0, packer-plugin-amazon 1.8.2, go1.26.8`.
    """

    commit: str
    tree_digest: str
    tool_versions: str

    def tags(self, version: Version) -> dict[str, str]:
        """Return the tags that an image of `version` made from this carries."""
        return {
            "zmanim:version": str(version),
            "zmanim:commit": self.commit,
            "zmanim:tree-digest": self.tree_digest,
        }


def describe(
    root: Path,
    bundle: Path,
    settings: Settings,
    tools: Mapping[str, str],
    release_keys: Mapping[str, str] | None = None,
) -> Provenance:
    """Return the provenance of an image made from the clone at `root` and the release bundle `bundle`.

    `tools` maps a tool's name to its version; the Go that built the API is added from the bundle's manifest.
    `release_keys` maps an environment to the public key that goes into the image.

    Raises `not-a-clone`, `versions-file-unreadable`.
    """
    manifest = json.loads((bundle / "manifest.json").read_text())
    versions = {**tools, "go": str(manifest.get("go", "unknown")).removeprefix("go")}
    return Provenance(
        commit=commit(root),
        tree_digest=tree_digest(root, bundle, settings, versions, release_keys or {}),
        tool_versions=", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
    )


def commit(root: Path) -> str:
    """Return the commit of the clone at `root`, with `-dirty` when anything differs from it.

    Raises `not-a-clone`.
    """
    try:
        sha = git(root, "rev-parse", "--verify", "HEAD").strip()
        return f"{sha}-dirty" if git(root, "status", "--porcelain").strip() else sha
    except CommandFailed as error:
        raise Error(
            "git can't say which commit this is",
            code="not-a-clone",
            expected=f"{root} to be a clone with at least one commit",
            found=error.output.strip(),
            fix="work in a clone of the repository",
        ) from error


def committed(root: Path) -> datetime:
    """Return when (UTC) the commit of the clone at `root` was made: the time that what is built of it names."""
    return datetime.fromtimestamp(int(git(root, "show", "--no-patch", "--format=%ct", "HEAD")), UTC)


def tree_digest(
    root: Path, bundle: Path, settings: Settings, tools: Mapping[str, str], release_keys: Mapping[str, str]
) -> str:
    """Return one SHA-256 over all that decides what is in the image.

    That is the files of infrastructure/packer (what git does not ignore: build output is no input), the bundle's
    manifest, which holds the digests of the binary and the migrations, the versions file wherever it is, the tools'
    versions, the release channels' keys, and the settings that change the image itself.
    """
    packer = root / PACKER_DIRECTORY
    parts = {
        "packer": tree_sha256(packer, own_files(root, str(PACKER_DIRECTORY))),
        "bundle": file_sha256(bundle / "manifest.json"),
        "versions": versions_sha256(root, settings),
        "tools": dict(sorted(tools.items())),
        "release keys": dict(sorted(release_keys.items())),
        "settings": settings.read_by(Reader.IMAGE_CONTENT),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sources(root: Path) -> str:
    """Return one SHA-256 over every file that a release is built, verified and published by, as it lies there now.

    It needs nothing built, as tree_digest does: two clones can tell without building whether they are the same tree.
    Raises CommandFailed outside of a clone.
    """
    return tree_sha256(root, own_files(root, *_SOURCES))


def versions_sha256(root: Path, settings: Settings) -> str:
    """Return the SHA-256 of the versions file that the settings name.

    Raises `versions-file-unreadable`.
    """
    versions(root, settings)
    return file_sha256(root / settings.versions_file)


def versions(root: Path, settings: Settings) -> Mapping[str, Any]:
    """Return the versions file that the settings name. Raises `versions-file-unreadable`."""
    path = root / settings.versions_file
    try:
        content: Mapping[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            "the versions file can't be read",
            code="versions-file-unreadable",
            expected=f"{path} as JSON (setting versions_file)",
            found=str(error),
            fix="see infrastructure/packer/versions.schema.json",
        ) from error
    return content
