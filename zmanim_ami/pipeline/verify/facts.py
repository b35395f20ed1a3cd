"""What a report keeps of a verification instance beside its checks: nothing is decided by it, people read it.

The boot as systemd charts it, the stores' settings in force, how exposed each unit is, what was connected. Collected on
the instance (facts.sh) beside another one's reboot, and bounded there; what could not be had is said with its reason.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

# As facts.sh has it.
PARTS: Final = 3
_BOOT_IS_KNOWN = "/run/zmanim-facts/boot-is-known"
_SCRIPT = Path(__file__).with_name("facts.sh")
# The most that facts.sh lets through, and more than it ever prints.
_LARGEST = 1_000_000
_SLOWEST, _ROWS, _WORDS = 20, 300, 500
# Put before what is started on the instance next, for no chart is to have that in it. It waits for no longer than the
# boot may take: without facts an image is verified all the same.
WAIT: Final = f"n=0\nwhile [ ! -e {_BOOT_IS_KNOWN} ] && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.2; done\n"
_LOOPBACK = re.compile(r"(127\.[0-9.]+|\[::1\]|\[::ffff:127\.[0-9.]+\])(%\w+)?:\d+")
_SPAN = re.compile(r"([\d.]+)(min|ms|us|s|h|d)")
_SECONDS: Mapping[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
# What Redis's INFO says of how it was set up; the rest of it is what it did since.
_SAID = (
    *("maxmemory_human", "maxmemory_policy", "aof_enabled", "redis_mode", "role", "maxclients", "io_threads_active"),
    *("config_file", "executable"),
)
_MAY_OCCUR_AGAIN = {"save", "user", "include", "rename-command"}
_OTHERS_BUSINESS = {"requirepass", "masterauth", "masteruser", "user", "tls-key-file-pass"}

Row = Mapping[str, object]


def script(part: int) -> str:
    """Return the script that prints a part of the facts, 1 to PARTS; part 1 collects them."""
    return f"set -- {part}\n{_SCRIPT.read_text('utf-8')}"


def read(texts: Sequence[str]) -> dict[str, Any]:
    """Return the facts out of what the scripts of all parts printed, for the report. `notes` say what it lacks."""
    try:
        known, notes = _unpack(texts)
    except ValueError as error:
        return nothing(f"the instance's answer can't be read: {error}")
    made = nothing()
    for name, reader in _READERS.items():
        if name in known:
            try:
                made[name] = reader(known[name])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                notes.append(f"{name}: what was printed can't be read ({error!r})"[:_WORDS])
    own = set(known.get("own-units", "").splitlines())
    made["exposure"] = [{**row, "own": row["unit"] in own} for row in made["exposure"]]
    made["redis"] = [*_redis_says(known.get("redis-says", "")), *_redis_files(known.get("redis-files", ""))]
    return {**made, "notes": notes}


def nothing(why: str = "") -> dict[str, Any]:
    """Return the facts of an instance of which none are known, for that reason."""
    empty: dict[str, Any] = {name: "" if name in {"time", "chain", "chart"} else [] for name in _READERS}
    return {**empty, "redis": [], "notes": [why[:_WORDS]] if why else []}


def _unpack(texts: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return what is known by name, and the reasons for what is not. Raises ValueError."""
    answers = [dict(line.partition(" ")[::2] for line in text.splitlines()) for text in texts]
    if not answers or any("end" not in answer or "part" not in answer for answer in answers):
        raise ValueError("a part has no end")
    parts = answers[0].get("parts", "")
    if not parts.isdecimal() or not 1 <= int(parts) <= len(answers):
        raise ValueError(f"{parts!r} parts, and {len(answers)} were asked for")
    try:
        packed = base64.b64decode("".join(answer["part"] for answer in answers), validate=True)
        stream = zlib.decompressobj(wbits=31)
        plain = stream.decompress(packed, _LARGEST)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    if not stream.eof:
        raise ValueError("it is cut off, or longer than it may be")
    known: dict[str, str] = {}
    notes: list[str] = []
    while plain:
        header, _, plain = plain.partition(b"\n")
        name, state, size = header.decode("ascii").split(" ")
        text, plain = plain[: int(size)].decode("utf-8", "replace"), plain[int(size) + 1 :]
        if state == "known":
            known[name] = text
        else:
            notes.append(": ".join(filter(None, (name, state, text.strip())))[:_WORDS])
    return known, notes


def _span(text: str) -> float:
    return round(sum(float(number) * _SECONDS[unit] for number, unit in _SPAN.findall(text)), 3)


def _slowest(text: str) -> Sequence[Row]:
    rows = [line.strip().rpartition(" ")[::2] for line in text.splitlines() if line.strip()]
    return [{"unit": unit, "seconds": _span(span)} for span, unit in rows[:_SLOWEST]]


def _exposure(text: str) -> Sequence[Row]:
    rows = [
        {"unit": str(row["unit"])[:_WORDS], "exposure": float(row["exposure"]), "word": str(row["predicate"])[:_WORDS]}
        for row in json.loads(text)
    ]
    return sorted(rows, key=lambda row: (-float(str(row["exposure"])), str(row["unit"])))[:_ROWS]


def _settings(text: str) -> Sequence[Row]:
    return [
        {"name": str(row["name"]), "value": str(row["value"])[:_WORDS], "source": str(row["source"])}
        for row in json.loads(text)[:_ROWS]
    ]


def _redis_says(text: str) -> Iterator[Row]:
    said = dict(line.partition(":")[::2] for line in text.splitlines() if ":" in line)
    for name in _SAID:
        if name in said:
            yield {"name": name, "value": said[name].strip()[:_WORDS], "source": "INFO"}


def _redis_files(text: str) -> Sequence[Row]:
    """Return what Redis read at its start: of a setting that stands there twice the last value counts."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if not name or name.startswith("#") or name.lower() in _OTHERS_BUSINESS:
            continue
        kept = values.setdefault(name.lower(), [])
        kept[:] = [*(kept if name.lower() in _MAY_OCCUR_AGAIN else ()), value.strip()]
    rows = [{"name": name, "value": "; ".join(each)[:_WORDS], "source": "redis.conf"} for name, each in values.items()]
    return sorted(rows, key=lambda row: row["name"])[:_ROWS]


def _connections(text: str) -> Sequence[Row]:
    rows = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and not _LOOPBACK.fullmatch(words[3]):
            program = re.search(r'\(\("([^"]*)"', line)
            rows.append({"from": words[2], "to": words[3], "program": program[1] if program else ""})
    return rows[:_ROWS]


def _chart(text: str) -> str:
    if "<svg" not in text[:2000] or not text.rstrip().endswith("</svg>"):
        raise ValueError("it is no SVG")
    return text


# How each fact is read out of what its program printed, by its name in facts.sh and in the report.
_READERS: Mapping[str, Any] = {
    "time": lambda text: text.strip()[:_WORDS],
    "blame": _slowest,
    "chain": str.rstrip,
    "exposure": _exposure,
    "postgresql": _settings,
    "connections": _connections,
    "chart": _chart,
}
