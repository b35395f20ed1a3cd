"""What stands on the page, out of its sources: all is text or numbers here, and the template only lays it out."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from zmanim_ami.evidence import charts
from zmanim_ami.evidence.charts import Chart
from zmanim_ami.evidence.claims import Claim, claims, gaps, in_words, of_rehearsal
from zmanim_ami.evidence.reading import Object, mapping, number, rows, text
from zmanim_ami.evidence.sources import Sources
from zmanim_ami.pipeline.images.diff import KINDS

# What a page may hold of one thing, so that it stays below 1 MB whatever a report has.
_MOST_ROWS, _MOST_WORDS = 1500, 4000
_MOST_CHART = 400_000
# From here on systemd calls a service exposed, or unsafe.
_EXPOSED = 7.0
_SIZE = re.compile(r'<svg[^>]{0,300}\swidth="(\d{1,5})[\d.]*(?:px)?"[^>]{0,300}\sheight="(\d{1,5})[\d.]*(?:px)?"')


@dataclass(frozen=True)
class Verdict:
    """The page in a word (`tone`: good, bad or open), and in a sentence; `error` is what a run ended with."""

    word: str
    tone: str
    sentence: str
    error: str


@dataclass(frozen=True)
class Figure:
    """A number that counts, and what it is."""

    value: str
    name: str


@dataclass(frozen=True)
class Check:
    """A check as the report has it."""

    name: str
    ok: bool
    expected: str
    found: str


@dataclass(frozen=True)
class Table:
    """Rows under columns; without rows, `empty` says why. `search` when there are many."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str
    search: bool = False


@dataclass(frozen=True)
class Boot:
    """How the machine booted: systemd's chart as a data URL with its size, its slowest units, what it waited for.

    Without a chart `missing` says why.
    """

    image: str
    width: int
    height: int
    words: str
    slowest: Chart
    chain: str
    missing: str


@dataclass(frozen=True)
class Page:
    """Everything that is on the page, in its order."""

    version: str
    verdict: Verdict
    figures: tuple[Figure, ...]
    about: tuple[tuple[str, str], ...]
    proven: tuple[Claim, ...]
    not_proven: tuple[Claim, ...]
    steps: tuple[Chart, ...]
    boot: Boot
    checks: tuple[Check, ...]
    settings: tuple[Table, ...]
    inside: Table
    differences: tuple[Table, ...]
    difference_note: str
    backup: Table
    exposure: tuple[Chart, ...]
    connections: tuple[Table, ...]
    rehearsed: tuple[Table, ...]
    made_from: tuple[tuple[str, str], ...]


def build(sources: Sources, *, chart: bool = True) -> Page:
    """Return the page of these sources, whatever they lack; without its `chart` where that would be too large."""
    report = sources.report.content if sources.report else {}
    account = sources.account.content if sources.account else {}
    rehearsal = sources.rehearsal.content if sources.rehearsal else None
    facts = mapping(report.get("facts"))
    checks = tuple(_check(each) for each in rows(report.get("checks")))
    proven, missing = claims(list(rows(report.get("checks"))))
    also_proven, also_missing = of_rehearsal(rehearsal) if rehearsal is not None else ((), ())
    signed = [Claim("The kept report is the signed one", "alias/zmanim-verification")] if sources.attested == () else []
    diff = mapping(account.get("diff"))
    return Page(
        version=sources.version or "(no version)",
        verdict=_verdict(report, rehearsal, checks),
        figures=tuple(_figures(report, account, checks)),
        about=tuple(_about(report, account, rehearsal)),
        proven=(*proven, *also_proven, *signed),
        not_proven=(*missing, *also_missing, *gaps(sources)),
        steps=tuple(_steps(report, rehearsal)),
        boot=_boot(facts, known=bool(report), chart=chart),
        checks=checks,
        settings=tuple(_settings(facts)),
        inside=_inside(report, account),
        differences=tuple(_differences(diff)),
        difference_note=_difference_note(diff),
        backup=_backup(report),
        exposure=tuple(_exposure(facts)),
        connections=tuple(_connections(facts, rehearsal)),
        rehearsed=tuple(_rehearsed(rehearsal)) if rehearsal is not None else (),
        made_from=tuple(_made_from(sources)),
    )


