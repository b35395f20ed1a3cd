"""The report on an instance's console is read whole, whatever the kernel writes into it and however little is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_ami.pipeline.ready_report import ready_reports
from zmanim_host.readiness import COPIES, console_lines

RING = 64 << 10  # what AWS keeps of a console
REPORT: dict[str, Any] = {"ok": True, "version": "v1", "checks": {"redis": {"ok": True, "detail": "x y" * 200}}}
# Lines of the kernel's, whole ones as it writes them and others that a driver leaves open.
KERNEL = st.builds(
    "[{:12.6f}] {}{}".format,
    st.floats(0, 9999),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    st.sampled_from(["\r\n", "\n", ""]),
)
DETAILS = st.text(max_size=300)


def on_console(report: dict[str, Any]) -> str:
    """Return what a serial console makes of a report."""
    return console_lines(report).replace("\n", "\r\n")


def torn(text: str, places: list[tuple[float, str]]) -> str:
    """Insert words into a text, each at a part of its length."""
    for share, words in places:
        at = int(share * len(text))
        text = text[:at] + words + text[at:]
    return text


@pytest.mark.incident("a kernel's line within the ready line, and verify-ami waited for it to the end")
@given(DETAILS, st.lists(st.tuples(st.floats(0, 1), KERNEL), max_size=COPIES - 1))
def test_what_the_kernel_writes_in_fewer_places_than_there_are_copies_hides_no_report(
    detail: str, places: list[tuple[float, str]]
) -> None:
    report = {**REPORT, "checks": {"redis": {"ok": False, "detail": detail}}}
    assert ready_reports(torn(on_console(report), places)) == [report]


def test_a_line_of_the_kernel_s_at_any_one_place_hides_no_report() -> None:
    text = on_console(REPORT)
    kernel = "[   12.345678] audit: type=1400 audit(1.2:3): avc\r\n"
    assert [at for at in range(len(text)) if ready_reports(text[:at] + kernel + text[at:]) != [REPORT]] == []


@given(st.integers(0, RING), DETAILS)
def test_a_ring_that_keeps_one_whole_copy_has_the_report(noise: int, detail: str) -> None:
    report = {**REPORT, "checks": {"redis": {"ok": False, "detail": detail}}}
    text = on_console(report)
    kept = ("x" * RING + text + "n" * noise)[-RING:]
    if len(text) // COPIES + noise < RING:
        assert ready_reports(kept) == [report]


def test_a_part_that_is_lost_in_every_copy_is_never_made_up_from_another_report() -> None:
    first, second = on_console(REPORT), on_console({**REPORT, "version": "v2"})
    lines = first.splitlines(keepends=True)
    without = "".join(line for line in lines if " 2/" not in line)
    assert len(without) < len(first)
    assert ready_reports(without) == []
    assert ready_reports(without + second) == [{**REPORT, "version": "v2"}]


def test_reports_come_in_their_order_and_each_once() -> None:
    text = on_console(REPORT) + "booting again\r\n" + on_console({**REPORT, "ok": False})
    assert [report["ok"] for report in ready_reports(text)] == [True, False]


@pytest.mark.parametrize(
    ("tear", "whole"),
    [
        (lambda text: "", 0),
        (lambda text: text, 1),
        (lambda text: text.rstrip("\r\n"), 1),
        (lambda text: text[: text.index(" 3/")], 0),
        (lambda text: text.replace('"ok"', '"OK"'), 0),
        (lambda text: text.replace("\r\n", "  \r\n"), 1),
    ],
)
def test_only_what_is_whole_and_unchanged_counts(tear: Any, whole: int) -> None:
    assert len(ready_reports(tear(on_console(REPORT)))) == whole
