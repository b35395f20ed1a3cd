"""Where a page's content is: the report of verify-ami, what the account said, and the rehearsal that they are part of.

All of it is read as files: of what was made here, below build/; of what an account keeps, once it is fetched.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.errors import BadInput
from support.files import write_atomically
from zmanim_ami.evidence.reading import mapping, text
from zmanim_ami.pipeline import attestation, aws
from zmanim_ami.pipeline.ami import image

VERIFICATIONS = Path("build/verify")
REHEARSAL = Path("build/rehearsal/result.json")
_AMI = re.compile(r"ami-[0-9a-f]{1,32}", re.ASCII)


@dataclass(frozen=True)
class Read:
    """A file of JSON, its path relative to the clone and what it holds, and the SHA-256 of its bytes."""

    path: str
    content: Mapping[str, Any]
    sha256: str


@dataclass(frozen=True)
class Sources:
    """What a page is made from, and where it is to lie: next to what it shows.

    `attested` is what is wrong with the kept report's signature, () when it is good; None where nobody looked.
    """

    page: Path
    report: Read | None = None
    account: Read | None = None
    rehearsal: Read | None = None
    attested: tuple[str, ...] | None = None

    @property
    def version(self) -> str:
        """The version that it is about, as the newest of the sources has it."""
        source = self.rehearsal or self.report
        return text(source.content.get("version")) if source else ""


def find(root: Path, version: str = "") -> Sources:
    """Return the sources of the newest page that can be made of a version, or of anything, below build/ in `root`.

    Raises `no-report`, `report-unreadable`.
    """
    found: list[Read] = []
    unreadable: list[BadInput] = []
    for path in _newest_first(root):
        try:
            found.append(read(root, path))
        except BadInput as error:
            unreadable.append(error)
    wanted = [each for each in found if not version or text(each.content.get("version")) == version]
    if wanted:
        return of(root, root / wanted[0].path)
    if unreadable:
        raise unreadable[0]
    known = ", ".join(sorted({text(each.content.get("version")) or "(none)" for each in found}))
    raise BadInput(
        f"there is no report on {version or 'any version'} here",
        code="no-report",
        expected=f"{VERIFICATIONS}/AMI.json or {REHEARSAL} below {root}",
        found=f"reports on {known}" if known else "none",
        fix=f"./inv verify-ami --version {version or 'V'} makes one, and so does ./inv rehearse; "
        f"./inv report --kept takes the one that the account keeps",
    )


def of(root: Path, path: Path) -> Sources:
    """Return the sources of the page about one report, or about the rehearsal that it is part of.

    Raises `report-unreadable`.
    """
    rehearsal = read(root, root / REHEARSAL) if (root / REHEARSAL).exists() else None
    ami_id = path.stem if path.name != REHEARSAL.name else ""
    if rehearsal and (path == root / REHEARSAL or text(rehearsal.content.get("ami_id")) == ami_id):
        ami_id = text(rehearsal.content.get("ami_id"))
        page = (root / REHEARSAL).with_name("report.html")
    else:
        rehearsal, page = None, path.with_suffix(".html")
    directory = root / VERIFICATIONS if path == root / REHEARSAL else path.parent
    report = directory / f"{ami_id}.json"
    account = account_file(report)
    return Sources(
        page,
        read(root, report) if _AMI.fullmatch(ami_id) and report.exists() else None,
        read(root, account) if _AMI.fullmatch(ami_id) and account.exists() else None,
        rehearsal,
    )


def account_file(report: Path) -> Path:
    """Return where what the account said is kept, of the image that a report is on."""
    return report.parent / "account" / report.name


def fetch(clients: aws.Clients, root: Path, ami: image.Image) -> tuple[Path, tuple[str, ...]]:
    """Write the report that the account keeps on an image below build/verify/kept/; return where, and what is wrong.

    Raises `no-report`, aws's errors.
    """
    kept = attestation.read_report(clients, ami.ami_id)
    if kept is None:
        raise BadInput(
            f"the account keeps no report on {ami.ami_id} ({ami.version})",
            code="no-report",
            expected=f"the report of a verification that passed, and the tag {image.VERIFIED_TAG}",
            found=f"no report; the tag is {ami.tags.get(image.VERIFIED_TAG, 'not there')}",
            fix=f"./inv verify-ami --version {ami.version}; of one that failed, --kept has nothing: leave it out",
        )
    path = root / VERIFICATIONS / "kept" / f"{ami.ami_id}.json"
    try:
        write_atomically(path, kept)
    except OSError as error:
        raise not_written(path, error) from error
    return path, tuple(attestation.wrong(clients, ami))


def read(root: Path, path: Path) -> Read:
    """Read a file of JSON. Raises `report-unreadable`."""
    try:
        content = path.read_bytes()
        known = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, str(error)[:300]) from error
    if not isinstance(known, dict):
        raise _unreadable(path, f"no object: {str(known)[:300]}")
    return Read(str(path.relative_to(root)), mapping(known), hashlib.sha256(content).hexdigest())


def _unreadable(path: Path, found: str) -> BadInput:
    return BadInput(
        f"{path} can't be read",
        code="report-unreadable",
        expected="JSON, as verify-ami or rehearse writes it",
        found=found,
        fix="remove it and run that again",
    )


def not_written(path: Path, error: OSError) -> BadInput:
    """Return the error of a file that can't be put where it belongs."""
    return BadInput(
        f"{path} can't be written",
        code="page-not-written",
        expected=f"a folder {path.parent} that this user may write to, with room for 1 MB",
        found=error.strerror or str(error),
        fix=f"ls -ld {path.parent}: give it to this user, or remove what is in its place",
    )


def _newest_first(root: Path) -> Iterator[Path]:
    paths = [root / REHEARSAL, *(root / VERIFICATIONS).glob("ami-*.json")]
    yield from sorted(
        (each for each in paths if each.is_file()), key=lambda each: each.stat().st_mtime_ns, reverse=True
    )