def _check(each: Object) -> Check:
    found = in_words(text(each.get("found")))[:_MOST_WORDS]
    return Check(text(each.get("name")), each.get("ok") is True, text(each.get("expected"))[:_MOST_WORDS], found)


def _verdict(report: Object, rehearsal: Object | None, checks: tuple[Check, ...]) -> Verdict:
    failed = [check for check in checks if not check.ok]
    if rehearsal is not None:
        return _rehearsal_verdict(rehearsal, report)
    if report.get("ok") is True and not failed:
        words = "Every check passed on instances that were launched as production's are."
        return Verdict("Verified", "good", words, "")
    if any(check.found == "it was cut off" for check in failed):
        return Verdict("Cut off", "open", "The verification did not come to its end: nothing is proven.", "")
    words = f"{len(failed)} of {len(checks)} checks failed." if checks else "The report holds no check."
    return Verdict("Not verified", "bad", f"{words} It may not be published.", "")


def _rehearsal_verdict(rehearsal: Object, report: Object) -> Verdict:
    if rehearsal.get("ok") is True and report and report.get("ok") is not True:
        words = "The rehearsal came to a good end; a later verification of its image did not, or runs just now."
        return Verdict("Rehearsed, not verified again", "open", words, "")
    if rehearsal.get("ok") is True:
        words = "From the clone to a published image, by production's own tasks against a cloud on one machine."
        return Verdict("Rehearsed", "good", words, "")
    broken = [text(step.get("name")) for step in rows(rehearsal.get("steps")) if step.get("ok") is not True]
    error = text(rehearsal.get("error"))[:_MOST_WORDS]
    if not error or error == "KeyboardInterrupt":
        last = [text(step.get("name")) for step in rows(rehearsal.get("steps"))]
        words = f"It ended, or still is, after {last[-1]}." if last else "It ended before its first step was over."
        return Verdict("Not to its end", "open", f"The rehearsal did not come to its end. {words}", "")
    where = f" at {broken[0]}" if broken else ""
    return Verdict("Failed", "bad", f"The rehearsal failed{where}: what comes after it was not tried.", error)


def _figures(report: Object, account: Object, checks: tuple[Check, ...]) -> Iterator[Figure]:
    if checks:
        yield Figure(f"{sum(check.ok for check in checks)} / {len(checks)}", "checks passed")
    healthy = number(mapping(report.get("boot")).get("healthy_seconds"))
    if healthy is not None:
        yield Figure(charts.seconds(healthy), "from launch to healthy")
    restore = mapping(report.get("restore"))
    seconds, lines = number(restore.get("seconds")), number(restore.get("rows"))
    if seconds is not None and lines is not None:
        yield Figure(f"{lines:,.0f} rows", f"restored on another machine in {charts.seconds(seconds)}")
    components = len(list(rows(account.get("components")))) or len(mapping(report.get("packages")))
    if components:
        yield Figure(f"{components}", "components inside")


def _about(report: Object, account: Object, rehearsal: Object | None) -> Iterator[tuple[str, str]]:
    known = rehearsal or {}
    programs = text(known.get("programs"))
    machines = mapping(known.get("machines"))
    kind = " ".join(filter(None, (text(machines.get("kind")), text(machines.get("accelerator")))))
    base = mapping(known.get("base"))
    based = f"{text(base.get('file'))}, sha256 {text(base.get('sha256'))}" if base else "the stand-in for Amazon Linux"
    facts = {
        "AMI": text(report.get("ami_id")) or text(known.get("ami_id")),
        "commit": text(report.get("commit")),
        "verified at": text(report.get("at")),
        "where": text(account.get("where")),
        "instance type": text(report.get("instance_type")),
        "source AMI": text(known.get("source_ami")),
        "base": based if rehearsal is not None else "",
        "machines": f"{kind}" if kind else "",
        "programs for": programs,
        **{name: text(value) for name, value in mapping(report.get("versions")).items()},
        "advisories when built": text(account.get("advisories")),
        "tree digest": text(report.get("tree_digest")) or text(known.get("tree_digest")),
    }
    yield from ((name, value[:_MOST_WORDS]) for name, value in facts.items() if value)


