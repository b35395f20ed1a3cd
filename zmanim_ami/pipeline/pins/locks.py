"""The locks of Python packages, and whether every host that is promised can install them: for wheels only, by pip.

A lock has checksums and no names of files, so a table beside the locks says which wheels each pin has. It is made with
the locks, as uv finds them in the index, and read without a network.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Protocol

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, parse_tag

GATE, TASKS = "requirements-gate.txt", "requirements.txt"
# Each lock, and what uv resolves it from; all other options stand in pyproject.toml ([tool.uv.pip]).
LOCKS: Mapping[str, Sequence[str]] = {
    GATE: ("pyproject.toml", "--group", "all"),
    TASKS: ("pyproject.toml", "--group", "tasks"),
    "requirements-clients.txt": ("--group", "clients"),
    "requirements-mutation.txt": ("pyproject.toml", "--group", "mutation"),
    "requirements-report.txt": ("pyproject.toml", "--group", "report"),
    "zmanim_ami/toolchain/requirements-go.txt": ("--group", "go"),
}
# Of each pin, as NAME==VERSION, the tags of its wheels (PEP 425, as in their names) that fit one of HOSTS.
WHEELS = "requirements-wheels.json"
# The C library of Amazon Linux 2023, the oldest of the promised hosts': 2.34. pip takes the wheels of older ones, too.
_GLIBC = 34
_PIN = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\\n]+?))?(?: \\)?$", re.M
)

Table = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Pin:
    """A line of a lock: `key` is NAME==VERSION; without `marker` it is for every host."""

    key: str
    marker: Marker | None


@dataclass(frozen=True)
class Host:
    """What decides which wheels pip takes, on Linux."""

    machine: str  # as uname has it
    python: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.machine} with Python {self.python[0]}.{self.python[1]}"

    def tags(self) -> set[Tag]:
        """Return the tags of the wheels that pip takes there."""
        interpreter = f"cp{self.python[0]}{self.python[1]}"
        names = [f"manylinux_2_{minor}" for minor in range(_GLIBC, 4, -1)]
        platforms = [f"{name}_{self.machine}" for name in [*names, "manylinux2014", "manylinux2010", "manylinux1"]]
        return {
            *cpython_tags(self.python, [interpreter], platforms),
            *compatible_tags(self.python, interpreter, platforms),
        }

    def wants(self, pin: Pin) -> bool:
        """Say whether pip installs this line of a lock there."""
        version = ".".join(map(str, self.python))
        words = {"python_version": version, "python_full_version": f"{version}.0", "platform_machine": self.machine}
        linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
        cpython = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
        return pin.marker is None or pin.marker.evaluate({**words, **linux, **cpython})


HOSTS = tuple(Host(*each) for each in product(("x86_64", "aarch64"), ((3, 11), (3, 12), (3, 13))))


class Resolver(Protocol):
    """What resolves locks: zmanim_ami.pipeline.pins.look_ups has it."""

    def lock(self, root: Path, sources: Sequence[str], preferred: str) -> str:
        """Return the lock of these sources: in the versions of the lock `preferred`, else as new as can be."""

    def wheels(self, root: Path, lock: str) -> str:
        """Return the pylock.toml (PEP 751) of what a lock's text pins."""


def pins(lock: str) -> list[Pin]:
    """Return the lines of a lock's text."""
    return [
        Pin(f"{match['name']}=={match['version']}", Marker(match["marker"]) if match["marker"] else None)
        for match in _PIN.finditer(lock)
    ]


def table(pylocks: Iterable[str]) -> str:
    """Return the text of WHEELS for what these pylock.toml files hold."""
    fitting = set[Tag]().union(*(host.tags() for host in HOSTS))
    rows: dict[str, list[str]] = {}
    for package in (package for text in pylocks for package in tomllib.loads(text).get("packages", [])):
        names = [wheel["url"].rpartition("/")[2].removesuffix(".whl") for wheel in package.get("wheels", [])]
        tags = {"-".join(name.split("-")[-3:]) for name in names}
        rows[f"{package['name']}=={package['version']}"] = sorted(tag for tag in tags if parse_tag(tag) & fitting)
    return json.dumps(rows, indent=1, sort_keys=True) + "\n"


def gaps(locks: Mapping[str, str], wheels: Table) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with these locks (their texts by name), each with the file that it is in, in words.

    A pin that one of HOSTS has no wheel for, and a pin that the table does not know or knows in vain.
    """
    for name, text in locks.items():
        for pin in pins(text):
            if pin.key not in wheels:
                yield name, f"{pin.key} is not in {WHEELS}, which was made for other locks: ./inv lock"
                continue
            tags = set[Tag]().union(*(parse_tag(each) for each in wheels[pin.key]))
            without = [str(host) for host in HOSTS if host.wants(pin) and not tags & host.tags()]
            if without:
                yield name, f"{pin.key} has no wheel for {', '.join(without)}: do without it there, by a marker"
    known = {pin.key for text in locks.values() for pin in pins(text)}
    for key in sorted(wheels.keys() - known):
        yield WHEELS, f"{key} is in no lock: ./inv lock"


def resolve(root: Path, resolver: Resolver, *, newest: bool) -> dict[str, str]:
    """Return the text of each lock of the clone at `root`, and of WHEELS, by their names; nothing is written.

    Each lock keeps its versions unless the `newest` are wanted; the tasks' has the gate's, so that what the gate looks
    at is what runs. Raises what `resolver` raises.
    """
    texts: dict[str, str] = {}
    for name, sources in LOCKS.items():
        own = "" if newest else (root / name).read_text()
        texts[name] = resolver.lock(root, sources, texts[GATE] if name == TASKS else own)
    return texts | {WHEELS: table(resolver.wheels(root, text) for text in texts.values())}
