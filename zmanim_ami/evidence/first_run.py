"""README's words on a first run: what it prints and how long that takes, from the results of two rehearsals."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.errors import BadInput
from support.files import write_atomically

PAGE = Path("README.md")
BEGIN, END = "<!-- first run -->", "<!-- end of the first run -->"
_GIB = 2**30


def write(root: Path, first: Path, following: Path) -> Path:
    """Write into README what the rehearsal `first`, with nothing cached, and the one after it said; return the page.

    Both are files result.json, and their rehearsals were run on this machine. Raises `no-rehearsal`.
    """
    page = root / PAGE
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = block(_read(first), _read(following), machine(), datetime.now(UTC))
    write_atomically(page, f"{before}{BEGIN}\n{text}{END}{after}")
    return page


def block(first: Mapping[str, Any], following: Mapping[str, Any], where: str, now: datetime) -> str:
    """Return the text between the marks: what the first one ended in, and the seconds of both, step by step."""
    seconds = [{step["name"]: float(step["seconds"]) for step in each["steps"]} for each in (first, following)]
    rows = [f"| {name} | {taken:.0f} | {seconds[1].get(name, 0):.0f} |" for name, taken in seconds[0].items()]
    sums = [sum(each.values()) for each in seconds]
    published = [f"{name} = {value}" for name, value in sorted((first["published"] or {}).items())]
    boot = (first["boot"] or {}).get("healthy_seconds", 0)
    return "\n".join(
        [
            "```text",
            f"AMI               {first['ami_id']}, from {first['source_ami']}",
            f"instance of it    healthy {boot:.1f} s after its launch",
            *(f"published         {each}" for each in published),
            f"in all            {sums[0]:.0f} s",
            "```",
            "",
            f"Seconds on {where}, measured {now:%Y-%m-%d}:",
            "",
            "| step | the first time | the next |",
            "| --- | --- | --- |",
            *rows,
            f"| in all | {sums[0]:.0f} | {sums[1]:.0f} |",
            "",
        ]
    )


def machine() -> str:
    """Return what this machine is: processors, memory, system."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE)
    kind = f" ({model[1].strip()})" if model else ""
    return f"{os.cpu_count()} processors{kind}, {memory:.0f} GiB, {system[1] if system else 'an unknown system'}"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        content, found = {}, str(error)
    else:
        found = f"one that failed: {content.get('error', '')}"
    if not content.get("ok"):
        raise BadInput(
            f"{path} is no result of a rehearsal that came to its end",
            code="no-rehearsal",
            expected="the build/rehearsal/result.json of one",
            found=found,
            fix="./inv rehearse --version v0.1.0, and keep a copy of that file before the next one",
        )
    return content
