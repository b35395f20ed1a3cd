"""What Go's vulnerability database knows of the modules that a program of ours is made of, as govulncheck answers it.

It is asked by module and version, as an image's inventory has them, for the program is not kept beside it. Whether the
vulnerable part of a module is called nobody looks at: that names more than need be, and never less. The database rates
nothing, so each is of unknown severity. Nobody who can't be asked has said that nothing is wrong.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.errors import Error
from support.process import CommandFailed, run
from support.progress import say
from support.version_order import version_key
from zmanim_ami.pipeline.advisories.findings import Findings, Inventory, Open
from zmanim_ami.pipeline.advisories.updateinfo import severest_first

DATABASE = "https://vuln.go.dev"
UNREACHABLE = "the Go vulnerability database could not be reached"
_UNKNOWN = "go-vulnerabilities-unknown"
_SECONDS = 60
# Keys of ours are none of its business; without a HOME it keeps no counters of its use.
_ENVIRONMENT = ("PATH", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
_VERSION = re.compile(r"(v|go)\d+\.\d+(\.\d+)?([-+.][0-9A-Za-z.+-]+)?")

# Gives govulncheck's answer about modules, each as MODULE@VERSION. Raises `go-vulnerabilities-unknown`.
Ask = Callable[[Sequence[str]], str]


def govulncheck(program: Callable[[], Path], database: str = DATABASE) -> Ask:
    """Return how govulncheck is asked; `program` gives its path, and `database` is an https or file address."""

    def ask(modules: Sequence[str]) -> str:
        try:
            # By module alone: a mode that its help leaves out. That the pinned version has it, a test sees.
            command = [str(program()), "-mode=query", "-json", f"-db={database}", *modules]
        except Error as error:
            raise _unknown("govulncheck can't be had", str(error)) from error
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            return run(command, cwd=Path("/"), env=environment, timeout=_SECONDS).stdout
        except CommandFailed as error:
            raise _unknown(UNREACHABLE, error.output) from error
        except subprocess.TimeoutExpired as error:
            raise _unknown(UNREACHABLE, f"no answer in {_SECONDS} seconds") from error

    return ask


def add(found: Findings, inventory: Inventory, name: str, ask: Ask) -> Findings:
    """Return `found` with what is open for the program `name` of an image; where nobody can tell, it is not covered."""
    programs = [info for path, info in inventory["go"].items() if path.endswith(f"/{name}")]
    others = tuple(row for row in found.not_covered if not row.startswith(f"{name} ("))
    try:
        opened = [each for info in programs for each in _look(info, ask)]
    except Error as error:
        if error.code != _UNKNOWN:
            raise
        say(f"{name} is not covered: {error}")
        return replace(found, not_covered=(*others, f"{name} ({error.summary})"))
    if not programs:
        return found
    return Findings(tuple(sorted((*found.open, *opened), key=severest_first)), others)


def _look(info: Mapping[str, Any], ask: Ask) -> Iterator[Open]:
    # The standard library is a module of Go's own version; what experiments that was built with follows a space.
    versions = {**info["modules"], "stdlib": info["go"].partition(" ")[0]}
    if odd := [f"{module} {version}" for module, version in versions.items() if not _VERSION.fullmatch(version)]:
        raise _unknown("a module without a version that the Go vulnerability database knows", ", ".join(odd))
    answer = ask([f"{module}@{version}" for module, version in sorted(versions.items())])
    try:
        messages = list(_messages(answer))
        if not any("config" in each for each in messages):
            raise ValueError("it does not say what it was asked")
        for entry in (each["osv"] for each in messages if "osv" in each):
            if lacking := tuple(sorted(set(_lacking(entry, versions)))):
                yield Open(str(entry["id"]), "unknown", lacking)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unknown("govulncheck's answer can't be read", repr(error)) from error


def _messages(answer: str) -> Iterator[Mapping[str, Any]]:
    decoder, rest = json.JSONDecoder(), answer.strip()
    while rest:
        message, end = decoder.raw_decode(rest)
        yield message
        rest = rest[end:].lstrip()


def _lacking(entry: Mapping[str, Any], versions: Mapping[str, str]) -> Iterator[str]:
    for affected in entry["affected"]:
        module = affected["package"]["name"]
        if module in versions:
            version = versions[module]
            prefix = "go" if version.startswith("go") else "v"
            for fixed in _fixes(affected.get("ranges", []), version):
                yield f"{module} {version} {f'< {prefix}{fixed}' if fixed else '(no fixed version)'}"


def _fixes(ranges: Sequence[Mapping[str, Any]], version: str) -> Iterator[str]:
    """Yield the version that mends this one, or nothing for none, of each range that has it."""
    for each in ranges:
        inside = False
        for event in each["events"]:
            if "introduced" in event:
                # `1.26.0-0` is before whatever else is called 1.26.0.
                inside = version_key(version) >= version_key(event["introduced"].removesuffix("-0"))
            elif inside and version_key(version) < version_key(event["fixed"]):
                yield event["fixed"]
                break
            else:
                inside = False
        else:
            if inside:
                yield ""


def _unknown(summary: str, found: str) -> Error:
    return Error(summary, code=_UNKNOWN, expected=f"govulncheck's answer from {DATABASE}", found=found.strip()[-500:])
