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

_CONTAINER = (
    'docker run --rm --platform linux/arm64 -v "$PWD:/src:ro" amazonlinux:2023 bash -c '
    "'dnf -yq install python3.11 util-linux && mkdir /zmanim && cp -r /src/* /zmanim && "
    "cd /zmanim && ./inv resolve-packages'"
)
_CORE, _INSTALLED = "amazonlinux", "installed already"
_PGDG = "pgdg"
# As install-packages.sh writes into the core's definition: both repositories have packages of these names.
_EXCLUDED = "--setopt=amazonlinux.excludepkgs=postgresql*"
_FORMAT = "%{name} %{version} %{release} %{arch} %{reponame}\n"


@dataclass(frozen=True)
class Wanted:
    """A package that the build installs; `minimum` is empty for one that is only there while compiling."""

    name: str
    repository: str
    minimum: str


@dataclass(frozen=True)
class Row:
    """What became of one: `found` is version-release and architecture, `repository` where it is found."""

    name: str
    repository: str
    minimum: str
    found: str
    ok: bool
    problem: str


def require_amazon_linux(system: str) -> None:
    """Raise `not-amazon-linux` unless the text of /etc/os-release is that of Amazon Linux 2023."""
    told = dict(line.split("=", 1) for line in system.splitlines() if "=" in line)
    name, version = (told.get(key, "").strip("\"'") for key in ("ID", "VERSION_ID"))
    if (name, version) != ("amzn", "2023"):
        raise HostLacks(
            "only Amazon Linux 2023 can say what its repositories have",
            code="not-amazon-linux",
            expected="ID=amzn and VERSION_ID=2023 in /etc/os-release",
            found=f"ID={name or 'none'}, VERSION_ID={version or 'none'}",
            fix=f"in a container: {_CONTAINER}\n            or the same on an instance of the pinned release",
        )


def wanted(pins: Mapping[str, Any], route: str) -> list[Wanted]:
    """Return every package that a build by `route` asks dnf for, of the versions file's content."""
    groups = ("packages", *(["pgdg_packages"] if route == _PGDG else []), "build_packages")
    packages = [item for group in groups for item in pins[group].items()]
    return [
        Wanted(name, each["repository"], each.get("minimum", ""))
        for name, each in packages
        if each.get("route", route) == route
    ]


def os_release(path: Path = Path("/etc/os-release")) -> str:
    """Return the text that says which system this is; empty where there is no such file."""
    return path.read_text() if path.exists() else ""


def dnf(command: Sequence[str]) -> Completed:
    """Run a command here, its words in English."""
    return run(command, env={**os.environ, "LC_ALL": "C"}, check=False)


def resolve(root: Path, system: str, *, route: str = _CORE, runner: Runner = dnf) -> list[Row]:
    """Ask dnf for every package alone and for all in one transaction; only what brings a repository is installed.

    `system` is the text of /etc/os-release, `route` the setting postgresql_repo.

    Raises `not-amazon-linux`, `dnf-failed`, `repository-not-pinned`. What is missing is in the rows: `check` makes a
    fault of it.
    """
    require_amazon_linux(system)
    pins = versions.read(root)
    release, packages = pins["base"]["release"], wanted(pins, route)
    say(f"route {route}, release {release}, {len(packages)} packages")
    with step("add the route's repository"):
        if route == _PGDG:
            _add_pgdg(pins["artifacts"]["pgdg_repo"], release, runner)
        else:
            _add_spal(release, packages, runner)
    locked = [f"--releasever={release}", *([_EXCLUDED] if route == _PGDG else [])]
    names = [each.name for each in packages]
    with step("ask for each package"):
        offered = _query(locked, ["--latest-limit=1"], names, runner)
        # What the machine image brings is there already; the stand-in of a rehearsal offers it in no repository.
        present = _query(locked, ["--installed"], [name for name in names if name not in offered], runner)
    rows = [_row(each, offered, present) for each in packages]
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
            fix="correct infrastructure/packer/versions.json (release, repository, minimum)",
        )


