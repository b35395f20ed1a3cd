"""Whether this machine serves, in one JSON object: on the console, in the journal, and in /run/zmanim/ready.json.

Required checks decide; wanted ones (required: false) are only reported.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zmanim_host import extensions, notices
from zmanim_host.host import (
    ANSWER_SECONDS,
    CLOCK,
    RUN,
    Clock,
    ErrorNotes,
    HostError,
    NotYet,
    log,
    retry,
    run,
    write_console,
    write_whole,
)
from zmanim_host.postgres import Server
from zmanim_host.recovery import recovering
from zmanim_host.release.health import HEALTH, get_health
from zmanim_host.release.running import binary_sha256, check_release
from zmanim_host.storage import redis_checks, redis_files, swap
from zmanim_host.storage.data_layout import DATA
from zmanim_host.systemd import API, POSTGRESQL, REDIS, active_state, properties

PRESET = Path("/usr/lib/systemd/system-preset/00-zmanim.preset")
SHIPPED_UNITS = Path("/etc/systemd/system")
REPORT = RUN / "ready.json"
# Characters of a report on one line of the console, and how often all of it is written there.
PART, COPIES = 200, 3
# As the API itself would.
DATABASE = Server(user="zmanim")


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    ok: bool
    required: bool = True
    detail: str = ""


def attempt(check: Callable[[], str], *, required: bool = True) -> Check:
    """Run one check; what it returns is the detail, and a HostError is a failure with its text."""
    try:
        return Check(True, required, check())
    except HostError as error:
        return Check(False, required, str(error)[-500:])


# ---- The checks ----


def _query(server: Server, sql: str, begins: str, what: str) -> str:
    """Return the rest of an answer that begins as it has to."""
    answer = server.psql(f"--command={sql}", timeout=ANSWER_SECONDS).strip()
    if not answer.startswith(begins):
        raise HostError(f"{what} came back as {answer!r} ({begins.strip()} expected)")
    return answer[len(begins) :]


def check_postgresql(server: Server = DATABASE) -> str:
    """Write and read as the API's user."""
    sql = (
        "CREATE TEMPORARY TABLE probe (n int); INSERT INTO probe VALUES (42);"
        " SELECT n || ' ' || current_setting('server_version') FROM probe"
    )
    return _query(server, sql, "42 ", "a row")


def check_postgis(server: Server = DATABASE) -> str:
    """Ask for a distance on the earth, in km."""
    sql = (
        "SELECT round(public.ST_Distance('POINT(35.2137 31.7683)'::public.geography,"
        " 'POINT(34.7818 32.0853)'::public.geography) / 1000) || ' ' || public.postgis_lib_version()"
    )
    return _query(server, sql, "54 ", "the distance in km from Jerusalem to Tel Aviv")


def last_errors(unit: str) -> str:
    """Return the last errors that a unit's own processes logged in this boot; nothing when they logged none."""
    command = ["journalctl", "--boot", "--priority=err", "--lines=3", "--output=cat", "--no-pager", "--quiet"]
    return " ".join(run([*command, f"_SYSTEMD_UNIT={unit}"], timeout=ANSWER_SECONDS).stdout.split())


def failed_units(preset: Path = PRESET) -> tuple[list[str], list[str]]:
    """Return the units that have failed: first ours, then the base's.

    Ours are those that we ship or start ourselves, and the packages' that the image's preset enables. What else the
    base runs (its message of the day, its own timers) does not decide whether this machine serves.
    """
    command = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]
    failed = [line.split()[0] for line in run(command, timeout=ANSWER_SECONDS).stdout.splitlines() if line.strip()]
    enabled = set(preset.read_text("utf-8").split())

    def is_ours(unit: str) -> bool:
        file = properties(unit, "FragmentPath").get("FragmentPath", "")
        return unit in enabled or unit.startswith("zmanim-") or SHIPPED_UNITS in Path(file).parents

    ours = [unit for unit in failed if is_ours(unit)]
    return ours, [unit for unit in failed if unit not in ours]


def check_base_units(preset: Path = PRESET) -> str:
    """No unit of the base has failed."""
    _, failed = failed_units(preset)
    if failed:
        details = "".join(f"; {unit}: {text}" for unit in failed if (text := last_errors(unit)))
        raise HostError(f"failed: {', '.join(failed)}{details}")
    return ""


