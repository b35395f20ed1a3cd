"""image.advisories: what is open today for what is inside an image, by the newest release's advisories and Go's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from support.errors import BadInput, Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.advisories import findings, golang, updateinfo
from zmanim_ami.pipeline.advisories.findings import Open
from zmanim_ami.pipeline.ami import image, inventories
from zmanim_ami.pipeline.ami.binary import PROGRAM
from zmanim_ami.pipeline.publish import parameters
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version, parse

# With one of these open an image should be built anew.
GRAVE = ("critical", "important", "unknown")


@dataclass(frozen=True)
class Advisories:
    """What is open for an image, by severity and one by one, and what nobody issues advisories for."""

    version: str
    ami_id: str
    at: str
    counts: Mapping[str, int]
    open: tuple[Open, ...]
    not_covered: tuple[str, ...]

    @property
    def grave(self) -> bool:
        """Whether something is open that should not wait."""
        return any(each.severity in GRAVE for each in self.open)


def published(clients: aws.Clients, settings: Settings) -> Version:
    """Return the version that is published. Raises `nothing-published`, aws's errors."""
    pointer = parameters.read(clients, settings.parameter_prefix)
    if not pointer.version:
        raise BadInput(
            "nothing is published",
            code="nothing-published",
            expected=f"{pointer.version_name}, or a version",
            found="no such parameter",
        )
    return parse(pointer.version.value)


def look(
    clients: aws.Clients,
    settings: Settings,
    version: Version,
    ask: golang.Ask,
    get: Callable[[str], bytes] | None = None,
) -> Advisories:
    """Return what is open now for the image of a version. `ask` asks of Go modules, `get` reads an address.

    Raises `no-inventory`, `inventory-too-old`, `advisories-unreadable`, image's and aws's errors.
    """
    ami = image.find(clients, version, "")
    inventory = inventories.read(clients, ami.ami_id)
    if inventory is None:
        raise Error(
            f"nobody knows what is inside {ami.ami_id} ({version})",
            code="no-inventory",
            expected=f"the inventory that build-ami keeps (inventories/{ami.ami_id}.json)",
            found="none",
            fix="build the image anew, where ./inv account.apply has made the buckets",
        )
    found = findings.find(inventory, updateinfo.parse(updateinfo.fetch(settings.advisories_url, get)))
    found = golang.add(found, inventory, PROGRAM, ask)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Advisories(str(version), ami.ami_id, at, found.counts, found.open, found.not_covered)


def markdown(result: Advisories) -> str:
    """Return it as Markdown, for a workflow's summary."""
    counts = ", ".join(f"{number} {severity}" for severity, number in result.counts.items())
    lines = [f"## {result.version}: {counts} open, {len(result.not_covered)} not covered", ""]
    if result.open:
        lines += ["| advisory | severity | packages |", "| --- | --- | --- |"]
        lines += [f"| {each.id} | {each.severity} | {', '.join(each.packages)} |" for each in result.open]
        lines.append("")
    if result.not_covered:
        lines.append(f"Not covered by anybody's advisories: {', '.join(result.not_covered)}.")
    return "\n".join(lines) + "\n"
