"""image.sbom: what is inside the image of a version, as its builder has written it down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.sbom import store
from zmanim_ami.pipeline.version import Version


@dataclass(frozen=True)
class Sbom:
    """An image's SBOM: `components` counts them by what their package URL begins with; `document` is CycloneDX's JSON.

    `sha256` is that of the document, and the value of the image's tag zmanim:sbom.
    """

    version: str
    ami_id: str
    sha256: str
    made: str
    components: Mapping[str, int]
    document: bytes = field(repr=False)


def find(clients: aws.Clients, version: Version) -> Sbom:
    """Return the SBOM of the image of a version. Raises image's, store's and aws's errors."""
    ami = image.find(clients, version, "")
    digest = ami.tags.get(store.SBOM_TAG, "")
    document = store.read(clients, ami.ami_id, digest)
    content = json.loads(document)
    kinds = [str(each.get("purl", each["type"])).partition("/")[0] for each in content["components"]]
    made = str(content["metadata"]["timestamp"])
    return Sbom(str(version), ami.ami_id, digest, made, dict(sorted(Counter(kinds).items())), document)
