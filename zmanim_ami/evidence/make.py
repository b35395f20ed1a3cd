"""Making pages: of whatever was rehearsed or verified, however that ended, and of what was reported before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.errors import Error
from support.files import write_atomically
from support.progress import say
from zmanim_ami.evidence import account, content, page, sources
from zmanim_ami.evidence.sources import REHEARSAL, VERIFICATIONS, Sources
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version

# What can be attached to a message, and opened on a telephone.
_LARGEST = 1_000_000
# What the account says of an image of this version.
Ask = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Written:
    """Where the page is, and what it says of which version: in a word as at its top."""

    page: Path
    version: str
    verdict: str


def make(root: Path, version: str = "") -> Written:
    """Write the page of what was rehearsed or verified last below `root`, of a version or of any.

    Raises sources' errors, `page-not-written`.
    """
    return _write(sources.find(root, version))


def make_kept(clients: aws.Clients, settings: Settings, root: Path, version: Version, where: str) -> Written:
    """Write the page of the report that the account keeps on the image of a version.

    Raises as `make` does, image's and aws's errors.
    """
    report, wrong = sources.fetch(clients, root, image.find(clients, version, ""))
    _keep(report, account.look(clients, settings, str(version), where))
    return _write(replace(sources.of(root, report), attested=wrong))


@contextmanager
def of_verifications(root: Path, ask: Ask) -> Iterator[None]:
    """Make a page of each report that verify-ami writes in the body of a `with`, however that ends.

    `ask` says what the account knows of the image; after an interrupt nobody is asked.
    """
    before = _times(root)
    asked: Ask | None = ask
    try:
        yield
    except KeyboardInterrupt:
        asked = None
        raise
    finally:
        for path in _changed(root, before):
            if path != root / REHEARSAL:
                _page_after(root, path, asked)


@contextmanager
def of_rehearsal(root: Path) -> Iterator[None]:
    """Make the page of the rehearsal that writes its result in the body of a `with`, however that ends."""
    before = _times(root)
    try:
        yield
    finally:
        if root / REHEARSAL in _changed(root, before):
            _page_after(root, root / REHEARSAL, None)


def _page_after(root: Path, path: Path, ask: Ask | None) -> None:
    """Make a page beside something that counts more: that the page can't be made is said, and changes nothing."""
    try:
        found = sources.of(root, path)
        if ask is not None and found.version:
            _keep(path, ask(found.version))
            found = sources.of(root, path)
        say(f"the evidence, as a page: {_write(found).page}")
    except Error as error:
        say(f"there is no page of this: {error}")


def _keep(report: Path, said: Mapping[str, Any]) -> None:
    path = sources.account_file(report)
    try:
        write_atomically(path, json.dumps(said, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise sources.not_written(path, error) from error


def _write(found: Sources) -> Written:
    made = content.build(found)
    text = page.render(made)
    if len(text.encode()) >= _LARGEST:
        text = page.render(content.build(found, chart=False))
    try:
        write_atomically(found.page, text)
    except OSError as error:
        raise sources.not_written(found.page, error) from error
    return Written(found.page, made.version, made.verdict.word)


def _times(root: Path) -> dict[Path, int]:
    paths = [root / REHEARSAL, *(root / VERIFICATIONS).glob("ami-*.json")]
    return {path: path.stat().st_mtime_ns for path in paths if path.exists()}


def _changed(root: Path, before: Mapping[Path, int]) -> list[Path]:
    return [path for path, time in _times(root).items() if before.get(path) != time]
