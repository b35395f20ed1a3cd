"""Whether this machine serves, in one JSON object: on the console, and in /run/zmanim/ready.json.

Required checks decide; wanted ones (required: false) are only told.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zmanim_host.aws.imds import connect, instance_tag
from zmanim_host.host import RUN, ErrorNotes, HostError, log, run, write_whole
from zmanim_host.postgres import psql
from zmanim_host.release.adopt import API
from zmanim_host.release.running import binary_sha256, check_release
from zmanim_host.storage import redis_files

HEALTH = "http://127.0.0.1:8080/health"
PRESET = Path("/usr/lib/systemd/system-preset/00-zmanim.preset")
REPORT = RUN / "ready.json"
# The launch's tag that says what a machine does that is not ready.
ON_FAILURE_TAG = "zmanim:on-failure"
POWER_OFF = "poweroff"


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    ok: bool
    required: bool = True
    detail: str = ""


def report(
    checks: Mapping[str, Check],
    *,
    version: str,
    environment: str,
    binary_sha256: str,
    seconds: float,
    health: Any,
) -> dict[str, Any]:
    """Return what is said: ok only when every required check passed."""
    return {
        "ok": all(check.ok for check in checks.values() if check.required),
        "version": version,
        "environment": environment,
        "binary_sha256": binary_sha256,
        "seconds": round(seconds, 1),
        "checks": {name: asdict(check) for name, check in checks.items()},
        "health": health,
    }


def console_line(told: Mapping[str, Any]) -> str:
    """Return the one line for the console: it begins on a line of its own, whatever was written there before."""
    return "\nzmanim-ready " + json.dumps(told, separators=(",", ":"), ensure_ascii=True) + "\n"


def attempt(check: Callable[[], str], *, required: bool = True) -> Check:
    """Run one check; what it returns is the detail, and a HostError is a failure with its text."""
    try:
        return Check(True, required, check())
    except HostError as error:
        return Check(False, required, str(error)[-500:])


# ---- The checks ----


def _query(sql: str) -> str:
    return psql(f"--command={sql}", timeout=15, user="zmanim").strip()


def check_postgresql() -> str:
    """Write and read as the API's user."""
    told = _query(
        "CREATE TEMPORARY TABLE probe (n int); INSERT INTO probe VALUES (42);"
        " SELECT n || ' ' || current_setting('server_version') FROM probe"
    )
    if not told.startswith("42 "):
        raise HostError(f"a row came back as {told!r}")
    return told[3:]


def check_postgis() -> str:
    """Ask for a distance on the earth: from Jerusalem to Tel Aviv it is some 54 km."""
    told = _query(
        "SELECT round(ST_Distance('POINT(35.2137 31.7683)'::geography, 'POINT(34.7818 32.0853)'::geography) / 1000)"
        " || ' ' || postgis_lib_version()"
    )
    if not told.startswith("54 "):
        raise HostError(f"the distance from Jerusalem to Tel Aviv came back as {told!r} (54 km expected)")
    return told[3:]


def check_redis(data: Path = redis_files.DATA) -> str:
    """Write, read, ask whether both kinds of persistence work, and look for what was written on the data volume."""
    try:
        password = (RUN / "secrets/ready/redis-password").read_text("ascii")
    except OSError as error:
        raise HostError("there is no password for Redis: see zmanim-secrets.service") from error
    base = ["redis-cli", "-s", "/run/redis/redis.sock", "--user", "ready", "--no-auth-warning"]
    value = "ready-" + secrets.token_hex(8)
    asked = f"SET zmanim-ready {value} EX 60\nGET zmanim-ready\nINFO persistence\nINFO server\n"
    done = run(base, timeout=15, environment={"REDISCLI_AUTH": password}, input=asked)
    # It ends with 0 even when it can't connect, and says so on stderr.
    version = redis_verdict(done.stdout + done.stderr, value)
    wait_until_written(data / redis_files.FOLDER, value.encode())
    return version


