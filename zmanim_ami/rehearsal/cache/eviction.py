"""What goes from the user's cache when it holds too much: what was used least recently, and nothing that is in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support.cache import delete_leftovers, take_away
from support.progress import say
from zmanim_ami.rehearsal.cache import contents
from zmanim_ami.rehearsal.cache.contents import MB, Item
from zmanim_ami.toolchain import go_caches

# A file system's clock may be behind ours by some of its ticks.
_TICKS = 1.0


def plan(items: Sequence[Item], limit: int, since: float) -> list[Item]:
    """Return what has to go so that the rest has at most `limit` bytes, or only what stays anyway.

    That is what is held, what was used after `since` (seconds since 1970) and what does not go by itself. Of the others
    goes what was used least recently.
    """
    over, going = sum(each.bytes for each in items) - limit, []
    for each in sorted((each for each in items if not _stays(each, since)), key=lambda each: each.used):
        if over <= 0:
            break
        over -= each.bytes
        going.append(each)
    return going


def needed(items: Sequence[Item], since: float) -> int:
    """Return the bytes of what stays whatever the limit."""
    return sum(each.bytes for each in items if _stays(each, since))


def keep_within(cache: Path, limit: int, since: float, compiled: int = go_caches.BUILD_BYTES) -> None:
    """Delete from `cache` what is too much for `limit` bytes; nothing that was used after `since`, and nothing in use.

    And what was cut short: an earlier deletion, or a build that nobody goes on with. What Go has compiled has at most
    `compiled` bytes then. A limit that is less than what stays anyway is said.
    """
    for folder in contents.folders(cache):
        delete_leftovers(folder)
    go_caches.bound(cache, compiled)
    found = contents.items(cache)
    least = needed(found, since)
    if least > limit:
        say(
            f"the cache may hold {limit / MB:.0f} MB (setting cache_mb), and what a run like this one needs of it has "
            f"{least / MB:.0f} MB: that stays, and all else goes"
        )
    # Again after each round: the names of a file are in several things, and it goes with the last of them.
    while sum(map(_take_away, plan(found, limit, since))):
        found = contents.items(cache)


def _stays(item: Item, since: float) -> bool:
    return item.held or not item.kind.goes or item.used >= since - _TICKS


def _take_away(item: Item) -> bool:
    gone = take_away(item.path)  # not where somebody has begun to use it
    if gone:
        say(f"deleted from the cache: {item.path.name} ({item.kind.name}, {item.bytes / MB:.0f} MB)")
    return gone
