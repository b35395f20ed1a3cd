"""Releases on this machine: their folders, the links that say which one counts, and what is remembered of them.

/opt/zmanim/baked                   the image's own release; never removed
/opt/zmanim/releases/VERSION/       a release, whole or not there
/opt/zmanim/releases/current        the one that the API starts from; /opt/zmanim/current leads here
/opt/zmanim/releases/last-good      the last one that proved itself
/data/zmanim/release.json           what outlives the root disk: serial, denied bundles, the trial
/var/lib/zmanim-notices/taken-back  what was taken back and is not in a mail yet
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zmanim_host.host import RUN, HostError, write_whole
from zmanim_host.notices import SPOOL
from zmanim_host.release import bundle
from zmanim_host.release.rules import Release, State, Trial
from zmanim_host.storage.data_layout import sync_folder

FORMAT = 1
CURRENT = "current"
LAST_GOOD = "last-good"
# The bundle that a folder was unpacked from; the image's own has none.
MARK = "bundle.sha256"
_UNFINISHED = ".unfinished"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Store:
    """Where everything is."""

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

    def folder(self, version: str) -> Path:
        """Where a release is, or would be."""
        return self.releases / version


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Keep others who change the releases out: a start of the API and its health check may come at one moment."""
    descriptor = os.open(store.releases, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ---- Folders and links ----


def baked(store: Store) -> Release:
    """Return the image's own release; HostError when it is not there, which no release can mend."""
    found = _release(store, Path(os.path.realpath(store.baked_link)))
    if found is None:
        raise HostError(f"{store.baked_link} leads to no release: this image is broken")
    return found


def linked(store: Store, link: str) -> Release | None:
    """Return the release that a link leads to, or None where it leads to none that is whole."""
    return _release(store, Path(os.path.realpath(store.releases / link)))


def _release(store: Store, folder: Path) -> Release | None:
    if folder.parent != Path(os.path.realpath(store.releases)):
        return None
    if not os.access(folder / bundle.PROGRAM, os.X_OK) or not (folder / bundle.MANIFEST).is_file():
        return None
    mark = folder / MARK
    return Release(folder.name, mark.read_text("ascii").strip() if mark.exists() else "")


def installed(store: Store) -> list[Release]:
    """Return every release that is there."""
    found = (_release(store, folder) for folder in store.releases.iterdir() if not folder.is_symlink())
    return [release for release in found if release is not None]


def point(store: Store, link: str, release: Release) -> None:
    """Make `link` lead to a release, by one rename: before it the old one counts, after it the new one."""
    unfinished = store.releases / f"{_UNFINISHED}-{link}"
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(release.version)
    unfinished.replace(store.releases / link)
    sync_folder(store.releases)


def install(store: Store, release: Release, content: bytes) -> None:
    """Put a bundle that was checked into its folder: beside its place, durable, and then by one rename.

    Raises HostError when the bundle is not that release, or another one of its version is there; OSError when it can't
    be written (nothing of it stays).
    """
    place = store.folder(release.version)
    if place.exists():
        raise HostError(f"{place} is there already, from another bundle: a version never changes its content")
    unfinished = store.releases / f"{_UNFINISHED}-{release.version}"
    try:
        unfinished.mkdir(mode=0o755)
        unfinished.chmod(0o755)
        write_whole(unfinished / MARK, release.sha256 + "\n")
        bundle.unpack(content, unfinished, release.version)
        unfinished.rename(place)
        sync_folder(store.releases)
    finally:
        if unfinished.exists():
            shutil.rmtree(unfinished)


def sweep(store: Store) -> None:
    """Remove what a power cut left half done."""
    for path in store.releases.glob(f"{_UNFINISHED}*"):
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)


def prune(store: Store) -> None:
    """Remove every release but the image's own, the one in force, and the last good one."""
    kept = {found.version for found in (baked(store), linked(store, CURRENT), linked(store, LAST_GOOD)) if found}
    for release in installed(store):
        if release.version not in kept:
            shutil.rmtree(store.folder(release.version))


# ---- What is remembered ----


def load(store: Store) -> State:
    """Return what is remembered on the data volume.

    Raises HostError without that volume, and when it can't be understood: then nobody knows which serials were seen.
    """
    if not store.is_mounted(store.data):
        raise HostError(f"{store.data} is not mounted")
    try:
        return state_from(json.loads(store.state_file.read_text("utf-8")))
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise HostError(f"{store.state_file} can't be understood ({error}): repair it, or remove it") from error


def save(store: Store, state: State) -> None:
    """Remember `state`; it is durable when this returns. Raises OSError."""
    store.state_file.parent.mkdir(mode=0o755, exist_ok=True)
    write_whole(store.state_file, json.dumps({"format": FORMAT, **dataclasses.asdict(state)}, indent=1) + "\n")
    sync_folder(store.state_file.parent)


def state_from(said: Mapping[str, Any]) -> State:
    """Return the state that a file's JSON says; ValueError, KeyError or TypeError when it says something else."""
    if said["format"] != FORMAT:
        raise ValueError(f"it is of format {said['format']}")
    trial = said["trial"]
    state = State(
        serial=said["serial"],
        digest=said["digest"],
        oldest_allowed=said["oldest_allowed"],
        denied=tuple(said["denied"]),
        trial=trial and Trial(Release(trial["release"]["version"], trial["release"]["sha256"]), trial["restarts"]),
        rolled_back_to=said["rolled_back_to"],
    )
    if type(state.serial) is not int or not all(_SHA256.fullmatch(sha256) for sha256 in state.denied):
        raise ValueError("a serial or a denied bundle is none")
    return state


@dataclass(frozen=True)
class Status:
    """What this boot knows of the release in force, for those who may not change it. `why` is one line."""

    version: str
    why: str
    on_trial: bool = False
    run_migrations: bool = True
    serial: int = 0


def tell(store: Store, status: Status) -> None:
    """Write down what was chosen, and why."""
    write_whole(store.status, json.dumps(dataclasses.asdict(status)) + "\n")


def told(store: Store) -> Status | None:
    """Return what was last written down in this boot, or None."""
    try:
        return Status(**json.loads(store.status.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