def wait_until_written(
    folder: Path,
    value: bytes,
    *,
    wait: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until the end of an append-only file in `folder` holds `value`; HostError when it does not within `wait`.

    Redis writes there before it answers, or up to two seconds later while the disk is busy with a sync.
    """
    deadline = clock() + wait
    while not any(value in _tail(path) for path in folder.glob("*.incr.aof")):
        if clock() >= deadline:
            raise HostError(f"Redis says that it persists, and what was written is in no append-only file of {folder}")
        sleep(0.05)


def _tail(path: Path, size: int = 1 << 20) -> bytes:
    """Return the last bytes of a file; none when a rewrite has just removed it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()
    except FileNotFoundError:
        return b""


def redis_verdict(said: str, value: str) -> str:
    """Return Redis's version from its answers; HostError when it does not keep `value`, which it was given."""
    lines = said.splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    if value not in lines:
        raise HostError(f"Redis does not give back what was written: {said.strip()[:200]!r}")
    expected = {"aof_enabled": "1", "aof_last_write_status": "ok", "rdb_last_bgsave_status": "ok", "loading": "0"}
    wrong = {name: info.get(name) for name, value in expected.items() if info.get(name) != value}
    if wrong:
        raise HostError(f"Redis does not persist: {wrong}")
    return info.get("redis_version", "")


def last_words(unit: str) -> str:
    """Return the last that a unit's own processes said of an error in this boot; nothing when they said none."""
    command = ["journalctl", "--boot", "--priority=err", "--lines=3", "--output=cat", "--no-pager", "--quiet"]
    return " ".join(run([*command, f"_SYSTEMD_UNIT={unit}"], timeout=15).stdout.split())


def check_units(notes: Mapping[str, str], last_words: Callable[[str], str] = last_words) -> str:
    """No unit has failed; an error that a command of ours noted, or else what the unit said, is part of the message."""
    command = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]
    failed = [line.split()[0] for line in run(command, timeout=15).stdout.splitlines() if line.strip()]
    if failed or notes:
        said = {unit: last_words(unit) for unit in failed if _command_of(unit) not in notes}
        reasons = "".join(f"; {name}: {text}" for name, text in {**notes, **said}.items() if text)
        raise HostError(f"failed: {', '.join(failed) or 'none now'}{reasons}")
    return ""


def _command_of(unit: str) -> str:
    """Return the name of the command of ours that a unit runs, by which its error is noted."""
    return unit.partition(".")[0].replace("zmanim-", "", 1)


def check_redis_files(data: Path = redis_files.DATA) -> str:
    """No damaged append-only file is waiting for somebody to look at it."""
    found = redis_files.kept(data)
    if found:
        names = ", ".join(str(path) for path in found)
        raise HostError(
            f"Redis's append-only file was damaged and Redis went on with its snapshot; kept for you: {names}."
            " Take what you need from there and remove it: that ends this alarm"
        )
    return ""


def check_timers(preset: Path = PRESET) -> str:
    """Every timer of ours is armed: those that the image's preset enables."""
    words = [line.split() for line in preset.read_text("utf-8").splitlines()]
    timers = [word[1] for word in words if len(word) == 2 and word[0] == "enable" and word[1].endswith(".timer")]
    states = {timer: unit_property(timer, "ActiveState") for timer in timers}
    wrong = ", ".join(f"{timer} is {state}" for timer, state in states.items() if state != "active")
    if wrong or not timers:
        raise HostError(wrong or f"{preset} enables no timer")
    return ", ".join(timers)


# ---- The API ----


def unit_property(unit: str, name: str) -> str:
    """Return a property of a unit as systemd says it."""
    return run(["systemctl", "show", "--value", f"--property={name}", unit], timeout=15).stdout.strip()


