"""systemd's own word on every unit that ships (DoD 4): verify on a staged root, calendars, exposure, known directives.

systemd-analyze's exit code alone says too little: it is 0 for a directive that systemd does not know, so any output is
a failure. The stage has this host's own units (sysinit.target and so on) beside ours, and every program that ours
start.
The image's systemd is 252; a host's may be newer and know more, so what 252 knows stands in systemd-252.txt.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.errors import HostLacks
from support.process import Completed, run
from zmanim_ami.gate.finding import Finding, Level, skipped
from zmanim_ami.pipeline.shipped.install import FILES, installed
from zmanim_ami.pipeline.shipped.unit_files import DIRECTORY, Unit, read, units

# The most exposure that `systemd-analyze security` may count, from 0 (none) to 10, by unit. Every other unit: DEFAULT.
DEFAULT = 2.5
EXPOSURE: Mapping[str, float] = {
    # Each a program that has to be root and to see more than its own: why stands in the unit.
    "zmanim-data-volume.service": 3.0,
    "zmanim-ready.service": 3.0,
    "backup-drill.service": 3.0,
    "backup-proof.service": 3.0,
}
# Values that are newer than the directive they are given to: what verify of a newer host would let pass.
_NEW_VALUES = (
    ("Type", r"notify-reload$", 253),
    ("PrivateTmp", r"disconnected$", 257),
    ("PrivateUsers", r"(self|identity|full)$", 257),
    ("ProtectControlGroups", r"(private|strict)$", 257),
    ("ProtectHostname", r"private", 258),
    ("RestartMode", r".*", 254),
)
# The drop-in of every zmanim-*.service, and what it may set. It is read after the unit, so nothing in it may be a list:
# those add up, and a deny list behind an allow list allows.
SANDBOX = FILES / "zmanim-sandbox.conf"
_SCALAR = re.compile(
    r"LockPersonality|MemoryDenyWriteExecute|NoNewPrivileges|Private\w+|ProcSubset|Protect\w+|RemoveIPC"
    r"|RestrictRealtime|RestrictSUIDSGID"
)
_KNOWN = Path(__file__).with_name("systemd-252.txt")
_COMMON = {"Service", "Socket", "Mount", "Swap"}
_HOST_UNITS = Path("/usr/lib/systemd/system")
_PROGRAM = re.compile(r"^Exec\w+=[-+!@:]*(/\S+)", re.MULTILINE)
_OVERALL = re.compile(r"Overall exposure level for (\S+): ([\d.]+)")


def check(tree: Path) -> Iterator[Finding]:
    """Yield what is wrong with the units of the tree, taken one by one (wiring.py takes them together)."""
    ours = units(tree)
    yield from _unknown(ours)
    yield from _sandbox(ours, read(tree, SANDBOX))
    try:
        with tempfile.TemporaryDirectory(prefix="units-") as directory:
            root = Path(directory)
            stage(tree, root)
            yield from _verify(tree, ours, root)
            yield from _exposure(ours, root)
        yield from _calendars(ours)
    except HostLacks as lacks:
        yield skipped(lacks, "systemd's own word on the units")


def stage(tree: Path, root: Path) -> None:
    """Lay out below `root` what `tree` installs, as in the image, and stubs of the other programs of its units."""
    if _HOST_UNITS.is_dir():
        shutil.copytree(_HOST_UNITS, root / "usr/lib/systemd/system", symlinks=True)
    for each in installed(tree):
        path = _below(root, each.destination)
        shutil.copyfile(tree / FILES / each.source, path)
        path.chmod(int(each.mode, 8))
    for unit in units(tree):
        for program in _PROGRAM.findall((tree / unit.path).read_text()):
            path = _below(root, program)
            path.touch()
            path.chmod(0o755)


def _below(root: Path, path: str) -> Path:
    below = root / path.lstrip("/")
    below.parent.mkdir(parents=True, exist_ok=True)
    return below


def _analyze(*arguments: str) -> Completed:
    # In French or German a finding would be the same finding, but not the same words.
    return run(["systemd-analyze", *arguments], env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, check=False)


def _verify(tree: Path, ours: list[Unit], root: Path) -> Iterator[Finding]:
    sources = {each.destination: str(FILES / each.source) for each in installed(tree)}
    output = _analyze(f"--root={root}", "verify", "--man=no", *_staged(ours, root))
    lines = [line.replace(str(root), "") for line in (output.stdout + output.stderr).splitlines() if line.strip()]
    for line in dict.fromkeys(lines):
        match = re.match(r"(/[^:]+):(\d+): (.*)", line)
        known_file = match and sources.get(match[1])
        yield Finding(known_file, int(match[2]), match[3]) if match and known_file else Finding("", 0, line)
    if output.returncode != 0 and not lines:
        yield Finding("", 0, f"systemd-analyze verify ended with exit code {output.returncode}")


def _staged(ours: list[Unit], root: Path) -> list[str]:
    return [f"{root}{DIRECTORY}/{unit.name}" for unit in ours]


def _exposure(ours: list[Unit], root: Path) -> Iterator[Finding]:
    services = [unit for unit in ours if unit.path.suffix == ".service"]
    output = _analyze(f"--root={root}", "security", "--offline=true", "--no-pager", *_staged(services, root))
    levels = {re.sub(r"@[^.]*\.", "@.", name): float(level) for name, level in _OVERALL.findall(output.stdout)}
    for unit in services:
        most, level = EXPOSURE.get(unit.name, DEFAULT), levels.get(unit.name)
        if level is None:
            yield Finding(str(unit.path), 0, f"systemd-analyze security says nothing of it: {output.stderr.strip()}")
        elif level > most:
            yield Finding(
                str(unit.path), 0, f"exposure {level} (systemd-analyze security), and at most {most} is allowed"
            )


def _calendars(ours: list[Unit]) -> Iterator[Finding]:
    for unit in ours:
        for each in unit.every("OnCalendar"):
            output = _analyze("calendar", each.value)
            if output.returncode != 0:
                yield Finding(str(unit.path), each.line, output.stderr.strip())
            elif not each.value.endswith("UTC") and not each.value.startswith("*:"):
                yield Finding(str(unit.path), each.line, "OnCalendar= without UTC: it moves with a machine's time zone")


def known() -> dict[str, set[str]]:
    """Return the directives that systemd 252 knows, by section."""
    sections: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in _KNOWN.read_text().splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            current.update(line.split())
    shared = sections.pop("shared")
    return {name: names | shared if name in _COMMON else names for name, names in sections.items()}


def _unknown(ours: list[Unit]) -> Iterator[Finding]:
    sections = known()
    for unit in ours:
        for each in unit.directives:
            if each.section.startswith("X-"):
                continue
            if each.name not in sections.get(each.section, set()):
                words = f"systemd 252 knows no {each.name}= in [{each.section}]"
                yield Finding(str(unit.path), each.line, words)
            for name, value, since in _NEW_VALUES:
                if each.name == name and re.match(value, each.value):
                    words = f"{name}={each.value} came with systemd {since}, the image has 252"
                    yield Finding(str(unit.path), each.line, words, Level.ERROR)


def _sandbox(ours: list[Unit], shared: Unit) -> Iterator[Finding]:
    for each in shared.directives:
        if each.section != "Service" or each.name not in known()["Service"] or not _SCALAR.fullmatch(each.name):
            words = (
                f"{each.name}= in [{each.section}] is not for all services: only a sandbox's settings of one value are"
            )
            yield Finding(str(SANDBOX), each.line, words)
    names = {each.name for each in shared.directives}
    for unit in ours:
        if unit.name.startswith("zmanim-") and unit.path.suffix == ".service":
            for each in unit.directives:
                if each.name in names:
                    yield Finding(str(unit.path), each.line, f"{each.name}= is set by {SANDBOX.name}, which wins")
