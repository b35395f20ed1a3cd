"""Which security advisories a newer release of the distribution has that an older one lacks: what moving to it mends.

Each release has a repository of its own, whose updateinfo names what was mended up to then. Which of the packages an
image has is not asked here: bump knows pins, and an image of the new release does not exist yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from support.errors import Error
from zmanim_ami.pipeline.advisories.updateinfo import SEVERITIES, Advisory, fetch, parse, severest_first, unreadable

_NEWEST = "/latest/"
# GitHub takes 65,536 characters for a pull request's text.
_MOST_ROWS = 150
_MOST_PACKAGES = 4


@dataclass(frozen=True)
class Fixes:
    """What the release `new` fixes against `old`, the severest first; `unknown` says why nobody can tell."""

    old: str
    new: str
    advisories: tuple[Advisory, ...]
    unknown: str = ""

    @property
    def text(self) -> str:
        """Them in one line."""
        if self.unknown:
            return f"which security advisories {self.new} fixes is not known: {self.unknown}"
        found = Counter(each.severity for each in self.advisories)
        counts = ", ".join(f"{found[severity]} {severity}" for severity in SEVERITIES if found[severity])
        return f"{self.new} fixes, against {self.old}, {counts or 'no security advisory more'}"


def between(mirror_list: str, old: str, new: str, get: Callable[[str], bytes] | None = None) -> Fixes:
    """Return what the release `new` fixes that `old` does not; never none where the metadata can't be had.

    `mirror_list` is the address of the newest release's list of mirrors, `get` reads an address.
    """
    try:
        before, after = (parse(fetch(_list_of(mirror_list, release), get)) for release in (old, new))
    except Error as error:
        if error.code != "advisories-unreadable":
            raise
        return Fixes(old, new, (), f"{error.summary}: {error.found}")
    known = {each.id for each in before}
    added = (each for each in after if each.id not in known)
    return Fixes(old, new, tuple(sorted(added, key=severest_first)))


def markdown(fixes: Fixes) -> str:
    """Return it as a part of a pull request's description."""
    line = f"{fixes.text[0].upper()}{fixes.text[1:]}."
    if not fixes.advisories:
        return f"{line}\n"
    rows = [f"| {each.id} | {each.severity} | {_packages(each)} |" for each in fixes.advisories[:_MOST_ROWS]]
    lines = [line, "", "| advisory | severity | packages |", "| --- | --- | --- |", *rows]
    if rest := len(fixes.advisories) - len(rows):
        lines += ["", f"{rest} more are not listed."]
    lines += ["", "Some may be of packages that the image lacks: once it is built, `image.diff` says which concern it."]
    return "\n".join(lines) + "\n"


def _list_of(mirror_list: str, release: str) -> str:
    if mirror_list.count(_NEWEST) != 1:
        raise unreadable(mirror_list, f"an address without {_NEWEST}, so that of {release} can't be told from it")
    return mirror_list.replace(_NEWEST, f"/{release}/")


def _packages(advisory: Advisory) -> str:
    names = sorted({f"{fix['name']} {fix['version']}-{fix['release']}" for fix in advisory.fixes})
    more = [f"{len(names) - _MOST_PACKAGES} more"] if len(names) > _MOST_PACKAGES else []
    return ", ".join([*names[:_MOST_PACKAGES], *more])
