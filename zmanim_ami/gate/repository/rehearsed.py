"""The build (DoD 2): whether a rehearsal on this machine has proven exactly this tree; nothing is built here."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.errors import Error
from zmanim_ami.gate.finding import Finding, Level
from zmanim_ami.pipeline.ami import provenance

RESULT = Path("build/rehearsal/result.json")
_AMI = r"ami-[0-9a-f]{8,17}"


def check(tree: Path) -> list[Finding]:
    """Return what the last rehearsal says of this tree; a note when it says nothing.

    A rehearsal of this very tree that failed is an error: nothing else says so plainly that an image can't be built.
    """
    try:
        result = json.loads((tree / RESULT).read_text())
        sources = provenance.sources(tree)
    except FileNotFoundError:
        return [_not_proven("no rehearsal on this machine")]
    except (ValueError, Error) as error:
        return [_not_proven(f"{RESULT}: {error}")]
    if result.get("sources") != sources:
        return [_not_proven("the last rehearsal was another tree's")]
    image, published = str(result.get("ami_id")), result.get("published") or {}
    cause = str(result.get("error") or "it did not end").splitlines()[0]
    if not result.get("ok") and not image and "stopped at" not in cause:
        return [_not_proven(f"the last one did not come to it: {cause}")]
    problems = {
        f"the rehearsal of this very tree failed: {cause}": not result.get("ok"),
        f"a rehearsal that ended well and has no image: ami_id is {image!r}": not re.fullmatch(_AMI, image),
        f"the rehearsal built {image} and published {published}": image not in published.values(),
    }
    errors = [Finding(str(RESULT), 0, words) for words, is_so in problems.items() if is_so]
    return errors[:1] or [Finding("", 0, f"DoD 2 proven for this tree by a rehearsal: {image}", Level.NOTE)]


def _not_proven(why: str) -> Finding:
    return Finding("", 0, f"DoD 2 not proven here ({why}): ./inv rehearse", Level.NOTE)
