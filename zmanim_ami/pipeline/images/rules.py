"""Which image may go, and how far: one reason for each, decided from what is known and by nothing else.

An image goes in three steps, `retire_step_days` apart: it is deprecated (launches still work, nobody is offered it),
disabled (nobody can launch it; AWS forgets whom it was shared with, so this is the point of no return for launch
permissions), deregistered with its snapshots. Whatever keeps it may come in between, and the next step is not made.
When a step was made is written on the image, in the tag zmanim:retiring, before and after: AWS tells no time of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from zmanim_ami.pipeline.ami.distribution import COPY_OF_TAG
from zmanim_ami.pipeline.images.account import Account, Family, is_ours
from zmanim_ami.pipeline.settings import Settings

# On an image that is to stay, whatever the rules say; its value is the reason.
KEEP_TAG = "zmanim:keep"
# On one that goes: the last step, and when (ISO): `deprecated …`, `disabling …` until that was answered, `disabled …`.
RETIRING_TAG = "zmanim:retiring"
KEEP, WAIT, LATER, DEPRECATE, DISABLE, DEREGISTER = "keep", "wait", "later", "deprecate", "disable", "deregister"
STEPS = (DEPRECATE, DISABLE, DEREGISTER)
# A date of deprecation is asked for a little ahead, and AWS rounds it to the minute.
_ROUNDING = timedelta(minutes=5)
_RETIRABLE = {"available", "disabled"}


@dataclass(frozen=True)
class Known:
    """What is known of one image beside itself: who uses it or its copies, and whom they are shared with.

    None: that was not asked, as something else keeps it.
    """

    users: tuple[str, ...] | None = None
    shared: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """What is to be done with an image, and why."""

    action: str
    reason: str


def decide(account: Account, family: Family, known: Known, settings: Settings, now: datetime) -> Verdict:
    """Return what `image.retire` does with an image and its copies; the first reason to keep it counts."""
    if reason := kept(account, family, settings, now):
        return Verdict(KEEP, reason)
    for those, words in ((known.users, "used by"), (known.shared, "shared with")):
        if those is None:
            return Verdict(KEEP, f"not known yet: {words}")
        if those:
            more = f" and {len(those) - 2} more" if len(those) > 2 else ""
            return Verdict(KEEP, f"{words} {', '.join(those[:2])}{more}")
    return _next(family, settings, now)


def kept(account: Account, family: Family, settings: Settings, now: datetime) -> str:
    """Return the first reason to keep an image, of those that need no further question; empty where there is none."""
    return next(_reasons(account, family, settings, now), "")


def _reasons(account: Account, family: Family, settings: Settings, now: datetime) -> Iterator[str]:
    ami = family.ami
    foreign = [each.ami_id for each in family.members.values() if not is_ours(account.owner, each)]
    if foreign:
        yield f"not ours: {', '.join(foreign)} is not what zmanim builds in this account"
    unfit = [f"{each.ami_id} is {each.state}" for each in family.members.values() if each.state not in _RETIRABLE]
    if unfit:
        yield ", ".join(unfit)
    if family.orphan:
        yield f"a copy of {ami.tags[COPY_OF_TAG]}, which is not there: look for it, and take this one away by hand"
    if family.ids & account.pointed:
        yield "published"
    last = _last(account, settings.retire_publications)
    if family.ids & last:
        yield f"in one of the last {settings.retire_publications} publications"
    kept = [each.tags[KEEP_TAG] for each in family.members.values() if KEEP_TAG in each.tags]
    if kept:
        yield f"{KEEP_TAG}: {kept[0] or 'no reason given'}"
    recorded = account.recorded(family)
    if not ami.verified and not recorded:
        yield "never verified: that is sweep's"
    if not recorded and any(each.protected for each in family.members.values()):
        yield "protected from deregistration, and not by us: it was never published"
    if ami.version in _newest(account, settings.retire_keep):
        yield f"one of the newest {settings.retire_keep} verified versions"
    since = timedelta(days=settings.retire_days)
    for word, at in (("built", ami.created), *(("launched", each.launched) for each in family.members.values())):
        moment = _moment(at)
        if word == "built" and moment is None:
            yield "nobody knows how old it is"
        elif moment and now - moment < since:
            yield f"{word} {(now - moment).days} days ago, which is less than {settings.retire_days}"


def _next(family: Family, settings: Settings, now: datetime) -> Verdict:  # noqa: PLR0911 - a table would say less
    """Return the next step of an image that nothing keeps."""
    ami = family.ami
    done, _, at = ami.tags.get(RETIRING_TAG, "").partition(" ")
    since, pause = _moment(at), timedelta(days=settings.retire_step_days)
    copies = f" with {len(family.copies)} copies" if family.copies else ""
    waiting = since is not None and now - since < pause
    if done == "disabling" and since and any(each.state != "disabled" for each in family.members.values()):
        return Verdict(DISABLE, f"begun at {at}, and cut short{copies}")
    if ami.state == "disabled":
        if done not in {"disabling", "disabled"} or since is None:
            return Verdict(KEEP, "disabled, and not by image.retire")
        if waiting:
            return Verdict(WAIT, f"disabled since {at}; it is deregistered from {_iso(since + pause)}")
        return Verdict(DEREGISTER, f"disabled since {at}; its snapshots go with it{copies}")
    # Of each: cut short, deprecating may have left out a copy.
    dates = [_moment(each.deprecated) for each in family.members.values()]
    if done != "deprecated" or since is None or any(each is None or each > since + pause + _ROUNDING for each in dates):
        return Verdict(DEPRECATE, f"nobody needs it{copies}")
    if waiting:
        return Verdict(WAIT, f"deprecated since {at}; it is disabled from {_iso(since + pause)}")
    return Verdict(
        DISABLE, f"deprecated since {at}; the point of no return: whom it was shared with is forgotten{copies}"
    )


def _last(account: Account, number: int) -> set[str]:
    """Return the ids of the images of the last publications, in whatever region they were."""
    last = account.publications[-number:]
    ids = {each.ami_id for each in last}
    for each in last:
        if each.version in account.records:
            ids.update(account.records[each.version].images.values())
    return ids


def _newest(account: Account, number: int) -> Sequence[str]:
    """Return the newest verified versions; test images are none."""
    verified = [
        family.ami.version
        for family in account.families
        if is_ours(account.owner, family.ami) and family.ami.verified and not family.ami.version.startswith("test-")
    ]
    return verified[:number]


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="minutes")


def step_tag(done: str, now: datetime) -> str:
    """Return the value of the tag zmanim:retiring for a step."""
    return f"{done} {now.astimezone(UTC).isoformat(timespec='seconds')}"
