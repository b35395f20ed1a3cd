"""The packages of an image against the published one's, by the kept report on that (attestation.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from zmanim_ami.pipeline import attestation, aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.publish import parameters


@dataclass(frozen=True)
class PackageChange:
    """A package that is not the same in both: its version, release and architecture, empty where it is not at all."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """What differs from the published image. `unknown` says why that can't be told, and is empty when it can.

    `ami_id` and `version` are the published image's, empty where nothing is published.
    """

    ami_id: str
    version: str
    unknown: str
    changes: tuple[PackageChange, ...]


def compare(clients: aws.Clients, parameter_prefix: str, packages: Mapping[str, str]) -> Comparison:
    """Compare `packages` (versions by name) with those of the image that is published now. Raises aws's errors."""
    pointer = parameters.read_parameter(clients, f"{parameter_prefix}/ami-id")
    if pointer is None:
        return Comparison("", "", "nothing is published yet", ())
    ami_id = pointer.value
    try:
        published = image.of_id(clients, ami_id)
    except image.NoSuchImage:
        return Comparison(ami_id, "", "the published image is gone", ())
    report = attestation.read_report(clients, ami_id)
    if report is None:
        return Comparison(ami_id, published.version, "no report on the published image was kept", ())
    if hashlib.sha256(report).hexdigest() != published.tags.get(image.VERIFIED_TAG, ""):
        why = f"the kept report is not the one that the published image's {image.VERIFIED_TAG} names"
        return Comparison(ami_id, published.version, why, ())
    return Comparison(ami_id, published.version, "", changes(json.loads(report)["packages"], packages))


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[PackageChange, ...]:
    """Return the packages that differ, by name."""
    return tuple(
        PackageChange(name, before.get(name, ""), after.get(name, ""))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )
