"""What an account says of a verified image: what is inside it, and how it differs from what is published.

Asked while verify-ami still knows where, and kept beside its report: a page can be made of that later, without AWS.
What can't be had is told with its reason; a page is no reason for a verification to fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from support.errors import Error
from zmanim_ami.evidence.reading import mapping, rows, text
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.advisories.findings import ADVISORIES_TAG
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.images import bom
from zmanim_ami.pipeline.images import diff as diffs
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

# As many as no image has; a page is to stay below 1 MB.
_MOST_COMPONENTS, _MOST_CHANGES = 1500, 1000


def look(clients: aws.Clients, settings: Settings, version: str, where: str) -> dict[str, Any]:
    """Return what the account behind `clients` says of the image of a version, for the page; `where` names it.

    Raises nothing of AWS's: `unknown` has the reasons for what is not there.
    """
    found: dict[str, Any] = {
        "where": where,
        "components": [],
        "all_components": 0,
        "sbom_sha256": "",
        "advisories": "",
        "diff": {},
    }
    unknown: list[str] = []

    def ask(what: str, how: Callable[[], Mapping[str, Any]]) -> None:
        try:
            found.update(how())
        except Error as error:
            unknown.append(f"{what}: {error.summary} ({error.found or error.code})"[:600])

    ask("what is inside", lambda: _components(bom.find(clients, parse(version))))
    ask("the difference to the published image", lambda: _difference(clients, settings, version))
    ask("advisories", lambda: _advisories(clients, version))
    return {**found, "unknown": unknown}


def _components(sbom: bom.Sbom) -> Mapping[str, Any]:
    content = mapping(json.loads(sbom.document))
    components = [
        {
            "kind": _kind(each),
            "name": text(each.get("name")),
            "version": text(each.get("version")),
            "licence": ", ".join(_licences(each)),
        }
        for each in rows(content.get("components"))
    ]
    kept = {"components": components[:_MOST_COMPONENTS], "all_components": len(components)}
    return {**kept, "sbom_sha256": sbom.sha256, "sbom_made": sbom.made}


def _kind(component: Mapping[str, object]) -> str:
    """Return what a component is in one word: RPM, Go, or as CycloneDX calls it."""
    purl = text(component.get("purl")).partition("/")[0]
    return {"pkg:rpm": "RPM", "pkg:golang": "Go", "pkg:generic": "source"}.get(purl, text(component.get("type")))


def _licences(component: Mapping[str, object]) -> Iterator[str]:
    for each in rows(component.get("licenses")):
        known = mapping(each.get("license"))
        yield from filter(None, (text(known.get("id")) or text(known.get("name")) or text(each.get("expression")),))


def _difference(clients: aws.Clients, settings: Settings, version: str) -> Mapping[str, Any]:
    found = asdict(diffs.diff(clients, settings, parse(version)))
    return {"diff": {**found, "changes": found["changes"][:_MOST_CHANGES], "all_changes": len(found["changes"])}}


def _advisories(clients: aws.Clients, version: str) -> Mapping[str, Any]:
    return {"advisories": image.find(clients, parse(version), "").tags.get(ADVISORIES_TAG, "")}
