"""image.diff: what is different between the images of two versions, from what was kept of them.

Packages and versions come from the reports of their verifications, each of which is the one that its image's tag (or
its record, where the image is gone) names; files, units, users, ports and Go modules from their builders' inventories,
and which advisories are open for each from what was kept with the later one. What was not kept is said, and never shown
as "the same".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.errors import BadInput, Error
from zmanim_ami.pipeline import attestation, aws
from zmanim_ami.pipeline.advisories import findings, kept
from zmanim_ami.pipeline.advisories.updateinfo import Advisory
from zmanim_ami.pipeline.ami import image, inventories
from zmanim_ami.pipeline.publish import parameters, record
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version, parse

# In the order in which they are shown.
KINDS: Mapping[str, str] = {
    "image": "The image",
    "version": "Versions",
    "package": "Packages",
    "module": "Go modules",
    "advisory": "Advisories",
    "configuration": "Configuration",
    "file": "Other files of ours",
    "unit": "Units",
    "user": "Users",
    "port": "Listening on the builder",
}


@dataclass(frozen=True)
class Change:
    """One thing that is not the same in both; empty where it is not at all. `kind` is one of KINDS."""

    kind: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Diff:
    """What differs from the image of `before` to that of `after`; `unknown` is what nobody knows, with the reason."""

    before: str
    after: str
    unknown: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class _Side:
    """What was kept of an image: values by kind and name. A kind that is missing is not known.

    `advisories` are all that were about its packages when it was built.
    """

    version: str
    known: Mapping[str, Mapping[str, str]]
    unknown: tuple[str, ...]
    inventory: Mapping[str, Any] | None
    advisories: tuple[Advisory, ...] | None


def diff(clients: aws.Clients, settings: Settings, after: Version, before: Version | None = None) -> Diff:
    """Return what is different in the image of `after`, against that of `before` or the published one.

    Before the first publication there is nothing to compare with, which it says.

    Raises `no-such-image`, aws's and record's errors.
    """
    if before is None:
        pointer = parameters.read(clients, settings.parameter_prefix)
        if not pointer.version:
            return Diff("", str(after), ("anything, as nothing is published yet",), ())
        before = parse(pointer.version.value)
    old, new = _side(clients, settings, before), _side(clients, settings, after)
    unknown = [*old.unknown, *new.unknown]
    known = dict(old.known), dict(new.known)
    for side, values in zip((old, new), known, strict=True):
        # By one list for both, the later one: what came out since is open in the older image, too.
        opened = _open(side.inventory, new.advisories)
        if opened is None:
            unknown.append(f"advisories for {side.version} (nothing to compare was kept)")
        else:
            values["advisory"] = opened
    changes = [
        Change(kind, name, was.get(name, ""), now.get(name, ""))
        for kind in KINDS
        if (was := known[0].get(kind)) is not None and (now := known[1].get(kind)) is not None
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    return Diff(old.version, new.version, tuple(unknown), tuple(changes))


def markdown(result: Diff) -> str:
    """Return a diff as Markdown, for a workflow's summary or a release's text."""
    lines = [f"## {result.before or 'nothing'} → {result.after}", ""]
    if not result.changes and not result.unknown:
        lines.append("The same in all that was kept of both.")
    lines += [f"- not known: {each}" for each in result.unknown]
    for kind, title in KINDS.items():
        rows = [each for each in result.changes if each.kind == kind]
        if rows:
            lines += ["", f"### {title}", "", f"| {kind} | {result.before} | {result.after} |", "| --- | --- | --- |"]
            none = "not open" if kind == "advisory" else "not in it"
            lines += [f"| {row.name} | {row.before or none} | {row.after or none} |" for row in rows]
    return "\n".join(lines) + "\n"


def _side(clients: aws.Clients, settings: Settings, version: Version) -> _Side:
    ami = image.of_name(clients, version.image_name)
    recorded = record.read(clients, settings.parameter_prefix, str(version))
    ami_id = ami.ami_id if ami else (recorded.images.get(clients.region, "") if recorded else "")
    if not ami_id:
        raise BadInput(
            f"there is no image of {version}, and it was never published",
            code="no-such-image",
            expected="a version that was built",
            found="nothing",
            fix="./inv image.list",
        )
    known: dict[str, Mapping[str, str]] = {}
    unknown = []
    if ami:
        sources = {name: ami.tags.get(f"zmanim:{name}", "") for name in ("source-ami", "commit")}
        known["image"] = {"size": f"{ami.size_gib} GiB", **sources}
    digest = ami.tags.get(image.VERIFIED_TAG, "") if ami else (recorded.report if recorded else "")
    report = attestation.read_report(clients, ami_id)
    if report is not None and hashlib.sha256(report).hexdigest() == digest:
        content = json.loads(report)
        known |= {"version": content["versions"], "package": content["packages"]}
    else:
        why = "none was kept" if report is None else "the kept one is not the one that the image names"
        unknown.append(f"versions and packages of {version} (a passed verification's report: {why})")
    inventory = inventories.read(clients, ami_id)
    described = inventories.read(clients, ami_id, inventories.ADVISORIES)
    if inventory is not None:
        known |= dict(_inventory(inventory))
        known.setdefault("package", inventory["packages"])
    else:
        unknown.append(f"files, units, users and ports of {version} (its inventory was not kept)")
    return _Side(str(version), known, tuple(unknown), inventory, kept.advisories(described) if described else None)


def _inventory(inventory: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str]]]:
    files: Mapping[str, Mapping[str, str]] = inventory["files"]
    # A release's own directory has its version in its name: the same file of two releases is one row.
    release = f"/releases/{inventory['release']['version']}/"
    named = {path.replace(release, "/releases/VERSION/"): _file(about) for path, about in files.items()}
    yield "configuration", {path: about for path, about in named.items() if path.startswith("/etc/")}
    yield "file", {path: about for path, about in named.items() if not path.startswith("/etc/")}
    if "go" in inventory:
        yield "module", dict(_modules(inventory["go"]))
    yield "unit", inventory["units"]
    yield "user", inventory["users"]
    yield "port", dict.fromkeys(_ports(inventory["listening_on_the_builder"]), "listens")


def _open(inventory: Mapping[str, Any] | None, advisories: tuple[Advisory, ...] | None) -> dict[str, str] | None:
    """Return what is open for an image by these advisories; None when nobody can tell."""
    if inventory is None or advisories is None:
        return None
    try:
        found = findings.find(inventory, advisories)
    except Error as error:
        if error.code != "inventory-too-old":
            raise
        return None
    return {each.id: f"{each.severity}: {', '.join(each.packages)}" for each in found.open}


def _modules(programs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, info in programs.items():
        program = path.rpartition("/")[2]
        yield f"{program}: go", info["go"]
        yield from ((f"{program}: {module}", version) for module, version in info["modules"].items())


def _file(about: Mapping[str, str]) -> str:
    if "link" in about:
        return f"-> {about['link']}"
    return f"{about.get('mode', '')} {about.get('owner', '')} {about.get('sha256', '')[:12]}"


def _ports(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        protocol, _, local = line.partition(" ")
        address, _, port = local.rpartition(":")
        where = "loopback" if address.startswith(("127.", "[::1]")) else "reachable"
        yield f"{protocol} {port}, {where}"
