"""resolve-packages: whether dnf finds every package of a route, at the pinned release, new enough.

Only Amazon Linux 2023 itself can tell, so this runs inside one: a container or an instance. It asks dnf as the build's
scripts do. One package brings a further repository (spal-release, or PGDG's own), so that one gets installed.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.digest import file_sha256
from support.errors import Error, HostLacks
from support.process import Completed, run
from support.progress import say, step
from support.version_order import version_key
from zmanim_ami.pipeline.pins import versions

Runner = Callable[[Sequence[str]], Completed]
# Of each package that dnf knows, by its name: version, version-release.architecture, repository.
Known = Mapping[str, tuple[str, str, str]]

_CONTAINER = (
    'docker run --rm --platform linux/arm64 -v "$PWD:/src:ro" amazonlinux:2023 bash -c '
    "'dnf -yq install python3.11 util-linux && mkdir /zmanim && cp -r /src/* /zmanim && "
    "cd /zmanim && ./inv resolve-packages'"
)
_PGDG = "pgdg"
_SPAL = "amazonlinux-spal"


@dataclass(frozen=True)
class Row:
    """What dnf says of one package: `found` is version-release.architecture, `repository` where it is found."""

    name: str
    repository: str
    minimum: str
    found: str
    ok: bool
    problem: str


def require_amazon_linux(system: str) -> None:
    """Raise `not-amazon-linux` unless the text of /etc/os-release is that of Amazon Linux 2023."""
    lines = system.splitlines()
    if not {'ID="amzn"', 'VERSION_ID="2023"'} <= set(lines):
        raise HostLacks(
            "only Amazon Linux 2023 can say what its repositories have",
            code="not-amazon-linux",
            expected='ID="amzn" and VERSION_ID="2023" in /etc/os-release',
            found=", ".join(line for line in lines if line.startswith(("ID=", "VERSION_ID="))) or "neither",
            fix=f"in a container: {_CONTAINER}\n            or the same on an instance of the pinned release",
        )


def wanted(pins: Mapping[str, Any], route: str) -> dict[str, dict[str, str]]:
    """Return the pin of every package that a build by `route` asks dnf for, by its name."""
    groups = ("packages", *(["pgdg_packages"] if route == _PGDG else []), "build_packages")
    return {name: pin for group in groups for name, pin in pins[group].items() if pin.get("route", route) == route}


def dnf(command: Sequence[str]) -> Completed:
    """Run a command here, its messages in English."""
    return run(command, env={**os.environ, "LC_ALL": "C"}, check=False)


def resolve(root: Path, system: str, *, route: str = "amazonlinux", runner: Runner = dnf) -> list[Row]:
    """Ask dnf for every package alone and for all in one transaction; only what brings a repository is installed.

    `system` is the text of /etc/os-release, `route` the setting postgresql_repo.

    Raises `not-amazon-linux`, `dnf-failed`, `repository-not-pinned`. What is missing is in the rows: `check` raises for
    it.
    """
    require_amazon_linux(system)
    pins = versions.read(root)
    packages = wanted(pins, route)
    locked = [f"--releasever={pins['base']['release']}"]
    say(f"route {route}, release {pins['base']['release']}, {len(packages)} packages")
    with step("add the route's repository"):
        if route == _PGDG:
            _add_pgdg(pins["artifacts"]["pgdg_repo"], locked, runner)
            # As install-packages.sh writes into the core's definition: both repositories have packages of these names.
            locked.append("--setopt=amazonlinux.excludepkgs=postgresql*")
        elif "spal-release" in packages:
            # As install-packages.sh: first and alone, for it brings the repository that others come from.
            _add_repository("spal-release", locked, runner)
    with step("ask for each package"):
        offered = _query(locked, ["--latest-limit=1"], list(packages), runner)
        # What the machine image brings is there already; the stand-in of a rehearsal offers it in no repository.
        present = _query(locked, ["--installed"], [name for name in packages if name not in offered], runner)
    rows = [_row(name, pin, offered, present) for name, pin in packages.items()]
    with step("resolve all of them together"):
        problem = _transaction(locked, [row.name for row in rows if row.found], runner)
    return [*rows, Row("(all in one transaction)", "", "", "" if problem else "resolves", not problem, problem)]


def check(rows: Sequence[Row]) -> None:
    """Raise `not-resolved` when a row is not ok."""
    bad = [row for row in rows if not row.ok]
    if bad:
        raise Error(
            f"{len(bad)} of {len(rows)} do not resolve",
            code="not-resolved",
            expected="every package of versions.json, at its minimum or newer, in its repository",
            found="; ".join(f"{row.name}: {row.problem}" for row in bad),
            fix="; ".join(dict.fromkeys(_way_out(row) for row in bad)),
        )


def _way_out(row: Row) -> str:
    if not row.found and row.repository.startswith(_PGDG):
        return (
            f"{row.name}: PGDG does not publish all that it has for Amazon Linux 2023; the setting "
            "postgresql_repo=amazonlinux takes PostGIS from Amazon's supplementary packages"
        )
    if not row.found and row.repository == _SPAL:
        return f"{row.name}: is base.release 2023.9 or newer, from which on spal-release brings {_SPAL}?"
    return f"{row.name}: correct infrastructure/packer/versions.json (release, name, repository, minimum)"


def _add_pgdg(artifact: Mapping[str, str], locked: Sequence[str], runner: Runner) -> None:
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "pgdg-repo.rpm"
        limits = ["--fail", "--silent", "--show-error", "--location", "--max-time", "60", "--max-filesize", "10000000"]
        fetched = runner(["curl", *limits, "--output", str(package), artifact["url"]])
        received = file_sha256(package) if fetched.returncode == 0 else _tail(fetched)
        if received != artifact["sha256"]:
            raise Error(
                "PGDG's repository package is not what was pinned",
                code="repository-not-pinned",
                expected=f"sha256 {artifact['sha256']} of {artifact['url']}",
                found=received,
                fix="compare it with what PGDG signs, then write its checksum into versions.json",
            )
        _add_repository(str(package), locked, runner)


def _add_repository(package: str, locked: Sequence[str], runner: Runner) -> None:
    done = runner(["dnf", "--assumeyes", "--quiet", *locked, "install", package])
    if done.returncode != 0:
        say(f"{package} can't be installed, so what is in its repository won't be found:\n{_tail(done)}")


def _query(locked: Sequence[str], options: Sequence[str], names: Sequence[str], runner: Runner) -> Known:
    if not names:
        return {}
    command = [
        "dnf",
        "--quiet",
        *locked,
        "repoquery",
        *options,
        "--queryformat=%{name} %{version} %{release} %{arch} %{reponame}\n",
        *names,
    ]
    done = runner(command)
    if done.returncode != 0:
        raise Error(
            "dnf repoquery failed",
            code="dnf-failed",
            expected="exit code 0",
            found=f"exit code {done.returncode} from {shlex.join(command)}\n{_tail(done)}",
            fix="can this machine reach Amazon Linux's repositories?",
        )
    packages = [line.split() for line in done.stdout.splitlines() if line.strip()]
    # Of several versions the newest, which comes last.
    packages.sort(key=lambda package: version_key(package[1]))
    return {
        name: (version, f"{version}-{release}.{architecture}", repository)
        for name, version, release, architecture, repository in packages
    }


def _row(name: str, pin: Mapping[str, str], offered: Known, present: Known) -> Row:
    version, build, repository = offered.get(name) or present.get(name) or ("", "", pin["repository"])
    minimum = pin.get("minimum", "")
    problem = ""
    if not build:
        problem = f"dnf knows no such package (wanted from {pin['repository']})"
    elif name in offered and repository != pin["repository"]:
        problem = f"it is in {repository}, not in {pin['repository']}"
    elif version_key(version) < version_key(minimum):
        problem = f"older than {minimum}"
    return Row(name, "installed already" if name in present else repository, minimum, build, not problem, problem)


def _transaction(locked: Sequence[str], names: Sequence[str], runner: Runner) -> str:
    """Return what dnf says against installing all of them at once, or nothing."""
    # --assumeno ends with 1 whether dnf would or could not: its output tells.
    done = runner(["dnf", "--assumeno", *locked, "--setopt=install_weak_deps=False", "install", *names])
    output = done.stdout + done.stderr
    resolved = "Operation aborted." in output or (done.returncode == 0 and "Nothing to do." in output)
    return "" if resolved else _tail(done)


def _tail(done: Completed) -> str:
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-12:]) or "    (nothing)"
