"""What the page says of good and bad ends, and of reports that lack what newer ones have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stages.evidence import account, chart, put, rehearsal, report
from zmanim_ami.evidence import content, page, sources
from zmanim_ami.evidence.claims import PROMISES
from zmanim_ami.evidence.content import Figure, Page
from zmanim_ami.evidence.sources import Read, Sources


def shown(root: Path, verification: object = None, said: object = None, rehearsed: object = None) -> Page:
    """Return the page of these."""
    return content.build(sources.find(put(root, verification, said, rehearsed)))


def test_of_a_good_verification_every_promise_is_proven_and_nothing_that_was_not_tried_is_claimed(
    tmp_path: Path,
) -> None:
    made = shown(tmp_path, report(), account())
    assert (made.verdict.word, made.verdict.tone) == ("Verified", "good")
    assert [claim.words for claim in made.proven] == [promise.words for promise in PROMISES]
    details = {claim.words: claim.detail for claim in made.proven}
    assert details["PostGIS is in the database"] == "3.5.2"
    assert details["It boots by itself, and is ready in time"].endswith("(the setting ready_seconds): 8.8 s after it")
    assert [claim.words for claim in made.not_proven] == ["How it bears load, and months"]
    assert made.figures[0] == Figure("27 / 27", "checks passed")


def test_of_a_rehearsal_it_says_what_only_aws_can_show(tmp_path: Path) -> None:
    made = shown(tmp_path, report(), account(), rehearsal())
    assert made.verdict.word == "Rehearsed"
    missing = " ".join(claim.words for claim in made.not_proven)
    for words in ("AWS does the same", "Amazon Linux's own packages", "kernel of its own", "production's versions"):
        assert words in missing
    assert "/zmanim/prod/ami-id" in " ".join(claim.words for claim in made.proven)
    assert [chart.title for chart in made.steps] == ["The rehearsal", "The verification"]
    assert made.connections[1].empty == "The machines had no route out: nothing could leave."


def test_a_verification_in_a_local_cloud_is_never_shown_as_one_on_aws(tmp_path: Path) -> None:
    made = shown(tmp_path, report(), {**account(), "where": "local cloud http://10.212.0.2:5000, eu-west-1"})
    assert "That AWS does the same" in [claim.words for claim in made.not_proven]


@pytest.mark.parametrize("programs", ["aarch64", "x86_64"])
def test_a_rehearsal_of_other_programs_than_those_that_ship_says_so(tmp_path: Path, programs: str) -> None:
    made = shown(tmp_path, report(), account(), {**rehearsal(), "programs": programs})
    said = [claim.words for claim in made.not_proven if "programs for aarch64" in claim.words]
    assert bool(said) is (programs != "aarch64")


def test_longer_limits_a_bad_day_and_what_was_fetched_are_on_it(tmp_path: Path) -> None:
    relaxed = [{"limit": "boot_timeout", "usual": "300 s", "here": "1800 s", "why": "emulated"}]
    fetched = [{"name": "cdn.example.org", "connections": 3, "received": 5_200_000, "problems": ["refused: x"]}]
    more = {"relaxed": relaxed, "fetched": fetched, "bad_day": {"seed": 7, "Throttling": 4}}
    made = shown(tmp_path, report(), account(), {**rehearsal(), **more})
    assert made.connections[1].rows == (("cdn.example.org", "3", "5.2 MB", "refused: x"),)
    assert [table.name for table in made.rehearsed] == ["versions", "limits", "bad-day"]
    assert any("boot_timeout" in claim.words for claim in made.not_proven)


def failed(made: dict[str, Any], name: str, found: str) -> dict[str, Any]:
    for check in made["checks"]:
        if check["name"] == name:
            check.update(ok=False, found=found)
    return {**made, "ok": False}


def test_a_check_that_failed_is_the_reason_why_its_promise_is_not_proven(tmp_path: Path) -> None:
    made = shown(tmp_path, failed(report(), "swap", "no volume\nthe console's last lines"), account())
    assert (made.verdict.tone, made.verdict.sentence) == ("bad", "1 of 27 checks failed. It may not be published.")
    (claim,) = (each for each in made.not_proven if each.words == "Its data volume serves on the next instance")
    assert claim.detail.endswith("found no volume")
    assert [each.words for each in made.not_proven if each.failed] == [claim.words]
    (check,) = (each for each in made.checks if not each.ok)
    assert check.found.endswith("the console's last lines")


def test_what_was_never_tried_is_not_proven_either(tmp_path: Path) -> None:
    made = {**report(), "ok": False}
    made["checks"] = made["checks"][:3]
    page_of = shown(tmp_path, made, account())
    assert "Its backup is restored on another instance" in [claim.words for claim in page_of.not_proven]
    assert page_of.proven == ()


def test_a_verification_that_was_cut_off_says_so_and_proves_nothing(tmp_path: Path) -> None:
    check = {"name": "the verification", "ok": False, "expected": "to come to its end", "found": "it was cut off"}
    made = shown(tmp_path, {**report(), "ok": False, "checks": [check], "facts": {}, "steps": []})
    assert (made.verdict.word, made.verdict.tone, made.proven) == ("Cut off", "open", ())
    assert made.boot.missing


@pytest.mark.parametrize(
    ("changes", "word", "words"),
    [
        ({"error": "the run stopped at build-ami\n  found: exit code 1"}, "Failed", "failed at build-ami"),
        ({"error": "KeyboardInterrupt"}, "Not to its end", "after build-ami"),
        ({"error": ""}, "Not to its end", "after build-ami"),
    ],
    ids=["failed", "interrupted", "killed"],
)
def test_a_rehearsal_that_did_not_end_well_says_how(
    tmp_path: Path, changes: dict[str, object], word: str, words: str
) -> None:
    steps = [{"name": "host", "seconds": 0.1, "ok": True}, {"name": "build-ami", "seconds": 9.0, "ok": False}]
    ended = {**rehearsal(), "ok": False, "ami_id": "", "published": None, "steps": steps, **changes}
    made = shown(tmp_path, None, None, ended)
    assert made.verdict.word == word
    assert words in made.verdict.sentence
    assert made.verdict.tone != "good"
    assert made.proven == ()
    assert made.steps[0].bars[1].tone == "bad"


def test_a_rehearsal_whose_image_failed_a_later_verification_is_not_shown_as_good(tmp_path: Path) -> None:
    made = shown(tmp_path, failed(report(), "swap", "no volume"), account(), rehearsal())
    assert (made.verdict.word, made.verdict.tone) == ("Rehearsed, not verified again", "open")


def test_an_older_report_has_a_page_that_says_what_it_lacks(tmp_path: Path) -> None:
    old = {name: value for name, value in report().items() if name not in {"facts", "steps", "backup", "restore"}}
    made = shown(tmp_path, old, None, {"version": old["version"], "ok": True, "ami_id": old["ami_id"]})
    assert made.boot.missing == "The report has no chart of its boot."
    assert made.inside.title == "Packages inside"
    assert len(made.inside.rows) == 2
    assert made.backup.rows == ()
    assert "the account was not asked" in [claim.detail for claim in made.not_proven]
    assert page.render(made)


def test_the_difference_to_what_is_published_is_told_and_never_shown_as_the_same(tmp_path: Path) -> None:
    said = account()
    assert shown(tmp_path, report(), said).differences[0].rows[0] == ("openssl", "3.0.8-1.amzn2023", "3.2.2-1.amzn2023")
    said["diff"]["changes"] = []
    assert "The same as v1.2.2" in shown(tmp_path, report(), said).difference_note
    said["diff"] = {"before": "", "after": "v1.2.3", "unknown": ["anything"], "changes": []}
    made = shown(tmp_path, report(), said)
    assert "Nothing was published" in made.difference_note
    assert "Not compared with what is published" in [claim.words for claim in made.not_proven]


def test_somebody_elses_svg_is_only_ever_an_image(tmp_path: Path) -> None:
    made = shown(tmp_path, report())
    assert made.boot.image.startswith("data:image/svg+xml;base64,")
    assert (made.boot.width, made.boot.height) == (1180, 1550)
    assert page.render(made).count("<image") == 0
    assert "unit-3.service (" not in page.render(made)  # words of the chart, which is encoded


def test_a_page_stays_below_a_megabyte_whatever_a_report_has(tmp_path: Path) -> None:
    verification, said = report(), account()
    verification["facts"]["chart"] = chart(1700)
    assert 250_000 < len(verification["facts"]["chart"]) <= 300_000
    verification["facts"]["postgresql"] *= 8
    said["components"] = [{**each, "name": f"{each['name']}-{n}"} for n in range(3) for each in said["components"]]
    assert len(page.render(shown(tmp_path, verification, said, rehearsal())).encode()) < 1_000_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def _mixed(known: Callable[[], dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Reports of which any fields are anything."""
    names = st.sampled_from(sorted(known()))
    return st.dictionaries(names, _JSON, max_size=6).map(lambda changes: {**known(), **changes})


@given(
    _mixed(report),
    _mixed(account),
    _mixed(rehearsal),
    st.dictionaries(st.sampled_from(sorted(report()["facts"])), _JSON),
)
def test_there_is_a_page_of_whatever_a_report_holds(
    verification: dict[str, Any], said: dict[str, Any], rehearsed: dict[str, Any], facts: dict[str, Any]
) -> None:
    if isinstance(verification["facts"], dict):
        verification["facts"].update(facts)
    read = [Read("a file", each, "00") for each in (verification, said, rehearsed)]
    for sources_of in (
        Sources(Path("x"), read[0], read[1], read[2]),
        Sources(Path("x"), read[0]),
        Sources(Path("x"), None, None, read[2]),
    ):
        text = page.render(content.build(sources_of))
        assert text.endswith("</html>")
        assert "'" in text
