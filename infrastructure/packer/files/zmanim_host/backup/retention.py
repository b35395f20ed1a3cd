"""Which runs of the backup are kept: 7 days, then 4 weeks older than those, then 3 months older than those.

Pure. Only complete runs are counted, and only what is dated up to now: a run from the future takes nobody's place, and
is not removed either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from zmanim_host.backup.record import CompletionRecord

DAYS, WEEKS, MONTHS = 7, 4, 3
# How many of which periods are kept, and what tells one from the next.
PERIODS: Sequence[tuple[int, str, Callable[[date], object]]] = (
    (DAYS, "day", lambda day: day),
    (WEEKS, "week", lambda day: day.isocalendar()[:2]),
    (MONTHS, "month", lambda day: (day.year, day.month)),
)
# An incomplete run is looked at by a person, or was cut short: nobody needs it longer.
INCOMPLETE_DAYS = 2
# As far as S3 lets a clock be wrong.
TOLERANCE = timedelta(minutes=15)
# The part of a run that says that it is proven: restored and compared. PostgreSQL dumps what it can't load again (a
# generated column that calls a function by an unqualified name), and neither an empty table nor a schema shows that.
PROOF = "proof"
# A little less than the drill's month.
MONTH = timedelta(days=31)
# The parts in which a Sunday's check reads the repository, one after the other.
CHECK_PARTS = 4


@dataclass(frozen=True)
class Owner:
    """Whose backups these are: a cluster's, by the identifier that initdb made, on one EBS volume.

    A copy of the volume has the same identifier. Without a volume: written by an image that did not know it.
    """

    system: str
    volume: str = ""

    def lets(self, other: Owner) -> bool:
        """Return whether `other` may go on with these backups: the same cluster on the same volume."""
        return self.system == other.system and self.volume in {"", other.volume}

    def tags(self) -> list[str]:
        """Return the tags by which a snapshot says whose it is."""
        return [f"system:{self.system}", *([f"volume:{self.volume}"] if self.volume else [])]

    def refusal(self, other: Owner) -> str:
        """Return what to tell a machine that may not go on with these backups, up to what it is to do if it shall."""
        if self.system == other.system:
            volume = other.volume or "another"
            whose = f"are of the volume {self.volume}, and this machine has its data on {volume}, a copy"
            when = "when its volume was made from a snapshot in an emergency"
        else:
            whose = f"are of cluster {self.system}, and this machine has cluster {other.system}"
            when = "after a restore, or with a new database"
        kept = "nothing was written and nothing removed"
        return f"{whose}: {kept}. If this machine is to go on with them ({when})"


@dataclass(frozen=True)
class Run:
    """One run of the backup: its snapshots, and which of them is its `record` (None when it was cut short).

    `time` is UTC: the record's, or that of the newest snapshot. An `adoption` has no data; it says whose the repository
    is from then on. `system` is the cluster that a record or an adoption is of and `volume` where that is, `bytes` the
    length of all its files; `parts` are the snapshots by the part that each is of. It was `proven` when it was restored
    and came out as recorded.
    """

    id: str
    time: datetime
    snapshots: tuple[str, ...]
    record: str | None = None
    adoption: bool = False
    system: str = ""
    bytes: int = 0
    volume: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    proven: datetime | None = None


@dataclass(frozen=True)
class Plan:
    """What is kept and what goes, each run with the reason; `future` are the kept ones that are dated after now."""

    keep: Mapping[Run, str]
    forget: Mapping[Run, str]
    future: Sequence[Run]


def plan(runs: Iterable[Run], now: datetime) -> Plan:
    """Return what is kept of `runs` at `now` (UTC)."""
    everything = sorted(runs, key=lambda run: (run.time, run.id), reverse=True)
    future = [run for run in everything if is_future(run, now)]
    past = [run for run in everything if not is_future(run, now)]
    keep = dict.fromkeys(future, "dated in the future")
    complete = [run for run in past if run.record]
    keep.update(retained(complete))
    proven = newest_proven(past)
    if proven and proven not in keep:
        keep[proven] = "the newest that is proven to restore"
    forget: dict[Run, str] = {}
    for run in past:
        if run in keep:
            continue
        if run.record:
            forget[run] = "a newer run stands for its day, week or month"
        elif run.adoption:
            # It has done its work once a run of the same owner follows it.
            if complete and complete[0].time > run.time:
                forget[run] = "an adoption that a complete run has followed"
            else:
                keep[run] = "says whose this repository is"
        elif run.time <= now - timedelta(days=INCOMPLETE_DAYS):
            forget[run] = "incomplete"
        else:
            keep[run] = f"incomplete, not yet {INCOMPLETE_DAYS} days old"
    return Plan(keep, forget, future)


def retained(complete: Sequence[Run]) -> dict[Run, str]:
    """Return which of these runs stay, the newest first; all of them are complete and dated in the past."""
    chosen: dict[Run, str] = {}
    rest: Sequence[Run] = complete
    for most, what, period in PERIODS:
        newest: dict[object, Run] = {}
        for run in rest:
            newest.setdefault(period(run.time.date()), run)
        stay = list(newest.values())[:most]
        chosen.update(dict.fromkeys(stay, f"the newest of its {what}"))
        if len(stay) < most:
            break
        # Only what is older than these counts for the longer periods: the rules add up and do not overlap.
        oldest = min(run.time.date() for run in stay)
        rest = [run for run in rest if run.time.date() < oldest]
    return chosen


def is_future(run: Run, now: datetime) -> bool:
    """Return whether a run is dated after `now`, by more than clocks differ."""
    return run.time > now + TOLERANCE


def newest_complete(runs: Iterable[Run], now: datetime) -> Run | None:
    """Return the complete run that `--latest` means: the newest that is not dated in the future."""
    complete = [run for run in runs if run.record and not is_future(run, now)]
    return max(complete, key=lambda run: (run.time, run.id), default=None)


def newest_proven(runs: Iterable[Run]) -> Run | None:
    """Return the newest complete run that is proven to restore."""
    return max((run for run in runs if run.record and run.proven), key=lambda run: (run.time, run.id), default=None)


def owner(runs: Iterable[Run], now: datetime) -> Owner | None:
    """Return whose these backups are; None for a repository without any.

    What is dated in the future counts when there is nothing else: such a repository belongs to somebody all the same.
    """
    owned = [run for run in runs if run.system]
    past = [run for run in owned if not is_future(run, now)]
    if not owned:
        return None
    newest = max(past or owned, key=lambda run: (run.time, run.id))
    return Owner(newest.system, newest.volume)


def check_part(day: date) -> int:
    """Return which of the CHECK_PARTS parts (from 1) is read in the week of `day`: each in its turn."""
    return (day.toordinal() - 1) // 7 % CHECK_PARTS + 1


def is_check_day(day: date) -> bool:
    """Return whether the repository is checked on that day: on Sundays."""
    return day.weekday() == 6


@dataclass(frozen=True)
class Proven:
    """The newest run that is proven, and when it was."""

    record: CompletionRecord
    at: datetime


def why_due(newest: CompletionRecord, last: Proven | None, now: datetime) -> str:
    """Return why the newest run has to be proven; nothing when the last proof speaks for it."""
    if last is None:
        return "no run has been proven yet"
    if last.record.run == newest.run:
        return ""
    if now - last.at > MONTH:
        return f"the last proof is of {last.at:%Y-%m-%d}"
    if newest.image_version != last.record.image_version:
        return f"the image was {last.record.image_version} then, and is {newest.image_version}"
    return _what_is_new(newest, last.record)


def _what_is_new(newest: CompletionRecord, proven: CompletionRecord) -> str:
    if newest.globals.sha256 != proven.globals.sha256:
        return "the roles have changed"
    before = {part.name: part for part in proven.databases}
    for part in newest.databases:
        known = before.get(part.name)
        if known is None:
            return f"the database {part.name} is new"
        if part.schema != known.schema or not part.schema:
            return f"the schema of {part.name} has changed"
        if part.extensions != known.extensions:
            return f"the extensions of {part.name} have changed"
    return ""
