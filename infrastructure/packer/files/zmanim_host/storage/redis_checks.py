"""Whether Redis answers and keeps what it is given, asked as its user `ready`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from zmanim_host.host import ANSWER_SECONDS, CLOCK, RUN, Clock, HostError, NotYet, open_plain, retry, run
from zmanim_host.storage.redis_files import DATA, FOLDER


def check_redis(data: Path = DATA, run_directory: Path = RUN, clock: Clock = CLOCK) -> str:
    """Write, read, ask whether both kinds of persistence work, and look for what was written on the data volume."""
    value = "ready-" + secrets.token_hex(8)
    words = f"SET zmanim-ready {value} EX 60\nGET zmanim-ready\nINFO persistence\nINFO server\n"
    version = redis_verdict(ask(words, run_directory), value)
    wait_until_written(data, value.encode(), clock)
    return version


def check_alive(run_directory: Path = RUN) -> str:
    """Ask whether Redis answers and persists, every minute: without a write, which would make every snapshot anew."""
    return redis_verdict(ask("PING\nINFO persistence\nINFO server\n", run_directory), "PONG")


def ask(words: str, run_directory: Path = RUN) -> str:
    """Return Redis's answers to commands, one a line. Raises HostError."""
    try:
        password = (run_directory / "secrets/ready/redis-password").read_text("ascii")
    except OSError as error:
        raise HostError("there is no password for Redis: see zmanim-secrets.service") from error
    command = ["redis-cli", "-s", "/run/redis/redis.sock", "--user", "ready", "--no-auth-warning"]
    done = run(command, timeout=ANSWER_SECONDS, environment={"REDISCLI_AUTH": password}, input=words)
    # It ends with 0 even when it can't connect, and says so on stderr.
    return done.stdout + done.stderr


def wait_until_written(data: Path, value: bytes, clock: Clock = CLOCK) -> None:
    """Wait until the end of an append-only file of Redis holds `value`; HostError when it does not within 5 s.

    Redis writes there before it answers, or up to two seconds later while the disk is busy with a sync.
    """
    folder = data / FOLDER

    def look() -> None:
        names = (str(path.relative_to(data)) for path in folder.glob("*.incr.aof"))
        if not any(value in read_tail(data, name) for name in names):
            raise NotYet(f"Redis says that it persists, and what was written is in no append-only file of {folder}")

    retry(look, seconds=5, pause=0.05, clock=clock)


def read_tail(data: Path, name: str, size: int = 1 << 20) -> bytes:
    """Return the last bytes of a file of Redis's user; none when a rewrite has just removed it. Raises HostError."""
    try:
        with open_plain(data, name) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)
    except FileNotFoundError:
        return b""


def redis_verdict(answers: str, value: str) -> str:
    """Return Redis's version from its answers; HostError when `value` is not among them, or Redis does not persist."""
    lines = answers.splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    if value not in lines:
        raise HostError(f"Redis does not give back what was written: {answers.strip()[:200]!r}")
    expected = {"aof_enabled": "1", "aof_last_write_status": "ok", "rdb_last_bgsave_status": "ok", "loading": "0"}
    wrong = {name: info.get(name) for name, value in expected.items() if info.get(name) != value}
    if wrong:
        raise HostError(f"Redis does not persist: {wrong}")
    return info.get("redis_version", "")