def _add_pgdg(artifact: Mapping[str, str], release: str, runner: Runner) -> None:
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "pgdg-repo.rpm"
        limits = ["--fail", "--silent", "--show-error", "--location", "--max-time", "60", "--max-filesize", "10000000"]
        fetched = runner(["curl", *limits, "--output", str(package), artifact["url"]])
        found = file_sha256(package) if fetched.returncode == 0 else _tail(fetched)
        if found != artifact["sha256"]:
            raise Error(
                "PGDG's repository package is not what was pinned",
                code="repository-not-pinned",
                expected=f"sha256 {artifact['sha256']} of {artifact['url']}",
                found=found,
                fix="compare it with what PGDG signs, then write its checksum into versions.json",
            )
        done = runner(["dnf", "--assumeyes", "--quiet", f"--releasever={release}", "install", str(package)])
    if done.returncode != 0:
        say(f"PGDG's repository package can't be installed, so its packages won't be found:\n{_tail(done)}")


def _add_spal(release: str, packages: Sequence[Wanted], runner: Runner) -> None:
    # As install-packages.sh: first and alone, for it brings the repository that others come from.
    if any(each.name == "spal-release" for each in packages):
        done = runner(["dnf", "--assumeyes", "--quiet", f"--releasever={release}", "install", "spal-release"])
        if done.returncode != 0:
            say(f"spal-release can't be installed, so what is in its repository won't be found:\n{_tail(done)}")


def _query(
    locked: Sequence[str], options: Sequence[str], names: Sequence[str], runner: Runner
) -> Mapping[str, tuple[str, str, str]]:
    """Return (version, version-release.architecture, repository) of each package that dnf knows, by its name."""
    if not names:
        return {}
    command = ["dnf", "--quiet", *locked, "repoquery", *options, f"--queryformat={_FORMAT}", *names]
    done = runner(command)
    if done.returncode != 0:
        raise Error(
            "dnf repoquery failed",
            code="dnf-failed",
            expected="exit code 0",
            found=f"exit code {done.returncode} from {shlex.join(command)}\n{_tail(done)}",
            fix="can this machine reach Amazon Linux's repositories?",
        )
    found: dict[str, tuple[str, str, str]] = {}
    for line in filter(None, map(str.strip, done.stdout.splitlines())):
        name, version, build, architecture, repository = line.split()
        if name not in found or version_key(version) > version_key(found[name][0]):
            found[name] = (version, f"{version}-{build}.{architecture}", repository)
    return found


def _row(
    package: Wanted, offered: Mapping[str, tuple[str, str, str]], present: Mapping[str, tuple[str, str, str]]
) -> Row:
    version, found, repository = offered.get(package.name) or present.get(package.name) or ("", "", "")
    problem = ""
    if not found:
        problem = f"dnf knows no such package (wanted from {package.repository})"
    elif package.name in offered and repository != package.repository:
        problem = f"it is in {repository}, not in {package.repository}"
    elif version_key(version) < version_key(package.minimum):
        problem = f"older than {package.minimum}"
    shown = repository if package.name in offered else _INSTALLED if found else package.repository
    return Row(package.name, shown, package.minimum, found, not problem, problem)


def _transaction(locked: Sequence[str], names: Sequence[str], runner: Runner) -> str:
    """Return what dnf says against installing all of them at once, or nothing."""
    # --assumeno ends with 1 whether dnf would or could not: its words tell.
    options = ["--assumeno", *locked, "--setopt=install_weak_deps=False"]
    done = runner(["dnf", *options, "install", *names])
    said = done.stdout + done.stderr
    if "Operation aborted." in said or (done.returncode == 0 and "Nothing to do." in said):
        return ""
    return _tail(done)


def _tail(done: Completed) -> str:
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-12:]) or "    (nothing)"
