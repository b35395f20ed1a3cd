"""systemd-analyze's word on every unit that ships, on a staged root: any output is a failure (DoD 4); and its sandbox.

The exit code of `verify` alone says too little: it is 0 for a directive that systemd does not know. The stage has this
host's own units (sysinit.target and so on) beside ours, and every program that ours start. Each service's exposure, as
`systemd-analyze security` counts it (0 to 10, less is better), has a limit.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from support.process import run

FILES = Path("infrastructure/packer/files")
SUFFIXES = {".service", ".timer", ".mount", ".target", ".path", ".socket"}
# The databases may have 4.5; they don't need it.
LIMIT = 2.5
# Each a program that has to be root and to see more than its own: why stands in the unit.
LIMITS = {"zmanim-data-volume.service": 3.0, "zmanim-ready.service": 3.0}
# Amazon Linux 2023 has systemd 252; this host's may be newer, and would say nothing.
NEWER_THAN_252 = {
    "DeferReactivation", "ExtensionDirectoriesPolicy", "ImportCredential", "MemoryPressureThresholdSec",
    "MemoryPressureWatch", "MemoryZSwapWriteback", "OpenFile", "PrivatePIDs", "RandomizedOffsetSec",
    "RestartMaxDelaySec", "RestartMode", "RestartSteps", "RootEphemeral", "SetLoginEnvironment",
    "SurviveFinalKillSignal", "WantsMountsFor",
}  # fmt: skip
_EXPOSURE = re.compile(r"Overall exposure level for \S+: ([0-9.]+)")
_DIRECTIVE = re.compile(r"^(\w+)=", re.MULTILINE)
_HOST_UNITS = Path("/usr/lib/systemd/system")
_PROGRAM = re.compile(r"^Exec\w+=[-+!@:]*(/\S+)", re.MULTILINE)


def units(tree: Path) -> list[Path]:
    """Return the unit files of the tree at `tree`."""
    return sorted(path for path in (tree / FILES).iterdir() if path.suffix in SUFFIXES)


def check(tree: Path) -> list[str]:
    """Return what systemd-analyze has to say, a line each; nothing when every unit is well.

    Raises HostLacks when there is no systemd-analyze on this host.
    """
    with tempfile.TemporaryDirectory(prefix="units-") as directory:
        root = Path(directory)
        stage(tree, root)
        staged = [str(root / "etc/systemd/system" / path.name) for path in units(tree)]
        # In French or German a finding would be the same finding, but not the same words.
        said = run(
            ["systemd-analyze", f"--root={root}", "verify", "--man=no", *staged],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            check=False,
        )
    lines = [line.replace(str(root), "") for line in (said.stdout + said.stderr).splitlines() if line.strip()]
    if said.returncode != 0 and not lines:
        lines = [f"systemd-analyze verify ended with exit code {said.returncode}"]
    return lines


def check_sandboxes(tree: Path) -> list[str]:
    """Return a line for every service that is exposed more than its limit allows.

    Raises HostLacks when there is no systemd-analyze on this host.
    """
    findings = []
    for unit in units(tree):
        if unit.suffix == ".service":
            found, limit = exposure(unit), LIMITS.get(unit.name, LIMIT)
            if found > limit:
                findings.append(f"{unit.name}: its exposure is {found}, and at most {limit} is allowed")
    return findings


def exposure(unit: Path) -> float:
    """Return how exposed a service is, from 0 (not at all) to 10."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = run(command, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, check=False)
    found = _EXPOSURE.search(said.stdout)
    # A file that it can't read has no line of the kind: as exposed as can be.
    return float(found[1]) if found else 10.0


def check_directives(tree: Path) -> list[str]:
    """Return a line for every directive that the image's systemd does not know yet."""
    findings = []
    for unit in units(tree):
        text = unit.read_text()
        unknown = sorted(set(_DIRECTIVE.findall(text)) & NEWER_THAN_252)
        unknown += ["Type=notify-reload"] if "Type=notify-reload" in text else []
        findings += [f"{unit.name}: {name} is newer than systemd 252" for name in unknown]
    return findings


def stage(tree: Path, root: Path) -> None:
    """Lay the units of `tree` and what they refer to out below `root`, as they lie in the image."""
    target = root / "etc/systemd/system"
    target.mkdir(parents=True)
    shutil.copytree(_HOST_UNITS, root / "usr/lib/systemd/system", symlinks=True)
    for unit in units(tree):
        shutil.copyfile(unit, target / unit.name)
        for program in _PROGRAM.findall(unit.read_text()):
            path = root / program.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)


def main() -> None:
    """Check the tree in the current directory; print the findings and exit with 1 when there is one."""
    findings = [*check(Path()), *check_directives(Path()), *check_sandboxes(Path())]
    print("\n".join(findings) if findings else f"{len(units(Path()))} units are well")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
