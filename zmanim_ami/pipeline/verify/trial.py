"""What is written on one machine, and has to be there after its next boot, on its volume's next machine, restored."""

from __future__ import annotations

import hashlib
from pathlib import Path

_SCRIPT = Path(__file__).with_name("trial.sh")
# As trial.sh has them.
_ROWS, _TTL_SECONDS = 1000, 86400
EXPECTED = f"{_ROWS} rows, a role with its right, a key that stays and one with its time to live"


def write(word: str) -> str:
    """Return the script that writes rows, a role and keys; `word`, of a-z, is in each, for they are this machine's."""
    return f"set -- write {word}\n{_SCRIPT.read_text('utf-8')}"


def read() -> str:
    """Return the script that prints what is there."""
    return f"set -- read\n{_SCRIPT.read_text('utf-8')}"


def differences(output: str, word: str) -> str:
    """Return in what the output of `read` is not what was written with `word`; empty when all of it is there."""
    found = dict(line.partition(" ")[::2] for line in output.splitlines())
    if "end" not in found:
        return f"no answer to its end: {output[-500:]!r}"
    digest = hashlib.md5(",".join(f"{word}{n}" for n in range(1, _ROWS + 1)).encode(), usedforsecurity=False)
    expected = {
        "rows": str(_ROWS),
        "digest": digest.hexdigest(),
        "right": "t",
        "lasting": word,
        "expiring": word,
    }
    wrong = [
        f"{name} is {found.get(name, '')!r}, not {value!r}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    ttl = found.get("ttl", "")
    if not ttl.isdecimal() or not 0 < int(ttl) <= _TTL_SECONDS:
        wrong.append(f"the time to live is {ttl!r}, not 1 to {_TTL_SECONDS} s")
    return "; ".join(wrong)