def _steps(report: Object, rehearsal: Object | None) -> Iterator[Chart]:
    if rehearsal is not None:
        note = "One after the other, as they ran on this machine."
        yield charts.one_after_the_other("The rehearsal", note, rows(rehearsal.get("steps")))
    if list(rows(report.get("steps"))):
        note = (
            "From the launch of the first instance. The backup runs beside the reboot, the restore beside the swap; "
            "a bar ends when its end was seen."
        )
        yield charts.beside_each_other("The verification", note, rows(report.get("steps")))


def _boot(facts: Object, *, known: bool, chart: bool) -> Boot:
    image, width, height = _image(text(facts.get("chart"))) if chart else ("", 0, 0)
    slowest = [(text(each.get("unit")), number(each.get("seconds")) or 0.0) for each in rows(facts.get("blame"))][:12]
    whole = max((seconds for _, seconds in slowest), default=0.0)
    bars = charts.scale(
        "The slowest units",
        "What they took, one beside the other: the slowest need not be what the boot waited for.",
        [(unit, seconds, charts.seconds(seconds)) for unit, seconds in slowest],
        whole,
        float("inf"),
    )
    missing = "" if image else "The report has no chart of its boot." if known else "No machine was asked for it."
    if not chart:
        missing = "The chart is in the report: the page would be larger than 1 MB with it."
    words = text(facts.get("time"))[:_MOST_WORDS]
    return Boot(image, width, height, words, bars, text(facts.get("chain"))[:8000], missing)


def _image(svg: str) -> tuple[str, int, int]:
    """Return somebody else's SVG as a data URL, with its size: an image runs no script, and asks for nothing."""
    if not svg or len(svg) > _MOST_CHART:
        return "", 0, 0
    size = _SIZE.search(svg[:4000])
    encoded = base64.b64encode(svg.encode("utf-8", "replace")).decode("ascii")
    return f"data:image/svg+xml;base64,{encoded}", int(size[1]) if size else 1200, int(size[2]) if size else 800


def _settings(facts: Object) -> Iterator[Table]:
    for name, title in (("postgresql", "PostgreSQL"), ("redis", "Redis")):
        values = tuple(_cells(each, "name", "value", "source") for each in rows(facts.get(name)))[:_MOST_ROWS]
        yield Table(
            name,
            title,
            ("setting", "in force", "from"),
            values,
            f"Nothing of {title} was asked.",
            search=len(values) > 20,
        )


def _cells(row: Object, *names: str) -> tuple[str, ...]:
    return tuple(text(row.get(name))[:_MOST_WORDS] for name in names)


def _inside(report: Object, account: Object) -> Table:
    components = tuple(_cells(each, "name", "version", "kind", "licence") for each in rows(account.get("components")))
    if components:
        whole = number(account.get("all_components")) or 0
        title = "Components" if whole <= len(components) else f"The first {len(components)} of {whole:.0f} components"
        ordered = tuple(sorted(components, key=lambda row: (row[2].lower(), row[0].lower(), row[1])))[:_MOST_ROWS]
        return Table("inside", title, ("name", "version", "kind", "licence"), ordered, "", search=True)
    packages = tuple(
        (name, text(version)[:_MOST_WORDS]) for name, version in sorted(mapping(report.get("packages")).items())
    )
    return Table(
        "inside",
        "Packages inside",
        ("name", "version"),
        packages[:_MOST_ROWS],
        "What is inside is not known.",
        search=True,
    )


def _differences(diff: Object) -> Iterator[Table]:
    before, after = text(diff.get("before")), text(diff.get("after"))
    for kind, title in KINDS.items():
        changed = tuple(
            (text(each.get("name")), text(each.get("before")) or "–", text(each.get("after")) or "–")
            for each in rows(diff.get("changes"))
            if each.get("kind") == kind
        )
        if changed:
            yield Table(
                f"diff-{kind}", title, (kind, before or "published", after or "this image"), changed[:_MOST_ROWS], ""
            )


