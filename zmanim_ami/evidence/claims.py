"""What was proven of an image and what was not, in sentences: each claim stands on checks, and a gap is said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from zmanim_ami.evidence.reading import Object, mapping, rows, text, texts
from zmanim_ami.evidence.sources import Sources
from zmanim_ami.pipeline.programs import SHIPPED

_LOCAL = "local cloud"


@dataclass(frozen=True)
class Claim:
    """A sentence, and what it stands on or why it does not stand; `failed` when it was tried and is not so."""

    words: str
    detail: str
    failed: bool = False


@dataclass(frozen=True)
class _Promise:
    """What an image has to do: proven when each of these checks was made and passed.

    `detail` is the check that says how, in the form of `says`; a name that ends in * is every check that begins so.
    """

    words: str
    checks: tuple[str, ...]
    detail: str = ""
    says: str = "{found}"


PROMISES = (
    _Promise(
        "It boots by itself, and is ready in time",
        ("ready: ok", "ready: in time"),
        "ready: in time",
        "{expected}: {found}",
    ),
    _Promise(
        "What runs is the program that was built, and nothing else",
        ("running program", "ready: binary_sha256", "version in the image", "release in use", "API runs"),
        "ready: binary_sha256",
        "sha256 {found}",
    ),
    _Promise("It serves: /health answers, with its database", ("GET /health", "/health: status", "/health: database")),
    _Promise("PostgreSQL answers", ("ready: postgresql",), "ready: postgresql"),
    _Promise("PostGIS is in the database", ("ready: postgis",), "ready: postgis"),
    _Promise("Redis answers", ("ready: redis",), "ready: redis"),
    _Promise("Every unit that is meant to run is active, every timer waits", ("ready: units", "ready: timers")),
    _Promise("Nothing can be connected to but SSH and the API", ("listening",), "listening"),
    _Promise("It has made its own identity: none of its builder's is left", ("its own identity", "its own *")),
    _Promise("A reboot brings it back, with its data", ("reboot",), "reboot"),
    _Promise("It makes a backup of its data", ("backup",), "backup"),
    _Promise("Its data volume serves on the next instance", ("swap",), "swap"),
    _Promise("Its backup is restored on another instance", ("restore",), "restore"),
)


def claims(checks: Sequence[Object]) -> tuple[tuple[Claim, ...], tuple[Claim, ...]]:
    """Return what these checks of a report prove, and what they do not."""
    by_name = {text(check.get("name")): check for check in checks}
    proven: list[Claim] = []
    missing: list[Claim] = []
    for promise in PROMISES:
        named = [name for pattern in promise.checks for name in _matching(pattern, by_name)]
        failed = [name for name in named if by_name[name].get("ok") is not True]
        lacking = [pattern for pattern in promise.checks if not any(_matching(pattern, by_name))]
        if failed:
            check = by_name[failed[0]]
            found = first_line(in_words(text(check.get("found"))))
            why = f"{failed[0]}: expected {text(check.get('expected'))}, found {found}"
            missing.append(Claim(promise.words, why, failed=True))
        elif lacking:
            missing.append(Claim(promise.words, "not tried: the run ended before"))
        else:
            proven.append(Claim(promise.words, _detail(promise, by_name)))
    return tuple(proven), tuple(missing)


def _matching(pattern: str, names: Mapping[str, object]) -> Iterator[str]:
    yield from (name for name in names if name == pattern or (pattern[-1] == "*" and name.startswith(pattern[:-1])))


def _detail(promise: _Promise, checks: Mapping[str, Object]) -> str:
    if not promise.detail:
        return ""
    check = checks[promise.detail]
    found = in_words(text(check.get("found"))).removeprefix("ok").removeprefix(": ")
    return first_line(promise.says.format(found=found, expected=text(check.get("expected"))))


def in_words(found: str) -> str:
    """Return what a check found as people say it: of a ready line's check it is JSON, whether and why."""
    if not found.startswith("{"):
        return found
    try:
        check = mapping(json.loads(found))
    except (ValueError, RecursionError):
        return found
    if not isinstance(check.get("ok"), bool) or not check.keys() <= {"ok", "required", "detail"}:
        return found
    word = "ok" if check["ok"] else "not ok" if check.get("required") is True else "not ok, which is not required"
    return ": ".join(filter(None, (word, text(check.get("detail")))))


def first_line(words: str) -> str:
    """Return the first line of a finding: more may be a console's last lines."""
    return words.strip().partition("\n")[0]


def of_rehearsal(rehearsal: Object) -> tuple[tuple[Claim, ...], tuple[Claim, ...]]:
    """Return what a rehearsal proves beside its verification, and what no rehearsal can."""
    published = mapping(rehearsal.get("published"))
    proven = [Claim(f"The parameter {name} was read back", text(value)) for name, value in published.items()]
    missing = [] if published else [Claim("It is published in Parameter Store", "the rehearsal ended before")]
    return tuple(proven), (*missing, *_stood_in(rehearsal))


def _stood_in(rehearsal: Object) -> Iterator[Claim]:
    yield Claim("That AWS does the same", "its API, network, volumes and agents are stood in for: docs/rehearsal.md")
    if not mapping(rehearsal.get("base")):
        words = "Debian's programs, in packages that have Amazon's names, stand in for them"
        yield Claim("That Amazon Linux's own packages do the same", words)
    machines = mapping(rehearsal.get("machines"))
    if text(machines.get("kind")) != "qemu":
        yield Claim("What only a kernel of its own shows", "the machines shared this host's: udev, a shutdown, sysctls")
    programs = text(rehearsal.get("programs"))
    if programs and programs != SHIPPED:
        yield Claim(f"That the programs for {SHIPPED} do the same", f"those for {programs} were built and run")
    for each in rows(rehearsal.get("relaxed")):
        words = f"{text(each.get('here'))} here, {text(each.get('usual'))} in production: {text(each.get('why'))}"
        yield Claim(f"That {text(each.get('limit'))} is enough", words)
    others = [text(each.get("name")) for each in rows(rehearsal.get("differences"))]
    if others:
        yield Claim("That production's versions of these do the same", ", ".join(others))


def gaps(sources: Sources) -> Iterator[Claim]:
    """Yield what nobody looked at, or could not be had, whatever became of the checks."""
    account = sources.account.content if sources.account else {}
    if sources.rehearsal is None and text(account.get("where")).startswith(_LOCAL):
        yield Claim("That AWS does the same", "it was verified in a local cloud: docs/rehearsal.md")
    if sources.report is not None and sources.account is None:
        yield Claim("What is inside it, and how it differs from what is published", "the account was not asked")
    for words in texts(account.get("unknown")):
        yield Claim("Not known", words)
    for words in texts(mapping(account.get("diff")).get("unknown")):
        yield Claim("Not compared with what is published", words)
    if sources.report is not None:
        for words in texts(mapping(sources.report.content.get("facts")).get("notes")):
            yield Claim("Not collected on the machine", words)
        yield Claim("How it bears load, and months", "nothing here tried either")
    for words in sources.attested or ():
        yield Claim("That the kept report is the signed one", words)
