"""The build (DoD 2): whether a rehearsal, and Packer by hand, have built exactly this tree here. Builds nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.errors import Error
from zmanim_ami.gate.finding import Finding, Level
from zmanim_ami.pipeline.ami import provenance
from zmanim_ami.pipeline.programs import SHIPPED

RESULT = Path("build/rehearsal/result.json")
# What the test of the documented line leaves: `sources` as in a rehearsal's result, `ami_id` ("" without an image).
BY_HAND = Path("build/by-hand.json")
_TEST = "./nox -s machines -- tests/machines/release/test_by_hand.py"
_AMI = r"ami-[0-9a-f]{8,17}"


def check(tree: Path) -> list[Finding]:
    """Return what the last rehearsal says of this tree, and the last `packer build` by hand; notes when they don't."""
    return [*_rehearsal(tree), *_by_hand(tree)]


def _by_hand(tree: Path) -> list[Finding]:
    try:
        result = json.loads((tree / BY_HAND).read_text())
        is_this_tree = result.get("sources") == provenance.sources(tree)
    except (FileNotFoundError, ValueError, Error):
        is_this_tree = False
    if not is_this_tree:
        return [Finding("", 0, f"DoD 2 by hand not proven here for this tree: {_TEST}", Level.NOTE)]
    if not re.fullmatch(_AMI, str(result.get("ami_id"))):
        return [Finding(str(BY_HAND), 0, "the documented packer build of this very tree made no image")]
    return [Finding("", 0, f"DoD 2 by hand proven for this tree: {result['ami_id']}", Level.NOTE)]


def _rehearsal(tree: Path) -> list[Finding]:
    """Return what the last rehearsal says.

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
    if result.get("programs") not in (None, "", SHIPPED):
        return [_not_proven(f"the last rehearsal's programs were for {result['programs']}, not for {SHIPPED}")]
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
