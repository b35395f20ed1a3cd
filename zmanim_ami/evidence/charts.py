"""Times as bars: where each begins and how long it is, in percent of the whole chart's width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zmanim_ami.evidence.reading import Object, number, text

# What is shorter can't be seen.
_THINNEST = 0.4


@dataclass(frozen=True)
class Bar:
    """A row of a chart; `left` and `width` are percent, `shown` the value in words, `tone` good, bad or plain."""

    name: str
    shown: str
    left: float
    width: float
    tone: str


@dataclass(frozen=True)
class Chart:
    """Bars under a title, with what they are in a sentence, and what they come to."""

    title: str
    note: str
    bars: tuple[Bar, ...]
    total: str


def one_after_the_other(title: str, note: str, steps: Iterable[Object]) -> Chart:
    """Return the chart of steps of which each began when the one before it was over."""
    rows, at = [], 0.0
    for step in steps:
        seconds = number(step.get("seconds")) or 0.0
        rows.append((text(step.get("name")), at, seconds, step.get("ok") is True))
        at += seconds
    return _chart(title, note, rows)


def beside_each_other(title: str, note: str, steps: Iterable[Object]) -> Chart:
    """Return the chart of steps that say when they began."""
    rows = [
        (
            text(each.get("name")),
            number(each.get("at")) or 0.0,
            number(each.get("seconds")) or 0.0,
            each.get("ok") is True,
        )
        for each in steps
    ]
    return _chart(title, note, rows)


def scale(title: str, note: str, values: Sequence[tuple[str, float, str]], whole: float, bad: float) -> Chart:
    """Return the chart of values by name with their words, out of `whole`; from `bad` on a bar is a bad one."""
    bars = tuple(
        Bar(name, shown, 0.0, _percent(value, whole), "bad" if value >= bad else "plain")
        for name, value, shown in values
    )
    return Chart(title, note, bars, "")


def seconds(value: float) -> str:
    """Return a time as people read it."""
    if value >= 90:
        return f"{int(value) // 60} min {int(value) % 60} s"
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _chart(title: str, note: str, rows: Sequence[tuple[str, float, float, bool]]) -> Chart:
    end = max((at + length for _, at, length, _ in rows), default=0.0)
    bars = tuple(
        Bar(
            name,
            seconds(length),
            min(_percent(at, end), 100 - _THINNEST),
            max(_percent(length, end), _THINNEST),
            "good" if ok else "bad",
        )
        for name, at, length, ok in rows
    )
    return Chart(title, note, bars, seconds(end) if rows else "")


def _percent(value: float, whole: float) -> float:
    return round(min(100.0, 100 * value / whole), 2) if whole > 0 else 0.0
