"""The SBOM itself: CycloneDX, from an image's inventory alone, so that equal inventories give equal bytes.

What is in it: each RPM; what was compiled, by its source; restic and the API with the Go modules that their build
information names, and Go's standard library; our own Python, file by file. An RPM's licence is in its packager's words,
which are seldom SPDX's.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion

from support.errors import Error
from zmanim_ami.pipeline.sbom import purl

RESTIC = "/usr/local/bin/restic"
_RESTIC_MODULE = "github.com/restic/restic"
_PYTHON = "/opt/zmanim/zmanim_host/"
_PROGRAM = "zmanim-api"

Inventory = Mapping[str, Any]


def of_file(inventory: Path, made: datetime) -> bytes:
    """Return the SBOM for the inventory in a file. Raises `sbom-invalid`."""
    try:
        content = json.loads(inventory.read_text())
    except (OSError, ValueError) as error:
        raise _invalid(str(error)) from error
    return make(content, made)


def make(inventory: Inventory, made: datetime) -> bytes:
    """Return the SBOM of an image as JSON; `made` is the time that it names, that of the commit.

    Raises `sbom-invalid` when it would not be one, or the inventory lacks something.
    """
    try:
        text = JsonV1Dot6(_bom(inventory, made)).output_as_string(indent=1)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _invalid(f"the inventory: {error!r}") from error
    check(text)
    return f"{text}\n".encode()


def check(text: str) -> None:
    """Raise `sbom-invalid` unless the schema of CycloneDX 1.6 accepts a document."""
    # Here: its formats' grammar takes seconds to load, and every task has this module.
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise _invalid(str(error)[:500])


def _invalid(found: str) -> Error:
    return Error(
        "no valid SBOM can be made of the image",
        code="sbom-invalid",
        expected="an inventory of the build's, and a document that CycloneDX's schema accepts",
        found=found,
        fix="infrastructure/packer/scripts/inventory.py writes the inventory: what has changed there?",
    )


def _bom(inventory: Inventory, made: datetime) -> Bom:
    release, os = inventory["release"], inventory["os"]
    compiled = {
        name: each for name, each in inventory["versions"]["artifacts"].items() if each["architecture"] == "source"
    }
    image = Component(
        type=ComponentType.CONTAINER,
        name="zmanim",
        version=release["version"],
        bom_ref="zmanim",
        properties=[Property(name="zmanim:commit", value=release["commit"])],
    )
    system = Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=os["ID"],
        version=os["VERSION_ID"],
        description=os["PRETTY_NAME"],
        bom_ref="operating-system",  # without one of ours, each component gets one by chance
    )
    packages = [
        _compiled(row, compiled[row["name"]]) if row["name"] in compiled else _package(row, os)
        for row in inventory["rpms"]
    ]
    programs = {path: _program(path, inventory) for path in inventory["go"]}
    python = Component(
        type=ComponentType.APPLICATION,
        name="zmanim-host",
        version=release["version"],
        bom_ref="zmanim-host",
        components=_files(inventory["files"], _PYTHON),
    )
    modules = {path: list(_modules(inventory["go"][path])) for path in programs}
    by_ref = {str(each.bom_ref): each for several in modules.values() for each in several}
    known = [system, *packages, *programs.values(), python]
    # From what it is made of, not by chance: two builds of one commit say the same. A builder's sockets have an address
    # that it was given, and are no part of the image.
    content = {name: part for name, part in inventory.items() if name != "listening_on_the_builder"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}"),
        metadata=BomMetaData(component=image, timestamp=made),
        components=[*known, *by_ref.values()],
    )
    bom.register_dependency(image, known)
    for path, program in programs.items():
        bom.register_dependency(program, (by_ref[str(each.bom_ref)] for each in modules[path]))
    return bom


def _package(row: Mapping[str, str], os: Mapping[str, str]) -> Component:
    url = purl.rpm(row, os)
    return Component(
        name=row["name"],
        version=url.version,
        purl=url,
        bom_ref=str(url),
        licenses=[DisjunctiveLicense(name=row["license"])] if row["license"] else [],
    )


def _compiled(row: Mapping[str, str], artifact: Mapping[str, str]) -> Component:
    url = purl.source(row["name"], artifact["version"], artifact["url"], artifact["sha256"])
    return Component(
        type=ComponentType.APPLICATION,
        name=row["name"],
        version=artifact["version"],
        purl=url,
        bom_ref=str(url),
        licenses=[DisjunctiveLicense(name=row["license"])] if row["license"] else [],
        external_references=[_from(ExternalReferenceType.SOURCE_DISTRIBUTION, artifact)],
        properties=[Property(name="zmanim:rpm", value=f"{row['version']}-{row['release']}.{row['arch']}")],
    )


def _program(path: str, inventory: Inventory) -> Component:
    """Return restic, or the API."""
    hashes = _sha256(inventory["files"][path]["sha256"])
    if path == RESTIC:
        artifact = inventory["versions"]["artifacts"]["restic"]
        url = purl.golang(_RESTIC_MODULE, f"v{artifact['version']}")
        return Component(
            type=ComponentType.APPLICATION,
            name="restic",
            version=artifact["version"],
            purl=url,
            bom_ref=str(url),
            hashes=hashes,
            external_references=[_from(ExternalReferenceType.DISTRIBUTION, artifact)],
        )
    version = inventory["release"]["version"]
    return Component(type=ComponentType.APPLICATION, name=_PROGRAM, version=version, bom_ref=_PROGRAM, hashes=hashes)


def _modules(program: Mapping[str, Any]) -> Iterator[Component]:
    # Go's own standard library has vulnerabilities as other modules have.
    every = {"stdlib": program["go"].removeprefix("go"), **program["modules"]}
    for path, version in every.items():
        if path != _RESTIC_MODULE:  # it may be built as a module of another one's
            url = purl.golang(path, version)
            yield Component(name=path, version=version, purl=url, bom_ref=str(url))


def _files(files: Mapping[str, Mapping[str, str]], below: str) -> Iterable[Component]:
    return [
        Component(type=ComponentType.FILE, name=path, bom_ref=path, hashes=_sha256(about["sha256"]))
        for path, about in files.items()
        if path.startswith(below) and path.endswith(".py")
    ]


def _from(kind: ExternalReferenceType, artifact: Mapping[str, str]) -> ExternalReference:
    return ExternalReference(type=kind, url=XsUri(artifact["url"]), hashes=_sha256(artifact["sha256"]))


def _sha256(digest: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
