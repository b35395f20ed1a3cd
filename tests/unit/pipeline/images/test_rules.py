"""No plan takes what is needed, whatever the account looks like: rules.decide, asked about accounts made by chance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_ami.pipeline.ami.image import Image
from zmanim_ami.pipeline.images import rules
from zmanim_ami.pipeline.images.account import Account, Family, is_ours
from zmanim_ami.pipeline.images.rules import Known, decide
from zmanim_ami.pipeline.publish.history import Publication
from zmanim_ami.pipeline.publish.record import Record
from zmanim_ami.pipeline.settings import Settings

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
OWNER = "123456789012"
SETTINGS = Settings(retire_keep=1, retire_publications=1, retire_days=30, retire_step_days=7)
NOBODY = Known((), ())


def ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def made(number: int, **changes: Any) -> Image:
    tags = {"zmanim:version": f"v1.{number}.0", "zmanim:run": "7", "zmanim:verified": "ab" * 32}
    given_tags = changes.pop("tags", {})
    fields: dict[str, Any] = {
        "ami_id": f"ami-{number:017x}",
        "name": f"zmanim-v1.{number}.0",
        "owner": OWNER,
        "state": "available",
        "snapshots": (f"snap-{number:017x}",),
        "created": ago(400),
        **changes,
    }
    return Image(**fields, tags={name: text for name, text in {**tags, **given_tags}.items() if text is not None})


def family(number: int, **changes: Any) -> Family:
    return Family("eu-west-1", made(number, **changes), {})


def account(*families: Family, published: tuple[int, ...] = (), pointed: tuple[int, ...] = ()) -> Account:
    newest_first = tuple(sorted(families, key=lambda each: each.ami.version, reverse=True))
    moves = tuple(Publication(ago(0), "published", f"v1.{n}.0", f"ami-{n:017x}", "") for n in published)
    records = {
        f"v1.{n}.0": Record(f"v1.{n}.0", {"eu-west-1": f"ami-{n:017x}"}, "ab" * 32) for n in {*published, *pointed}
    }
    return Account(OWNER, newest_first, records, moves, frozenset(f"ami-{n:017x}" for n in pointed))


NEWEST = family(9)


def verdict(each: Family, known: Known = NOBODY, **there: Any) -> rules.Verdict:
    return decide(account(NEWEST, each, **there), each, known, SETTINGS, NOW)


def test_an_old_image_that_nobody_needs_is_deprecated_first() -> None:
    assert verdict(family(1)).action == "deprecate"


@pytest.mark.parametrize(
    ("changes", "there", "reason"),
    [
        ({}, {"pointed": (1,)}, "published"),
        ({}, {"published": (1,)}, "in one of the last 1 publications"),
        ({"tags": {"zmanim:keep": "court case"}}, {}, "zmanim:keep: court case"),
        ({"owner": "999999999999"}, {}, "not ours"),
        ({"name": "somebody-s"}, {}, "not ours"),
        ({"tags": {"zmanim:run": None}}, {}, "not ours"),
        ({"tags": {"zmanim:verified": None}}, {}, "never verified"),
        ({"protected": True}, {}, "protected from deregistration, and not by us"),
        ({"created": ago(29)}, {}, "built 29 days ago"),
        ({"created": ""}, {}, "nobody knows how old it is"),
        ({"launched": ago(3)}, {}, "launched 3 days ago"),
        ({"state": "pending"}, {}, "is pending"),
        ({"state": "disabled"}, {}, "disabled, and not by image.retire"),
        ({"tags": {"zmanim:copy-of": "ami-1"}}, {}, "a copy of ami-1, which is not there"),
    ],
)
def test_what_keeps_an_image_is_its_one_reason(changes: dict[str, Any], there: dict[str, Any], reason: str) -> None:
    kept = verdict(family(1, **changes), **there)
    assert kept.action == "keep"
    assert reason in kept.reason


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (Known(("instance i-1",), ()), "used by instance i-1"),
        (Known((), ("210987654321",)), "shared with 210987654321"),
        (Known(("a", "b", "c", "d"), ()), "used by a, b and 2 more"),
        (Known(), "not known yet: used by"),
        (Known((), None), "not known yet: shared with"),
    ],
)
def test_what_is_used_shared_or_was_not_asked_about_is_kept(known: Known, reason: str) -> None:
    assert verdict(family(1), known) == rules.Verdict("keep", reason)


def test_what_was_published_once_goes_though_it_is_protected_and_not_verified_any_more() -> None:
    old = family(1, protected=True, tags={"zmanim:verified": None})
    assert verdict(old, published=(1, 9)).action == "deprecate"


def test_the_newest_verified_versions_stay_and_test_images_are_none_of_them() -> None:
    test = Family("eu-west-1", made(8, name="zmanim-test-x", tags={"zmanim:version": "test-x"}), {})
    newest = family(2)
    there = account(test, newest, family(1))
    assert decide(there, newest, NOBODY, SETTINGS, NOW).reason == "one of the newest 1 verified versions"
    assert decide(there, test, NOBODY, SETTINGS, NOW).action == "deprecate"


@pytest.mark.parametrize(
    ("state", "tag", "deprecated", "action"),
    [
        ("available", f"deprecated {ago(1)}", ago(1), "wait"),
        ("available", f"deprecated {ago(8)}", ago(8), "disable"),
        ("available", f"deprecated {ago(8)}", "", "deprecate"),  # cut short, or somebody took it back
        ("available", f"deprecated {ago(8)}", (NOW + timedelta(days=300)).isoformat(), "deprecate"),
        ("available", None, ago(100), "deprecate"),  # by the setting deprecate_days: nobody was told by this task
        ("available", f"disabling {ago(1)}", ago(20), "disable"),
        ("available", f"disabled {ago(20)}", ago(20), "deprecate"),  # somebody has enabled it again
        ("disabled", f"disabled {ago(1)}", ago(20), "wait"),
        ("disabled", f"disabled {ago(8)}", ago(20), "deregister"),
        ("disabled", f"disabling {ago(8)}", ago(20), "deregister"),  # the answer was lost
        ("disabled", "disabled whenever", ago(20), "keep"),
    ],
)
def test_an_image_goes_in_three_steps_with_time_between_them(
    state: str, tag: str | None, deprecated: str, action: str
) -> None:
    each = family(1, state=state, deprecated=deprecated, tags={"zmanim:retiring": tag})
    assert verdict(each).action == action


@pytest.mark.parametrize(
    ("state", "tag", "copied", "action"),
    [
        ("available", f"deprecated {ago(8)}", {"deprecated": ""}, "deprecate"),
        ("available", f"deprecated {ago(8)}", {"deprecated": ago(8)}, "disable"),
        ("disabled", f"disabling {ago(8)}", {"state": "available"}, "disable"),
        ("disabled", f"disabling {ago(8)}", {"state": "disabled"}, "deregister"),
    ],
)
def test_no_step_is_made_before_the_last_one_was_made_of_each_copy(
    state: str, tag: str, copied: dict[str, str], action: str
) -> None:
    ami = made(1, state=state, deprecated=ago(8), tags={"zmanim:retiring": tag})
    copy = made(2, tags={"zmanim:copy-of": ami.ami_id}, **copied)
    assert verdict(Family("eu-west-1", ami, {"eu-central-1": copy})).action == action


def test_the_plan_says_where_there_is_no_return() -> None:
    each = family(1, deprecated=ago(8), tags={"zmanim:retiring": f"deprecated {ago(8)}"})
    assert "the point of no return" in verdict(each).reason


# ---- whatever the account looks like ----

TIMES = st.sampled_from([ago(days) for days in (0, 1, 6, 8, 29, 31, 400)] + ["", "nonsense"])
STATES = st.sampled_from(["available", "disabled", "pending", "failed", "transient"])


@st.composite
def images(draw: st.DrawFn, number: int) -> Image:
    tag = draw(st.sampled_from(["deprecated", "disabling", "disabled", ""])) + " " + draw(TIMES)
    return made(
        number,
        owner=draw(st.sampled_from([OWNER, OWNER, OWNER, "999999999999"])),
        state=draw(STATES),
        created=draw(TIMES),
        launched=draw(TIMES),
        deprecated=draw(TIMES),
        protected=draw(st.booleans()),
        tags={
            "zmanim:retiring": draw(st.sampled_from([None, tag])),
            "zmanim:verified": draw(st.sampled_from(["ab" * 32, "forged", None])),
            "zmanim:run": draw(st.sampled_from(["7", "7", None])),
            "zmanim:keep": draw(st.sampled_from([None, None, "", "why"])),
            "zmanim:copy-of": draw(st.sampled_from([None, None, None, "ami-1"])),
        },
    )


@st.composite
def families(draw: st.DrawFn, number: int) -> Family:
    copies = {"eu-central-1": draw(images(number + 100))} if draw(st.booleans()) else {}
    return Family("eu-west-1", draw(images(number)), copies)


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    numbers = draw(st.lists(st.integers(1, 8), unique=True, max_size=5))
    published = tuple(draw(st.lists(st.integers(1, 8), max_size=6)))
    pointed = tuple(draw(st.lists(st.sampled_from([*range(1, 9), *range(101, 109)]), max_size=2)))
    return account(*[draw(families(number)) for number in numbers], published=published, pointed=pointed)


WHO = st.one_of(st.none(), st.lists(st.sampled_from(["instance i-1", "210987654321"]), max_size=2).map(tuple))
CHOSEN = st.builds(
    Settings,
    retire_keep=st.integers(1, 3),
    retire_publications=st.integers(1, 3),
    retire_days=st.sampled_from([1, 30, 365]),
    retire_step_days=st.sampled_from([1, 7]),
)


@given(accounts(), WHO, WHO, CHOSEN)
def test_no_plan_takes_a_published_used_shared_or_foreign_image(
    there: Account, users: tuple[str, ...] | None, shared: tuple[str, ...] | None, settings: Settings
) -> None:
    for each in there.families:
        taken = decide(there, each, Known(users, shared), settings, NOW)
        assert taken.reason
        if taken.action not in rules.STEPS:
            continue
        ids = {one.ami_id for one in each.members.values()}
        assert (users, shared) == ((), ())
        assert not ids & there.pointed
        assert not ids & {move.ami_id for move in there.publications[-settings.retire_publications :]}
        for one in each.members.values():
            assert one.owner == OWNER
            assert one.name == f"zmanim-{one.version}"
            assert one.state in {"available", "disabled"}
            assert "zmanim:run" in one.tags
            assert "zmanim:keep" not in one.tags
        was_published = any(ids & set(record.images.values()) for record in there.records.values())
        assert was_published or not any(one.protected for one in each.members.values())
        assert was_published or each.ami.verified
        assert each.ami.created not in {"", "nonsense"}
        assert NOW - datetime.fromisoformat(each.ami.created) >= timedelta(days=settings.retire_days)


@given(accounts(), CHOSEN)
def test_an_image_is_deregistered_only_after_it_was_disabled_for_as_long_as_the_setting_says(
    there: Account, settings: Settings
) -> None:
    for each in there.families:
        if decide(there, each, NOBODY, settings, NOW).action == "deregister":
            done, _, at = each.ami.tags["zmanim:retiring"].partition(" ")
            assert (each.ami.state, done[:7]) == ("disabled", "disabl" + done[6:7])
            assert NOW - datetime.fromisoformat(at) >= timedelta(days=settings.retire_step_days)


@given(accounts(), CHOSEN)
def test_the_newest_verified_version_of_ours_is_never_taken(there: Account, settings: Settings) -> None:
    verified = [each for each in there.families if each.ami.verified and is_ours(OWNER, each.ami)]
    if verified:
        assert decide(there, verified[0], NOBODY, settings, NOW).action not in rules.STEPS