def ask_health(url: str = HEALTH) -> Any:
    """Return /health's JSON; HostError unless it is 200 and JSON."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310 - the API of this very machine
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise HostError(f"/health answers {error.code}") from error
    except (OSError, ValueError) as error:
        raise HostError(f"/health: {error}") from error


def wait_for_health(
    *,
    ask: Callable[[], Any] = ask_health,
    starting: Callable[[], bool] = lambda: unit_property(API, "ActiveState") in {"active", "activating"},
    wait: float = 45.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """Return /health's JSON, waiting `wait` seconds as long as the API's unit runs or starts.

    Raises HostError with the last reason; at once when the unit is not even starting.
    """
    deadline = clock() + wait
    while True:
        try:
            return ask()
        except HostError as error:
            if not starting():
                raise HostError(f"{API} is not running: {error}") from error
            if clock() >= deadline:
                raise
        sleep(0.05)


def release_version(link: Path = Path("/opt/zmanim/current")) -> str:
    """Return the version of the release that is in force."""
    return Path(os.path.realpath(link)).name


def environment_name(path: Path = RUN / "environment") -> str:
    """Return the environment's name, or nothing when this boot could not learn it."""
    if not path.exists():
        return ""
    pairs = (line.split("=", 1) for line in path.read_text("utf-8").splitlines() if "=" in line)
    return dict(pairs).get("ZMANIM_ENVIRONMENT", "")


def seconds_since_boot(proc: Path = Path("/proc")) -> float:
    """Return the seconds since PID 1 began: on a machine of its own, since its kernel did."""
    ticks = int((proc / "1/stat").read_text("ascii").rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def earlier_errors() -> dict[str, str]:
    """Return what this boot's other commands noted; not what we said ourselves the last time."""
    return {name: text for name, text in ErrorNotes().all().items() if name != "ready"}


def examine() -> dict[str, Any]:
    """Run every check and return the whole report."""
    health: Any | None = None
    sha256 = ""

    def check_api() -> str:
        nonlocal health, sha256
        health = wait_for_health()
        sha256 = binary_sha256()
        return ""

    # First: while it waits for the API, the rest settles.
    api = attempt(check_api)
    checks = {
        "postgresql": attempt(check_postgresql),
        "postgis": attempt(check_postgis),
        "redis": attempt(check_redis),
        "api": api,
        "release": attempt(check_release),
        "units": attempt(lambda: check_units(earlier_errors())),
        "timers": attempt(check_timers),
        "redis-files": attempt(check_redis_files, required=False),
    }
    return report(
        checks,
        version=release_version(),
        environment=environment_name(),
        binary_sha256=sha256,
        seconds=seconds_since_boot(),
        health=health,
    )


def was_ready(path: Path = REPORT) -> bool:
    """Return whether this machine has said once since it booted that it is ready: the file is on tmpfs."""
    try:
        return bool(json.loads(path.read_text("utf-8"))["was_ready"])
    except FileNotFoundError:
        return False


def is_to_power_off(tag: Callable[[], str | None] = lambda: instance_tag(connect(wait=5), ON_FAILURE_TAG)) -> bool:
    """Return whether the launch wants a machine off that is not ready; not when nobody can say."""
    try:
        return tag() == POWER_OFF
    except HostError as error:
        log(f"it stays on: {error}")
        return False


def tell_console(text: str) -> None:
    """Write to the console; one that can't be written is told to the journal only."""
    try:
        with open("/dev/console", "w", encoding="ascii") as console:
            console.write(text)
    except OSError as error:
        log(f"the console can't be written: {error}")


def command() -> None:
    """Tell on the console whether this machine serves."""
    before = was_ready()
    told = examine()
    write_whole(REPORT, json.dumps({**told, "was_ready": before or told["ok"]}, indent=2) + "\n")
    line = console_line(told)
    tell_console(line)
    log(line.strip())
    if told["ok"]:
        return
    # A machine that serves and is asked again in a bad moment stays on: this is for one that never came up.
    if not before and is_to_power_off():
        tell_console(f"zmanim is not ready: powering off, as the launch says ({ON_FAILURE_TAG}={POWER_OFF})\n")
        run(["systemctl", "--no-block", "poweroff"], timeout=30)
    failed = [name for name, check in told["checks"].items() if check["required"] and not check["ok"]]
    raise HostError(f"not ready: {', '.join(failed)}")
