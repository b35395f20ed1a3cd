"""image.check: is what is published what was meant? Parameters, record, images, copies and report, in every region."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from support.errors import Error
from zmanim_ami.pipeline import attestation, aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.images import account as accounts
from zmanim_ami.pipeline.images.account import Account, Family
from zmanim_ami.pipeline.publish import parameters
from zmanim_ami.pipeline.publish.publication import wrong_copy
from zmanim_ami.pipeline.sbom import store as sbom
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify.inspection import Check


def check(clients: aws.Clients, elsewhere: Sequence[aws.Clients], settings: Settings) -> list[Check]:
    """Return each thing that has to hold of what is published, and what was found. Raises aws's and record's errors."""
    account = accounts.look(clients, elsewhere, settings.parameter_prefix)
    if not account.publications:
        return [Check("published", False, "a version", "nothing was ever published")]
    return list(_checks(account, clients, elsewhere, settings))


def _checks(
    account: Account, clients: aws.Clients, elsewhere: Sequence[aws.Clients], settings: Settings
) -> Iterator[Check]:
    now = account.publications[-1]
    recorded = account.records.get(now.version)
    yield Check(
        "record",
        recorded is not None and recorded.images.get(clients.region) == now.ami_id,
        f"images/{now.version or 'VERSION'} names {now.ami_id}",
        str(dict(recorded.images)) if recorded else "no such parameter",
    )
    meant = dict(recorded.images) if recorded else {clients.region: now.ami_id}
    family = _family(account, now.ami_id)
    for each in (clients, *elsewhere):
        yield from _pointer_checks(each, settings.parameter_prefix, now.version, meant.get(each.region, ""))
        ami = family.members.get(each.region) if family else None
        yield from _image_checks(account, each.region, ami, family.ami if family else None)
    if family:
        yield from _report_checks(clients, family.ami, recorded.report if recorded else "")
        yield _sbom_check(clients, family.ami)
    if len(account.publications) > 1:
        earlier = next((each for each in reversed(account.publications) if each.ami_id != now.ami_id), now)
        before = _family(account, earlier.ami_id)
        found = f"{before.ami.state}, {'verified' if before.ami.verified else 'not verified'}" if before else "gone"
        yield Check(f"going back to {earlier.version}", found == "available, verified", "available, verified", found)


def _family(account: Account, ami_id: str) -> Family | None:
    return next((each for each in account.families if each.ami.ami_id == ami_id), None)


def _pointer_checks(clients: aws.Clients, prefix: str, version: str, ami_id: str) -> Iterator[Check]:
    pointer = parameters.read(clients, prefix)
    for name, seen, meant in (
        (pointer.id_name, pointer.ami_id, ami_id or f"an image of {version}"),
        (pointer.version_name, pointer.version, version),
    ):
        found = seen.value if seen else "no such parameter"
        yield Check(f"{clients.region}: {name}", found == meant, meant, found)


def _image_checks(
    account: Account, region: str, ami: image.Image | None, source: image.Image | None
) -> Iterator[Check]:
    expected = "an available image of ours, protected from deregistration"
    wrong = []
    if ami is None or source is None:
        wrong.append("none")
    else:
        wrong += [ami.state] if ami.state != "available" else []
        wrong += ["not ours"] if not accounts.is_ours(account.owner, ami) else []
        wrong += ["not protected"] if not ami.protected else []
        wrong += wrong_copy(ami, source) if ami is not source else []
    yield Check(f"{region}: image", not wrong, expected, "; ".join(wrong) or (ami.ami_id if ami else ""))


def _sbom_check(clients: aws.Clients, ami: image.Image) -> Check:
    digest = ami.tags.get(sbom.SBOM_TAG, "")
    try:
        sbom.read(clients, ami.ami_id, digest)
    except Error as error:
        if error.code not in {"no-sbom", "sbom-is-anothers"}:
            raise
        return Check("sbom", False, error.expected, error.found)
    return Check("sbom", True, f"the kept one of the tag {sbom.SBOM_TAG}", digest)


def _report_checks(clients: aws.Clients, ami: image.Image, recorded: str) -> Iterator[Check]:
    tag = ami.tags.get(image.VERIFIED_TAG, "no tag")
    # A later verification of the same image writes another report: the tag counts, the record is how it began.
    yield Check(
        "verified", ami.verified, f"the tag {image.VERIFIED_TAG}", tag if tag != recorded else f"{tag}, as recorded"
    )
    wrong = "; ".join(attestation.wrong(clients, ami))
    yield Check("report", not wrong, f"the kept report of {tag}, and a signed statement about it", wrong or "both")
    report = attestation.read_report(clients, ami.ami_id)
    if report is not None and not wrong:
        content = json.loads(report)
        found = f"{content.get('ami_id')}, {'passed' if content.get('ok') is True else 'failed'}"
        yield Check("report's image", found == f"{ami.ami_id}, passed", f"{ami.ami_id}, passed", found)