def check_units(notes: ErrorNotes | None = None, preset: Path = PRESET) -> str:
    """No unit of ours has failed; the error that a command noted, or else what the unit logged, is in the message."""
    # Not what we said ourselves the last time.
    reasons = {name: text for name, text in (notes or ErrorNotes()).all().items() if name != "ready"}
    failed, _ = failed_units(preset)
    if failed or reasons:
        # By the name of the command of ours that a unit runs its error is noted.
        unnoted = [unit for unit in failed if unit.partition(".")[0].replace("zmanim-", "", 1) not in reasons]
        reasons.update((unit, last_errors(unit)) for unit in unnoted)
        details = "".join(f"; {name}: {text}" for name, text in reasons.items() if text)
        raise HostError(f"failed: {', '.join(failed) or 'none now'}{details}")
    return ""


def check_redis_files(data: Path = redis_files.DATA) -> str:
    """Nothing of a damaged or torn append-only file is waiting for somebody to look at it."""
    kept = redis_files.kept_for_somebody(data)
    if kept:
        raise HostError(f"{'. '.join(kept)}. Take what you need from there and remove it: that ends this alarm")
    return ""


def check_timers(preset: Path = PRESET) -> str:
    """Every timer of ours is armed: those that the image's preset enables."""
    words = [line.split() for line in preset.read_text("utf-8").splitlines()]
    timers = [word[1] for word in words if len(word) == 2 and word[0] == "enable" and word[1].endswith(".timer")]
    states = {timer: active_state(timer) for timer in timers}
    wrong = ", ".join(f"{timer} is {state}" for timer, state in states.items() if state != "active")
    if wrong or not timers:
        raise HostError(wrong or f"{preset} enables no timer")
    return ", ".join(timers)


def check_extensions() -> str:
    """Every extension's catalogue is this image's, or waits until nobody goes back to the image before."""
    return extensions.check(DATABASE)


# ---- The API ----


def ask_health(url: str = HEALTH) -> Any:
    """Return /health's JSON; HostError unless it is 200 and JSON."""
    try:
        return json.loads(get_health(url))
    except ValueError as error:
        raise HostError(f"/health: {error}") from error


def wait_for_health(
    *,
    ask: Callable[[], Any] = ask_health,
    starting: Callable[[], bool] = lambda: active_state(API) in {"active", "activating"},
    clock: Clock = CLOCK,
) -> Any:
    """Return /health's JSON, waiting 45 seconds as long as the API's unit runs or starts.

    Raises HostError with the last reason; at once when the unit is not even starting.
    """

    def look() -> Any:
        try:
            return ask()
        except HostError as error:
            if not starting():
                raise HostError(f"{API} is not running: {error}") from error
            raise NotYet(str(error)) from error

    return retry(look, seconds=45, pause=0.1, clock=clock)


@dataclass(frozen=True)
class RunningApi:
    """What the API that runs says of its health, and which program it is."""

    health: Any
    binary_sha256: str


def look_at_api() -> RunningApi:
    """Wait for the API and look at it; HostError, without waiting, where a restore that was cut short keeps it away."""
    swap.check_none(DATA)
    return RunningApi(wait_for_health(), binary_sha256())


# ---- The report ----


def environment_name(path: Path = RUN / "environment") -> str:
    """Return the environment's name, or nothing when this boot could not learn it."""
    if not path.exists():
        return ""
    pairs = (line.split("=", 1) for line in path.read_text("utf-8").splitlines() if "=" in line)
    return dict(pairs).get("ZMANIM_ENVIRONMENT", "")


def boot_id(proc: Path = Path("/proc")) -> str:
    """Return what tells this boot from every other one."""
    return (proc / "sys/kernel/random/boot_id").read_text("ascii").strip()


