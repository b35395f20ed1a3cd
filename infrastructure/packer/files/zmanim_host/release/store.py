"""Releases on this machine: their folders, the links that say which one counts, and what is remembered of them.

/opt/zmanim/baked                     the image's own release; never removed
/opt/zmanim/releases/VERSION/         a release, whole or not there
/opt/zmanim/releases/current          the one that the API starts from; /opt/zmanim/current leads here
/opt/zmanim/releases/last-good        the last one that proved itself
/data/zmanim/release.json             what outlives the root disk: serial, denied bundles, the release on probation
/var/lib/zmanim-notices/rolled-back   which releases were rolled back and are not in a mail yet
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zmanim_host.host import RUN, HostError, sync_folder, write_whole
from zmanim_host.notices import SPOOL
from zmanim_host.release import bundle
from zmanim_host.release.rules import Probation, Release, State

FORMAT = 1
CURRENT = "current"
LAST_GOOD = "last-good"
# The bundle that a folder was unpacked from; the image's own has none.
DIGEST_FILE = "bundle.sha256"
_UNFINISHED = ".unfinished"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Status:
    """What this boot knows of the release in force, for those who may not change it. `why` is one line."""

    version: str
    why: str
    on_probation: bool = False
    run_migrations: bool = True
    serial: int = 0


@dataclass(frozen=True)
class Store:
    """The releases of a machine; by default this one's. Whoever changes them holds the lock of `releases`."""

    releases: Path = Path("/opt/zmanim/releases")
    baked_link: Path = Path("/opt/zmanim/baked")
    data: Path = Path("/data")
    status: Path = RUN / "release.json"
    is_mounted: Callable[[Path], bool] = os.path.ismount
    notices: Path = SPOOL

    @property
    def state_file(self) -> Path:
        """What is remembered on the data volume."""
        return self.data / "zmanim" / "release.json"

    # ---- Folders and links ----

    def baked(self) -> Release:
        """Return the image's own release; HostError when it is not there, which no release can mend."""
        release = self._release(Path(os.path.realpath(self.baked_link)))
        if release is None:
            raise HostError(f"{self.baked_link} leads to no release: this image is broken")
        return release

    def linked(self, link: str) -> Release | None:
        """Return the release that a link leads to, or None where it leads to none that is whole."""
        return self._release(Path(os.path.realpath(self.releases / link)))

    def _release(self, folder: Path) -> Release | None:
        if folder.parent != Path(os.path.realpath(self.releases)):
            return None
        if not os.access(folder / bundle.PROGRAM, os.X_OK) or not (folder / bundle.MANIFEST).is_file():
            return None
        digest_file = folder / DIGEST_FILE
        return Release(folder.name, digest_file.read_text("ascii").strip() if digest_file.exists() else "")

    def installed(self) -> list[Release]:
        """Return every release that is there."""
        releases = (self._release(folder) for folder in self.releases.iterdir() if not folder.is_symlink())
        return [release for release in releases if release is not None]

    def point(self, link: str, release: Release) -> None:
        """Make `link` lead to a release, by one rename: before it the old one counts, after it the new one."""
        unfinished = self.releases / f"{_UNFINISHED}-{link}"
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(release.version)
        unfinished.replace(self.releases / link)
        sync_folder(self.releases)

    def install(self, release: Release, content: bytes) -> None:
        """Put a bundle that was checked into its folder: beside its place, durable, and then by one rename.

        Raises HostError when the bundle is not that release, or another one of its version is there; OSError when it
        can't be written (nothing of it stays).
        """
        place = self.releases / release.version
        if place.exists():
            raise HostError(f"{place} is there already, from another bundle: a version never changes its content")
        unfinished = self.releases / f"{_UNFINISHED}-{release.version}"
        try:
            unfinished.mkdir(mode=0o755)
            unfinished.chmod(0o755)
            write_whole(unfinished / DIGEST_FILE, release.sha256 + "\n")
            bundle.unpack(content, unfinished, release.version)
            unfinished.rename(place)
            sync_folder(self.releases)
        finally:
            if unfinished.exists():
                shutil.rmtree(unfinished)

    def sweep(self) -> None:
        """Remove what a power cut left half done."""
        for path in self.releases.glob(f"{_UNFINISHED}*"):
            path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)

    def prune(self) -> None:
        """Remove every release but the image's own, the one in force, and the last good one."""
        needed = (self.baked(), self.linked(CURRENT), self.linked(LAST_GOOD))
        for version in {each.version for each in self.installed()} - {each.version for each in needed if each}:
            shutil.rmtree(self.releases / version)

    # ---- What is remembered ----

    def load(self) -> State:
        """Return what is remembered on the data volume.

        Raises HostError without that volume, and when it can't be understood: then nobody knows which serials were
        seen.
        """
        if not self.is_mounted(self.data):
            raise HostError(f"{self.data} is not mounted")
        try:
            return state_from(json.loads(self.state_file.read_text("utf-8")))
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise HostError(f"{self.state_file} can't be understood ({error}): repair it, or remove it") from error

    def save(self, state: State) -> State:
        """Remember `state`, and return it; it is durable then. Raises OSError."""
        values = {"format": FORMAT, **asdict(state)}
        # Its name on the volume: `state_from` says why.
        values["trial"] = values.pop("probation")
        self.state_file.parent.mkdir(mode=0o755, exist_ok=True)
        write_whole(self.state_file, json.dumps(values, indent=1) + "\n")
        sync_folder(self.state_file.parent)
        return state

    def write_status(self, status: Status) -> None:
        """Write down what was chosen in this boot, and why."""
        write_whole(self.status, json.dumps(asdict(status)) + "\n")

    def read_status(self) -> Status | None:
        """Return what was last written down in this boot, or None."""
        try:
            return Status(**json.loads(self.status.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def state_from(values: Mapping[str, Any]) -> State:
    """Return the state that a file's JSON says; ValueError, KeyError or TypeError when it says something else."""
    if values["format"] != FORMAT:
        raise ValueError(f"it is of format {values['format']}")
    # The field keeps its name of format 1: volumes that older images wrote have it, and those images read it.
    probation = values["trial"]
    state = State(
        serial=values["serial"],
        digest=values["digest"],
        oldest_allowed=values["oldest_allowed"],
        denied=tuple(values["denied"]),
        probation=probation and Probation(Release(**probation["release"]), probation["restarts"]),
        rolled_back_to=values["rolled_back_to"],
    )
    if type(state.serial) is not int or not all(_SHA256.fullmatch(sha256) for sha256 in state.denied):
        raise ValueError("a serial or a denied bundle is none")
    return state
