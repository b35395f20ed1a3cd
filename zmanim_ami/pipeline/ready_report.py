"""What an instance says of itself on its console, read in spite of what the kernel writes into it.

The lines are those of `zmanim_host/readiness.py`:

    zmanim-ready REPORT PART/PARTS TEXT CHECKSUM

REPORT is the CRC-32 of a report's JSON, of which TEXT is a part; CHECKSUM is that of the line's words before it. Each
part is there several times, so that what is cut in one copy is whole in another.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping

_LINE = re.compile(r"zmanim-ready (([0-9a-f]{8}) ([1-9][0-9]{0,3})/([1-9][0-9]{0,3}) ([ -~]+)) ([0-9a-f]{8})[ \r]*\n")


def ready_reports(console: str) -> list[Mapping[str, object]]:
    """Return every whole report in a console's text, the latest last: one for each time that the instance looked.

    One that is still being written, or lost a part in all of its copies, does not count.
    """
    parts: dict[tuple[str, int], dict[int, str]] = {}
    for words, report, number, count, text, checksum in _LINE.findall(console):
        if _crc32(words) == checksum:
            parts.setdefault((report, int(count)), {})[int(number)] = text
    whole = [
        (report, "".join(found[number] for number in sorted(found)))
        for (report, count), found in parts.items()
        if len(found) == count
    ]
    return [json.loads(text) for report, text in whole if _crc32(text) == report]


def _crc32(text: str) -> str:
    return f"{zlib.crc32(text.encode('ascii')):08x}"
