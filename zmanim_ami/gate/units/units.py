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
from zmanim_ami.gate.finding import Finding, Level, not_looked
from zmanim_ami.pipeline.shipped.install import FILES, installed
from zmanim_ami.pipeline.shipped.unit_files import Unit, units

# The most exposure that `systemd-analyze security` may count, from 0 (none) to 10, by unit. Every other unit: DEFAULT.
DEFAULT = 2.5
EXPOSURE: Mapping[str, float] = {
    # Each a program that has to be root and to see more than its own: why stands in the unit.
    "zmanim-data-volume.service": 3.0,
    "zmanim-ready.service": 3.0,
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
_KNOWN = Path(__file__).with_name("systemd-252.txt")
_COMMON = {"Service", "Socket", "Mount", "Swap"}
_HOST_UNITS = Path("/usr/lib/systemd/system")
_PROGRAM = re.compile(r"^Exec\w+=[-+!@:]*(/\S+)", re.MULTILINE)
_OVERALL = re.compile(r"Overall exposure level for (\S+): ([\d.]+)")


def check(tree: Path) -> list[Finding]:
    """Return what is wrong with the units of the tree, taken one by one (wiring.py takes them together)."""
    ours = units(tree)
    found = [*_unknown(ours)]
    try:
        with tempfile.TemporaryDirectory(prefix="units-") as directory:
            root = Path(directory)
            stage(tree, root)
            found += _verify(ours, root)
            found += _exposure(ours, root)
        found += _calendars(ours)
    except HostLacks as lacks:
        found.append(not_looked(lacks, "systemd's own word on the units"))
    return found


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


def _verify(ours: list[Unit], root: Path) -> Iterator[Finding]:
    staged = [str(root / "etc/systemd/system" / unit.name) for unit in ours]
    said = _analyze(f"--root={root}", "verify", "--man=no", *staged)
    lines = [line.replace(str(root), "") for line in (said.stdout + said.stderr).splitlines() if line.strip()]
    for line in lines:
        match = re.match(r"/etc/systemd/system/([^:]+):(\d+): (.*)", line)
        unit = next((unit for unit in ours if match and unit.name == match[1]), None)
        yield Finding(str(unit.path), int(match[2]), match[3]) if unit and match else Finding("", 0, line)
    if said.returncode != 0 and not lines:
        yield Finding("", 0, f"systemd-analyze verify ended with exit code {said.returncode}")


def _exposure(ours: list[Unit], root: Path) -> Iterator[Finding]:
    services = [unit for unit in ours if unit.path.suffix == ".service"]
    staged = [str(root / "etc/systemd/system" / unit.name) for unit in services]
    said = _analyze(f"--root={root}", "security", "--offline=true", "--no-pager", *staged)
    levels = {re.sub(r"@[^.]*\.", "@.", name): float(level) for name, level in _OVERALL.findall(said.stdout)}
    for unit in services:
        most, level = EXPOSURE.get(unit.name, DEFAULT), levels.get(unit.name)
        if level is None:
            yield Finding(str(unit.path), 0, f"systemd-analyze security says nothing of it: {said.stderr.strip()}")
        elif level > most:
            words = (
                f"exposure {level}, and at most {most} is allowed: systemd-analyze security --offline=true {unit.path}"
            )
            yield Finding(str(unit.path), 0, words)


def _calendars(ours: list[Unit]) -> Iterator[Finding]:
    for unit in ours:
        for each in unit.every("OnCalendar"):
            said = _analyze("calendar", each.value)
            if said.returncode != 0:
                yield Finding(str(unit.path), each.line, said.stderr.strip())
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
