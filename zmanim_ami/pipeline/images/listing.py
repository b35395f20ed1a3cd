"""image.list and image.show: which images there are, who uses them, and what they cost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from support.errors import BadInput
from zmanim_ami.pipeline import attestation, aws
from zmanim_ami.pipeline.advisories import kept
from zmanim_ami.pipeline.advisories.findings import ADVISORIES_TAG, NOT_KNOWN, Open
from zmanim_ami.pipeline.ami import inventories
from zmanim_ami.pipeline.images import account as accounts
from zmanim_ami.pipeline.images import rules, usage
from zmanim_ami.pipeline.images.account import Account, Family
from zmanim_ami.pipeline.publish.history import Publication
from zmanim_ami.pipeline.sbom.store import SBOM_TAG
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version

# https://aws.amazon.com/ebs/pricing/: 0.05 USD for a GB of snapshots in a month, in most regions.
USD_A_GIB_MONTH = 0.05
# As many values as a filter of EC2's takes.
_FILTER_VALUES = 200
_GIB = 2**30


@dataclass(frozen=True)
class Listed:
    """An image in short. `published` is `now`, `once` or empty; `used_by` says by whom, in all its regions.

    `usd_a_month` is the most that its snapshots and its copies' cost: what they share with others is paid once.
    `advisories` is what was open when it was built, as its tag says it; image.advisories tells what is now.
    """

    version: str
    ami_id: str
    age_days: int | None
    state: str
    size_gib: int
    verified: bool
    published: str
    regions: tuple[str, ...]
    used_by: tuple[str, ...]
    usd_a_month: float
    advisories: str


@dataclass(frozen=True)
class Shown:
    """All that is known of an image: `listed` is its row of image.list.

    `report` says whether the kept report is the one that its tag names; `sbom` is the SHA-256 of its SBOM. `open` and
    `not_covered` are what was so when it was built, None where that was not kept.
    """

    listed: Listed
    commit: str
    tree_digest: str
    source_ami: str
    images: Mapping[str, str]
    recorded: Mapping[str, str]
    report: str
    sbom: str
    open: tuple[Open, ...] | None
    not_covered: tuple[str, ...] | None
    publications: tuple[Publication, ...]
    retiring: str


def listed(clients: aws.Clients, elsewhere: Sequence[aws.Clients], settings: Settings) -> list[Listed]:
    """Return every image of ours, the newest version first. Raises aws's and record's errors."""
    account = accounts.look(clients, elsewhere, settings.parameter_prefix)
    return _listed(account, account.families, (clients, *elsewhere), settings)


def shown(clients: aws.Clients, elsewhere: Sequence[aws.Clients], settings: Settings, version: Version) -> Shown:
    """Return all that is known of the image of a version. Raises `no-such-image`, aws's and record's errors."""
    account = accounts.look(clients, elsewhere, settings.parameter_prefix)
    of_version = [each for each in account.families if each.ami.version == str(version)]
    if not of_version:
        recorded = account.records.get(str(version))
        raise BadInput(
            f"there is no image of {version}",
            code="no-such-image",
            expected="one of " + (", ".join(each.ami.version for each in account.families[:5]) or "none"),
            found=f"it was published as {dict(recorded.images)}, and is gone" if recorded else "nothing",
            fix="./inv image.list",
        )
    family = of_version[0]
    (row,) = _listed(account, [family], (clients, *elsewhere), settings)
    described = inventories.read(clients, family.ami.ami_id, inventories.ADVISORIES)
    found = kept.found(described) if described else None
    record, tags = account.records.get(str(version)), family.ami.tags
    return Shown(
        listed=row,
        commit=tags.get("zmanim:commit", ""),
        tree_digest=tags.get("zmanim:tree-digest", ""),
        source_ami=tags.get("zmanim:source-ami", ""),
        images={
            region: f"{each.ami_id} ({_state(each.state, each.deprecated)})" for region, each in family.members.items()
        },
        recorded=dict(record.images) if record else {},
        report=_report(clients, family),
        sbom=tags.get(SBOM_TAG, ""),
        open=found.open if found else None,
        not_covered=found.not_covered if found else None,
        publications=tuple(each for each in account.publications if each.ami_id in family.ids),
        retiring=tags.get(rules.RETIRING_TAG, ""),
    )


def _listed(
    account: Account, families: Sequence[Family], regions: Sequence[aws.Clients], settings: Settings
) -> list[Listed]:
    used: dict[str, usage.Usage] = {}
    sizes: dict[str, float] = {}
    for clients in regions:
        here = [each.members[clients.region] for each in families if clients.region in each.members]
        used[clients.region] = usage.look(clients, [each.ami_id for each in here], settings.parameter_prefix)
        sizes |= _sizes(clients, [snapshot for each in here for snapshot in each.snapshots])
    now = datetime.now(UTC)
    return [
        Listed(
            version=family.ami.version,
            ami_id=family.ami.ami_id,
            age_days=(now - datetime.fromisoformat(family.ami.created)).days if family.ami.created else None,
            state=_state(family.ami.state, family.ami.deprecated),
            size_gib=family.ami.size_gib,
            verified=family.ami.verified,
            published="now" if family.ids & account.pointed else "once" if account.recorded(family) else "",
            regions=tuple(sorted(family.members)),
            used_by=tuple(user for region, each in family.members.items() for user in used[region].of(each.ami_id)),
            usd_a_month=round(
                sum(sizes.get(name, 0) for each in family.members.values() for name in each.snapshots)
                * USD_A_GIB_MONTH,
                2,
            ),
            advisories=family.ami.tags.get(ADVISORIES_TAG, NOT_KNOWN),
        )
        for family in families
    ]


def _state(state: str, deprecated: str) -> str:
    passed = bool(deprecated) and datetime.fromisoformat(deprecated) <= datetime.now(UTC)
    return "deprecated" if state == "available" and passed else state


def _sizes(clients: aws.Clients, snapshots: Sequence[str]) -> dict[str, float]:
    """Return the GiB that snapshots hold at most: what AWS says they hold, else the size of their volume."""
    found = {}
    with aws.translate_errors("looking at the snapshots"):
        for start in range(0, len(snapshots), _FILTER_VALUES):
            pages = clients.ec2.get_paginator("describe_snapshots").paginate(
                OwnerIds=["self"],
                Filters=[{"Name": "snapshot-id", "Values": list(snapshots[start : start + _FILTER_VALUES])}],
            )
            for item in [each for page in pages for each in page["Snapshots"]]:
                held = item.get("FullSnapshotSizeInBytes", 0) / _GIB
                found[item.get("SnapshotId", "")] = held or float(item.get("VolumeSize", 0))
    return found


def _report(clients: aws.Clients, family: Family) -> str:
    report = attestation.read_report(clients, family.ami.ami_id)
    if report is None:
        return "none was kept"
    named = family.ami.verified and hashlib.sha256(report).hexdigest() in family.ami.tags.values()
    return "kept, and the one that the image's tag names" if named else "kept, and not the one that the tag names"
