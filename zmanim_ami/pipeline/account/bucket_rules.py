"""What a bucket's lifecycle and policy become: what this project asks for, merged into what the owner has made of them.

Nothing is made weaker. Versions that are kept longer stay so, and so do an object lock (nothing here touches it) and
every statement of the bucket's policy; a rule that would delete backups sooner is lengthened.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# A stolen instance role can delete objects, not their versions: so long is there time to notice.
NONCURRENT_DAYS = 35
# Machines of the environment verify live for minutes, and their repositories are nobody's afterwards.
PASSING_DAYS = 7
_UPLOAD_DAYS = 7
_TLS_SID = "TlsOnly"

Rule = Mapping[str, Any]


@dataclass(frozen=True)
class Merged:
    """What it is to become; `reasons` say what of that it lacks now (none: it is so), `kept` what is the owner's."""

    content: Sequence[Mapping[str, Any]]
    reasons: Sequence[str] = ()
    kept: Sequence[str] = ()


def lifecycle(existing: Sequence[Rule], *, backups: bool, passing: bool) -> Merged:
    """Return the rules of a bucket, of `backups` or of releases; `passing` says that the machines live for minutes.

    What was deleted is kept a while, and what nobody finished uploading is not. No rule of ours expires a release or a
    report, and what the owner's rules do to these is the owner's: only live backups are held against such a rule.

    Where several rules expire the same versions, S3 takes the shortest (its user guide, "Lifecycle conflicts"). So the
    rule added here is as long as the owner's longest, whatever that one covers.
    """
    rules = [copy.deepcopy(dict(rule)) for rule in existing]
    live = backups and not passing
    reasons = [reason for rule in rules if _enabled(rule) for reason in _lengthened(rule, live=live)]
    rules = [rule for rule in rules if _acts(rule)]
    longest = max([NONCURRENT_DAYS, *(_noncurrent(rule) for rule in rules if _enabled(rule))])
    kept = [
        f"rule {_name(rule)} keeps deleted versions for {_noncurrent(rule)} days"
        for rule in rules
        if _enabled(rule) and _noncurrent(rule) > NONCURRENT_DAYS
    ]
    for wanted, reason in _wanted(longest, backups=backups, passing=passing):
        (action,) = wanted.keys() - {"ID", "Status", "Filter"}
        own = next((rule for rule in rules if rule.get("ID") == wanted["ID"]), None)
        if own and not _enabled(own) and wanted["ID"] != "delete-markers":
            kept.append(f"rule {wanted['ID']} is switched off: what it would expire is kept for ever")
        elif not any(_enabled(rule) and _whole(rule) and _same_action(rule, wanted, action) for rule in rules):
            rules = [rule for rule in rules if rule is not own] + [wanted]
            reasons.append(reason)
    return Merged(rules, reasons, kept)


def policy(name: str, existing: Mapping[str, Any] | None) -> Merged:
    """Return the statements of the bucket's policy: the one that refuses whoever does not use TLS, and the owner's."""
    ours = {
        "Sid": _TLS_SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    present = (existing or {}).get("Statement", [])
    statements = [present] if isinstance(present, Mapping) else list(present)
    others = [each for each in statements if {**each, "Sid": _TLS_SID} != ours]
    kept = [f"statement {each.get('Sid', '(without a Sid)')} of its policy" for each in others]
    if len(others) < len(statements):
        return Merged(statements, (), kept)
    sids = {each.get("Sid") for each in others}
    sid = next(each for each in (_TLS_SID, *(f"{_TLS_SID}{number}" for number in range(2, 99))) if each not in sids)
    return Merged([*others, {**ours, "Sid": sid}], ("it would be spoken to without TLS",), kept)


def _wanted(noncurrent: int, *, backups: bool, passing: bool) -> list[tuple[dict[str, Any], str]]:
    def rule(name: str, action: str, value: Mapping[str, Any]) -> dict[str, Any]:
        return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": ""}, action: value}

    deleted = {"NoncurrentDays": noncurrent}
    if not backups:  # serials go on from a pointer that was deleted: of everything its newest version stays
        deleted["NewerNoncurrentVersions"] = 1
    rules = [
        (
            rule("deleted", "NoncurrentVersionExpiration", deleted),
            "what was deleted would be kept for ever",
        ),
        (
            rule("uploads", "AbortIncompleteMultipartUpload", {"DaysAfterInitiation": _UPLOAD_DAYS}),
            "uploads that were broken off would be kept for ever",
        ),
        # A rule of its own, and never Days beside it: those delete what is live.
        (
            rule("delete-markers", "Expiration", {"ExpiredObjectDeleteMarker": True}),
            "marks of deleted objects whose versions are gone would pile up",
        ),
    ]
    if backups and passing:
        reason = "backups of passing machines would be kept for ever"
        rules.append((rule("passing", "Expiration", {"Days": PASSING_DAYS}), reason))
    return rules


def _lengthened(rule: dict[str, Any], *, live: bool) -> list[str]:
    """Take out of a rule what deletes too soon; return what that was. With `live`, whatever deletes what is live."""
    reasons = []
    if 0 < _noncurrent(rule) < NONCURRENT_DAYS:
        reasons.append(f"rule {_name(rule)} keeps deleted versions for {_noncurrent(rule)} days only")
        rule["NoncurrentVersionExpiration"]["NoncurrentDays"] = NONCURRENT_DAYS
    expiration = rule.get("Expiration", {})
    if live and ("Days" in expiration or "Date" in expiration):
        reasons.append(f"rule {_name(rule)} deletes live backups")
        del rule["Expiration"]
    return reasons


def _same_action(rule: Rule, wanted: Rule, action: str) -> bool:
    """Whether a rule does what the wanted one does; of an expiration, whether it is of the same kind.

    How many versions stay beyond their days is the owner's, where there is such a rule.
    """
    value = rule.get(action, {})
    return all(value.get(key) for key in wanted[action].keys() - {"NewerNoncurrentVersions"})


def _noncurrent(rule: Rule) -> int:
    return int(rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays", 0))


def _enabled(rule: Rule) -> bool:
    return rule.get("Status") == "Enabled"


def _acts(rule: Rule) -> bool:
    return bool(rule.keys() - {"ID", "Status", "Filter", "Prefix"})


def _whole(rule: Rule) -> bool:
    """Whether a rule is for all objects: no filter but an empty prefix."""
    return not rule.get("Prefix") and not any(rule.get("Filter", {}).values())


def _name(rule: Rule) -> str:
    return str(rule.get("ID", "(without an ID)"))
