"""Which state an alarm is in by its newest datapoints, and in which words AWS says so.

The rules are those of "Configuring how CloudWatch alarms treat missing data" and "Avoiding premature transitions to
alarm state" (Amazon CloudWatch User Guide), whose tables tests/unit/localcloud/cloudwatch holds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

OK = "OK"
ALARM = "ALARM"
INSUFFICIENT_DATA = "INSUFFICIENT_DATA"

_OPERATORS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
OPERATORS = frozenset(_OPERATORS)
# How the treatments of missing data that fill it are called in a reason.
_FILLED_WITH = {"breaching": "Breaching", "notBreaching": "NonBreaching"}


@dataclass(frozen=True)
class Rule:
    """What an alarm compares: M (`datapoints_to_alarm`) of N (`evaluation_periods`) datapoints with a threshold.

    `datapoints_to_alarm` is None where the alarm does not say it: then it is N, and the reason is worded differently.
    """

    comparison: str
    threshold: float
    evaluation_periods: int
    datapoints_to_alarm: int | None = None
    missing: str = "missing"

    @property
    def needed(self) -> int:
        """M."""
        return self.datapoints_to_alarm or self.evaluation_periods

    @property
    def range(self) -> int:
        """How many datapoints are looked at, so that real ones are used where newer ones are missing.

        AWS says 5 for an N of 3, and else that it depends on the period: two more than N is what that example has.
        """
        return self.evaluation_periods + 2

    def breaches(self, value: float) -> bool:
        """Say whether a value is on the wrong side of the threshold."""
        return _OPERATORS[self.comparison][0](value, self.threshold)


@dataclass(frozen=True)
class Datapoint:
    """One period that ended: when it began, and what the statistic of its values is (None: there were none)."""

    at: datetime
    value: float | None


@dataclass(frozen=True)
class Evaluation:
    """The state that an alarm is in now, why, and the datapoints that decided it, the newest first."""

    state: str
    reason: str
    datapoints: tuple[Datapoint, ...]


def evaluate(rule: Rule, points: Sequence[Datapoint], state: str) -> Evaluation:
    """Evaluate an alarm that is in `state`; `points` are `rule.range` of them without gaps, the newest first."""
    real = [point for point in points if point.value is not None][: rule.evaluation_periods]
    absent = rule.evaluation_periods - len(real)
    missing = [point for point in points if point.value is None][:absent]
    used = tuple(sorted((*real, *missing), key=lambda point: point.at, reverse=True))
    breaching = [point for point in real if point.value is not None and rule.breaches(point.value)]
    filled = _FILLED_WITH.get(rule.missing, "") if absent else ""
    count = len(breaching) + (absent if filled == "Breaching" else 0)
    if count >= rule.needed:
        new = ALARM
    elif not absent or filled or len(breaching) < len(real):
        new = OK
    elif rule.missing == "ignore":
        return Evaluation(state, "", used)
    elif real and _age(points, real[-1]) >= rule.needed:
        new = ALARM  # what is AWS's "premature" no longer: nothing but breaches for as long as it takes
    else:
        return Evaluation(INSUFFICIENT_DATA, _insufficient(rule), used)
    return Evaluation(new, _reason(rule, new, real, absent, filled), used)


def _age(points: Sequence[Datapoint], point: Datapoint) -> int:
    return list(points).index(point) + 1


def _count(number: int, noun: str, *, verb: bool = False) -> str:
    plural = number != 1
    word = f"{number or 'no'} {noun}{'s' if plural else ''}"
    return f"{word} {'were' if plural else 'was'}" if verb else word


def _insufficient(rule: Rule) -> str:
    return f"Insufficient Data: {_count(rule.evaluation_periods, 'datapoint', verb=True)} unknown."


def _reason(rule: Rule, new: str, real: Sequence[Datapoint], absent: int, filled: str) -> str:
    """Return AWS's words for a state, as its notifications have them."""
    deciding = [point for point in real if point.value is not None and rule.breaches(point.value) == (new == ALARM)]
    treated = f"{_count(absent, 'missing datapoint', verb=True)} treated as [{filled}]" if filled else ""
    if not deciding:
        received = _count(len(real), "datapoint", verb=True)
        periods = f"{received} received for {_count(rule.evaluation_periods, 'period')}"
        return f"Threshold Crossed: {periods}{f' and {treated}' if treated else ''}."
    values = ", ".join(f"{point.value} ({point.at:%d/%m/%y %H:%M:%S})" for point in deciding)
    number = _count(len(deciding), "datapoint")
    ending = ""
    if rule.datapoints_to_alarm:
        number = f"{len(deciding)} out of the last {rule.evaluation_periods} datapoints"
        least = rule.needed if new == ALARM else rule.evaluation_periods - rule.needed + 1
        ending = (
            f" (minimum {_count(least, 'datapoint')} for {'OK -> ALARM' if new == ALARM else 'ALARM -> OK'} transition)"
        )
    verb = f"{'was' if len(deciding) == 1 else 'were'}{'' if new == ALARM else ' not'}"
    compared = f"{verb} {_OPERATORS[rule.comparison][1]} the threshold ({rule.threshold})"
    return f"Threshold Crossed: {number} [{values}] {compared}{f' and {treated}' if treated else ''}{ending}."
