"""What is asked of a running verification instance, and what each answer has to be."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.errors import Error
from zmanim_ami.pipeline.version import Version

_MADE = "made:"
SCRIPT = Path(__file__).with_name("inspect.sh")
# How the paths begin of what every instance has: its identity to systemd, and to whoever connects by SSH.
_OWN = ("/etc/machine-id", "/etc/ssh/ssh_host_")
# SSH and the API. DHCP's clients bind a port, too, in a network that gives addresses so.
_NEEDED_PORTS = frozenset({"tcp 22", "tcp 8080"})
_CLIENT_PORTS = frozenset({"udp 68", "udp 546"})
_LOOPBACK = re.compile(r"\w+ (127\.[0-9.]+|\[::1\]|\[::ffff:127\.[0-9.]+\])(%lo)?:\d+")
_VERSIONS = ("kernel", "os", "systemd", "postgresql", "redis", "restic")


@dataclass(frozen=True)
class Answers:
    """What the script found on the instance.

    `mapped` are the SHA-256 of the files in the API's main process, `manifest` is that of the release in the image,
    `health_status` an HTTP status as text ("000": no answer), `health` the JSON of /health ({} when it is none),
    `packages` the image's inventory of them: version-release.architecture by name, `booted` when this boot began and
    `made` when each file that tells machines apart was made, by its path (seconds since 1970); `listening` are the
    protocols, addresses and ports that something listens at, such as "tcp 0.0.0.0:22".
    """

    main_pid: int
    mapped: frozenset[str]
    manifest: Mapping[str, object]
    current: str
    baked: str
    health_status: str
    health: Mapping[str, object]
    versions: Mapping[str, str]
    packages: Mapping[str, str]
    booted: int
    made: Mapping[str, int]
    listening: frozenset[str]


@dataclass(frozen=True)
class Check:
    """One thing that has to hold for an image to be called verified."""

    name: str
    ok: bool
    expected: str
    found: str


def read_answers(text: str) -> Answers:
    """Return what the script printed.

    Raises `answers-unreadable`.
    """
    pairs = [line.strip().partition(" ")[::2] for line in text.splitlines() if line.strip()]
    values = dict(pairs)
    try:
        if "end" not in values:
            raise ValueError("the end is missing")
        return Answers(
            main_pid=int(values["main-pid"]),
            mapped=frozenset(value for name, value in pairs if name == "mapped"),
            manifest=_object(values["manifest"]),
            current=values["current"],
            baked=values["baked"],
            health_status=values["health-status"],
            health=_object(values["health"]),
            versions={name: values[name] for name in _VERSIONS if values.get(name)},
            packages=_packages(values["packages"]),
            booted=int(values["booted"]),
            listening=frozenset(value for name, value in pairs if name == "listening"),
            made={name.removeprefix(_MADE): int(value) for name, value in pairs if name.startswith(_MADE)},
        )
    except (KeyError, ValueError) as error:
        raise Error(
            "the instance's answers can't be read",
            code="answers-unreadable",
            expected="lines of a name and a value, down to `end`",
            found=f"{error!r} in:\n{text[-2000:]}",
        ) from error


def ready_checks(ready: Mapping[str, object], version: Version, environment: str) -> Iterator[Check]:
    """Yield what the instance's own ready line has to say."""
    yield _equal("ready: version", str(version), ready.get("version"))
    yield _equal("ready: environment", environment, ready.get("environment"))
    checks = ready.get("checks")
    for name, result in sorted(checks.items()) if isinstance(checks, Mapping) else []:
        good = isinstance(result, Mapping) and (result.get("ok") is True or result.get("required") is False)
        yield Check(f"ready: {name}", good, "ok, or not required", json.dumps(result))
    yield _equal("ready: ok", "true", json.dumps(ready.get("ok")))


def remarks(ready: Mapping[str, object]) -> Iterator[str]:
    """Yield what the instance says is wrong and yet not required, such as a failed unit of the base."""
    checks = ready.get("checks")
    for name, result in sorted(checks.items()) if isinstance(checks, Mapping) else []:
        if isinstance(result, Mapping) and result.get("ok") is not True and result.get("required") is False:
            yield f"{name}, which is not required: {result.get('detail')}"


def answer_checks(
    answers: Answers, ready: Mapping[str, object], version: Version, bundle_sha256: str | None
) -> Iterator[Check]:
    """Yield what the answers have to be.

    `bundle_sha256` is that of the binary in the bundle here, None when there is no bundle of this image.
    """
    sha256 = str(answers.manifest.get("sha256", ""))
    yield _equal("version in the image", str(version), answers.manifest.get("version"))
    yield _equal("release in use", answers.baked or "a release of the image", answers.current)
    yield Check("API runs", answers.main_pid > 0, "a main process of zmanim-api.service", f"PID {answers.main_pid}")
    yield Check(
        "running program",
        sha256 in answers.mapped,
        f"the main process is made of the image's binary ({sha256 or 'no sha256 in the manifest'})",
        ", ".join(sorted(answers.mapped)) or "no file",
    )
    yield _equal("ready: binary_sha256", sha256, ready.get("binary_sha256"))
    if bundle_sha256 is not None:
        yield _equal("bundle's binary", bundle_sha256, sha256)
    data = answers.health.get("data")
    health = data if isinstance(data, Mapping) else {}
    yield _equal("GET /health", "200", answers.health_status)
    yield _equal("/health: status", "ok", health.get("status"))
    yield _equal("/health: database", "ok", health.get("database"))
    yield from _own_checks(answers)
    yield _listening_check(answers)


def _listening_check(answers: Answers) -> Check:
    """Return whether nothing can be connected to from outside but SSH and the API."""
    reachable = {each for each in answers.listening if not _LOOPBACK.fullmatch(each)}
    ports = {f"{each.split()[0]} {each.rpartition(':')[2]}" for each in reachable}
    good = ports >= _NEEDED_PORTS and not ports - _NEEDED_PORTS - _CLIENT_PORTS
    expected = f"{', '.join(sorted(_NEEDED_PORTS))}, and no others from outside"
    return Check("listening", good, expected, ", ".join(sorted(reachable)) or "nothing")


def _own_checks(answers: Answers) -> Iterator[Check]:
    """Yield that the instance has made itself what tells it from others: no image may bring its builder's."""
    # A file's time is that of the kernel's last tick, and so may be the second before.
    oldest = answers.booted - 1
    for path, made in sorted(answers.made.items()):
        found = f"made {made}, booted {answers.booted} (seconds since 1970)"
        yield Check(f"its own {path}", made >= oldest, "made since this instance booted", found)
    missing = [needed for needed in _OWN if not any(path.startswith(needed) for path in answers.made)]
    yield _equal("its own identity", "all of it", f"no {', '.join(missing)}" if missing else "all of it")


def _equal(name: str, expected: str, found: object) -> Check:
    return Check(name, found == expected, expected, "(nothing)" if found is None else str(found))


def _packages(encoded: str) -> Mapping[str, str]:
    """Return what the script has made of the inventory. Raises ValueError."""
    try:
        packages = json.loads(gzip.decompress(base64.b64decode(encoded, validate=True)))
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"packages: {error}") from error
    if not isinstance(packages, dict) or not packages:
        raise ValueError("the inventory has no packages")
    return {str(name): str(version) for name, version in packages.items()}


def _object(encoded: str) -> Mapping[str, object]:
    try:
        value = json.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
