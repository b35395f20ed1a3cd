"""The versions file of a rehearsal: production's, with the artifacts that the local cloud's mirror has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.settings import CloudSettings
from support.digest import file_sha256
from support.errors import Error
from zmanim_ami.pipeline.programs import SHIPPED

MIRROR_BUCKET = "zmanim-mirror"
_MIRROR_URL = f"https://{MIRROR_BUCKET}.s3.{CloudSettings.region}.amazonaws.com"
# In the name of an archive that holds an extension compiled elsewhere, where its source could not be had.
COMPILED = "-compiled"


@dataclass(frozen=True)
class Difference:
    """One thing that a rehearsal takes in another version, or in other bytes, than production."""

    name: str
    production: str
    rehearsed: str


def rehearsed_versions(production: Mapping[str, Any], mirror: Path, architecture: str = SHIPPED) -> dict[str, Any]:
    """Return a complete versions file, in the form of `production`, whose artifacts are the files of `mirror`.

    `architecture` is that of the programs there, and of the API's.
    Base and packages are production's: the stand-in has them under the same names. Files are named NAME-VERSION… or
    NAME_VERSION…. Raises `mirror-lacks`.
    """
    artifacts = {}
    for name, pinned in production["artifacts"].items():
        file, version = _find(mirror, name)
        artifacts[name] = {
            **pinned,
            **({"architecture": architecture} if pinned["architecture"] == SHIPPED else {}),
            "version": version,
            "url": f"{_MIRROR_URL}/{file.name}",
            "sha256": file_sha256(file),
            "why": f"What the rehearsal's mirror has in place of {pinned['version']}.",
        }
    programs = {**production["programs"], "architecture": architecture}
    return {**production, "programs": programs, "artifacts": artifacts}


def _find(mirror: Path, name: str) -> tuple[Path, str]:
    pattern = re.compile(rf"{re.escape(name)}[-_](?P<version>[0-9]+(?:\.[0-9]+)+)(?![0-9])")
    matches = [(path, match) for path in sorted(mirror.iterdir()) if (match := pattern.match(path.name))]
    if len(matches) != 1:
        raise Error(
            f"the rehearsal's mirror has not exactly one file for {name}",
            code="mirror-lacks",
            expected=f"one file {name}-VERSION… in {mirror}",
            found=", ".join(path.name for path in sorted(mirror.iterdir())) or "no files at all",
            fix="every artifact of versions.json needs a place in zmanim_ami/rehearsal/standin/mirror.py",
        )
    path, match = matches[0]
    return path, match["version"]


def differences(production: Mapping[str, Any], rehearsed: Mapping[str, Any]) -> list[Difference]:
    """Return what differs between two versions files, artifact by artifact, for the report of a rehearsal.

    What the programs are for comes first.
    """
    made_for = (production["programs"]["architecture"], rehearsed["programs"]["architecture"])
    programs = [Difference("programs", *made_for)] if made_for[0] != made_for[1] else []
    pairs = [(name, pinned, rehearsed["artifacts"][name]) for name, pinned in production["artifacts"].items()]
    return programs + [
        Difference(name, _label(pinned, taken), _label(taken, pinned))
        for name, pinned, taken in pairs
        if (pinned["version"], pinned["sha256"]) != (taken["version"], taken["sha256"])
    ]


def _label(artifact: Mapping[str, str], other: Mapping[str, str]) -> str:
    digest = f" (sha256 {artifact['sha256'][:8]}…)" if artifact["version"] == other["version"] else ""
    compiled = " (compiled by Debian)" if COMPILED in artifact["url"] else ""
    return artifact["version"] + digest + compiled