def seconds_since_boot(proc: Path = Path("/proc")) -> float:
    """Return the seconds since PID 1 began: on a machine of its own, since its kernel did."""
    ticks = int((proc / "1/stat").read_text("ascii").rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def or_recovering(check: Callable[[], str], unit: str, state: Callable[[str], str] = recovering) -> Callable[[], str]:
    """Return the check of a store, whose error says since when the store has been recovering, if it is."""

    def checked() -> str:
        try:
            return check()
        except HostError as error:
            since = state(unit)
            raise HostError(f"{error}; {since}" if since else str(error)) from error

    return checked


REQUIRED: Mapping[str, Callable[[], str]] = {
    "postgresql": or_recovering(check_postgresql, POSTGRESQL),
    "postgis": check_postgis,
    "redis": or_recovering(redis_checks.check_redis, REDIS),
    "release": check_release,
    "units": check_units,
    "timers": check_timers,
}
WANTED: Mapping[str, Callable[[], str]] = {
    "redis-files": check_redis_files,
    "extensions": check_extensions,
    "base-units": check_base_units,
    "mail": notices.check_mail,
}


def examine(
    api: Callable[[], RunningApi] = look_at_api,
    required: Mapping[str, Callable[[], str]] = REQUIRED,
    wanted: Mapping[str, Callable[[], str]] = WANTED,
) -> dict[str, Any]:
    """Run every check and return the whole report: ok only when the API and every required check are."""
    running: RunningApi | None = None

    def check_api() -> str:
        nonlocal running
        running = api()
        return ""

    # First: while it waits for the API, the rest settles.
    checks = {"api": attempt(check_api)}
    checks.update((name, attempt(check)) for name, check in required.items())
    checks.update((name, attempt(check, required=False)) for name, check in wanted.items())
    return {
        "ok": all(check.ok for check in checks.values() if check.required),
        "version": release_version(),
        "environment": environment_name(),
        "boot": boot_id(),
        "binary_sha256": running.binary_sha256 if running else "",
        "seconds": round(seconds_since_boot(), 1),
        "checks": {name: asdict(check) for name, check in checks.items()},
        "health": running.health if running else None,
    }


def release_version(link: Path = Path("/opt/zmanim/current")) -> str:
    """Return the version of the release that is in force."""
    return Path(os.path.realpath(link)).name


def was_ready(path: Path = REPORT) -> bool:
    """Return whether this machine has said once since it booted that it is ready: the file is on tmpfs."""
    try:
        return bool(json.loads(path.read_text("utf-8"))["was_ready"])
    except FileNotFoundError:
        return False


def console_lines(report: Mapping[str, Any]) -> str:
    """Return a report for the console: its JSON in parts, each on a line with a checksum, and all of it COPIES times.

    The kernel writes to the console when it likes, into the middle of a line too, and a console may keep its last
    64 KiB only. So each line can be told to be whole by itself, and a reader takes each part from any copy of it:

        zmanim-ready REPORT PART/PARTS TEXT CHECKSUM

    REPORT is the CRC-32 of the JSON, CHECKSUM that of the line's words before it, both in eight hexadecimal digits.
    """
    text = json.dumps(report, separators=(",", ":"), ensure_ascii=True)
    parts = [text[start : start + PART] for start in range(0, len(text), PART)]
    heads = [f"{_crc32(text)} {number}/{len(parts)} {part}" for number, part in enumerate(parts, 1)]
    # It begins on a line of its own, whatever was written there before.
    return "\n" + "".join(f"zmanim-ready {head} {_crc32(head)}\n" for head in heads) * COPIES


def _crc32(text: str) -> str:
    return f"{zlib.crc32(text.encode('ascii')):08x}"


def publish(
    report: Mapping[str, Any],
    file: Path = REPORT,
    *,
    console: Callable[[str], None] = write_console,
) -> None:
    """Write a report to its file and the console; HostError for a machine that is not ready."""
    before = was_ready(file)
    write_whole(file, json.dumps({**report, "was_ready": before or report["ok"]}, indent=2) + "\n")
    console(console_lines(report))
    log(f"zmanim-ready {json.dumps(report, separators=(',', ':'))}")
    if report["ok"]:
        return
    # The unit that fails with this starts what asks the launch: power_off.py.
    failed = [name for name, check in report["checks"].items() if check["required"] and not check["ok"]]
    raise HostError(f"not ready: {', '.join(failed)}")


def command() -> None:
    """Tell on the console whether this machine serves."""
    publish(examine())