def _difference_note(diff: Object) -> str:
    before = text(diff.get("before"))
    if not diff:
        return "It was not compared with what is published."
    if not before:
        return "Nothing was published when it was verified, so there is nothing to compare with."
    if not list(rows(diff.get("changes"))):
        return f"The same as {before}, which is published, in all that was kept of both."
    return f"Against {before}, which was published when this was verified."


def _backup(report: Object) -> Table:
    backup, restore = mapping(report.get("backup")), mapping(report.get("restore"))
    values: Mapping[str, str] = {
        "run": text(backup.get("run")) or text(restore.get("run")),
        "size, before compression": _amount(backup.get("bytes"), "bytes"),
        "backup took": _amount(backup.get("seconds"), "s"),
        "restore took, on another instance": _amount(restore.get("seconds"), "s"),
        "data was that old when the restore began": _amount(restore.get("age"), "s"),
        "rows restored, as recorded": _amount(restore.get("rows"), ""),
        "keys restored, as recorded": _amount(restore.get("keys"), ""),
    }
    known = tuple((name, value) for name, value in values.items() if value)
    return Table("backup", "Figures", ("", ""), known, "No backup was made, or its figures are not in the report.")


def _amount(value: object, unit: str) -> str:
    known = number(value)
    return "" if known is None else f"{known:,.1f} {unit}".replace(".0 ", " ").strip()


def _exposure(facts: Object) -> Iterator[Chart]:
    for own, title in ((True, "The image's own"), (False, "Of its base")):
        shown = [
            (text(each.get("unit")), value := min(number(each.get("exposure")) or 0.0, 10.0), _exposed(value, each))
            for each in rows(facts.get("exposure"))
            if (each.get("own") is True) is own
        ]
        if shown:
            yield charts.scale(title, "", shown, 10.0, _EXPOSED if own else float("inf"))


def _exposed(value: float, row: Object) -> str:
    return f"{value:.1f} {text(row.get('word')).lower()}"


def _connections(facts: Object, rehearsal: Object | None) -> Iterator[Table]:
    held = tuple(_cells(each, "program", "from", "to") for each in rows(facts.get("connections")))
    empty = "None was open when the machine was asked." if facts else "No machine was asked."
    yield Table(
        "connections", "Open on the machine when it was asked", ("program", "from", "to"), held[:_MOST_ROWS], empty
    )
    if rehearsal is not None:
        fetched = tuple(
            (
                text(each.get("name")) or "(none)",
                *_cells(each, "connections"),
                _megabytes(each.get("received")),
                _problems(each),
            )
            for each in rows(rehearsal.get("fetched"))
        )
        empty = "The machines had no route out: nothing could leave."
        if rehearsal.get("fetched") is not None:
            empty = "They had a way out, and nothing asked for it."
        columns = ("name", "connections", "received", "how some ended")
        yield Table("fetched", "Out of the cloud, by name", columns, fetched[:_MOST_ROWS], empty)


def _problems(each: Object) -> str:
    problems = each.get("problems")
    return "; ".join(text(one) for one in problems)[:_MOST_WORDS] if isinstance(problems, list) else ""


def _megabytes(value: object) -> str:
    known = number(value)
    return "" if known is None else f"{known / 1e6:.1f} MB"


def _rehearsed(rehearsal: Object) -> Iterator[Table]:
    differences = tuple(_cells(each, "name", "production", "rehearsed") for each in rows(rehearsal.get("differences")))
    yield Table("versions", "Built in another version", ("what", "production", "rehearsed"), differences, "None.")
    longer = tuple(_cells(each, "limit", "usual", "here", "why") for each in rows(rehearsal.get("relaxed")))
    if longer:
        yield Table("limits", "Limits that were longer", ("limit", "production", "rehearsed", "because"), longer, "")
    bad_day = tuple((name, text(value)) for name, value in mapping(rehearsal.get("bad_day")).items())
    if bad_day:
        yield Table("bad-day", "What went wrong on purpose", ("what", "times"), bad_day, "")


def _made_from(sources: Sources) -> Iterator[tuple[str, str]]:
    for what, read in (
        ("verification", sources.report),
        ("account", sources.account),
        ("rehearsal", sources.rehearsal),
    ):
        if read is not None:
            yield f"{what}: {read.path}", read.sha256
