"""A second PostgreSQL and a second Redis in a directory, on sockets that only its owner reaches."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.host import CLOCK, Clock, HostError, NotYet, retry, run
from zmanim_host.postgres import Server
from zmanim_host.storage import data_layout, redis_files

# A socket's whole path has at most 107 characters.
LONGEST = 90
# Seconds that a server may take to load what it is given, and to stop.
PATIENCE = 600.0
OWNER = "zmanim-backup"
# Fast rather than safe against a power cut: what is in here is in the backup, and is synced before it goes anywhere.
# pg_cron has to be loaded to be restored, and runs no job of the database that it stands beside.
POSTGRESQL = {
    "listen_addresses": "",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "autovacuum": "off",
    "jit": "off",
    "max_worker_processes": "16",
    "shared_preload_libraries": "pg_cron",
    "cron.database_name": "zmanim",
    "cron.launch_active_jobs": "off",
    "cron.use_background_workers": "on",
}


@dataclass(frozen=True)
class Scratch:
    """The directory, and the system user that the servers run as (None: ourselves, who are not root)."""

    directory: Path
    user: str | None
    clock: Clock = CLOCK

    @property
    def server(self) -> Server:
        """The second PostgreSQL, as its superuser."""
        return Server(socket=str(self.directory / "socket"), role="postgres", user=self.user)

    @property
    def postgres(self) -> Path:
        """The second cluster."""
        return self.directory / "postgres"

    @property
    def redis(self) -> Path:
        """The second Redis's data."""
        return self.directory / "redis"

    @contextmanager
    def running_postgresql(self) -> Iterator[Server]:
        """Make a cluster and run it for the body of the `with`; it is stopped cleanly whatever happens there."""
        run(data_layout.initdb_command(self.postgres, "--auth=trust", "--no-sync"), timeout=300, user=self.user)
        settings = {**POSTGRESQL, "unix_socket_directories": str(self.directory / "socket")}
        command = ["postgres", "-D", str(self.postgres), *(f"--{name}={value}" for name, value in settings.items())]

        def answers() -> bool:
            return self.server.query("postgres", "SELECT 1;", timeout=10) == ["1"]

        with self._running(command, "postgresql.log", signal.SIGINT, answers):
            yield self.server

    @contextmanager
    def running_redis(self) -> Iterator[Callable[[str], str]]:
        """Load dump.rdb of the second Redis's directory, append-only file and all, and yield what sends it a command.

        With `appendonly yes` and a snapshot but no append-only file Redis comes up empty: so the snapshot is first made
        the base of one, as redis-check does.
        """
        made = redis_files.make_from_snapshot(self.redis, redis_files.check_aof)
        made.rename(self.redis / redis_files.FOLDER)
        if self.user:
            run(["chown", "--recursive", f"{self.user}:", str(self.redis)], timeout=60)
        socket = str(self.directory / "socket/redis.sock")
        # Nothing is evicted and nothing saved over what was restored.
        options = {"port": "0", "unixsocket": socket, "dir": str(self.redis), "daemonize": "no"}
        options |= {"appendonly": "yes", "save": "", "maxmemory": "0", "aof-use-rdb-preamble": "yes"}
        command = ["redis-server", *(word for name, value in options.items() for word in (f"--{name}", value))]

        def ask(words: str) -> str:
            return run(["redis-cli", "-s", socket, *words.split()], timeout=60).stdout

        with self._running(command, "redis.log", signal.SIGTERM, lambda: is_loaded(ask("INFO persistence"))):
            yield ask

    @contextmanager
    def _running(
        self, command: Sequence[str], log_name: str, stop: signal.Signals, ready: Callable[[], bool]
    ) -> Iterator[None]:
        log_file = self.directory / log_name
        with log_file.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
                cwd="/",
            )

        def attempt() -> None:
            try:
                if ready():
                    return
            except HostError:
                pass  # it does not answer yet
            failure = f"{command[0]} does not start: {log_file.read_text('utf-8', 'replace')[-1500:]}"
            raise (NotYet if process.poll() is None else HostError)(failure)

        try:
            retry(attempt, seconds=PATIENCE, pause=0.1, clock=self.clock)
            yield
        finally:
            if process.poll() is None:
                process.send_signal(stop)
            code = process.wait(PATIENCE)
        if code:
            raise HostError(f"{command[0]} did not stop cleanly: exit code {code}")


def is_loaded(persistence: str) -> bool:
    """Return whether a Redis has loaded all that it had, by its INFO persistence."""
    # A line of its own: async_loading:0 is there from the beginning.
    return "loading:0" in persistence.split()


def owner() -> str | None:
    """Return the system user that scratch servers run as: none of their own when we are not root."""
    return OWNER if os.geteuid() == 0 else None


def prepare(directory: Path, user: str | None) -> Scratch:
    """Make an empty directory for both servers; HostError when there is something already, or its path is too long."""
    if len(str(directory)) > LONGEST or not directory.is_absolute():
        raise HostError(f"{directory}: an absolute path of at most {LONGEST} characters is needed, sockets are in it")
    if directory.exists() and any(directory.iterdir()):
        raise HostError(f"{directory} is not empty: nothing was restored into it")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (directory, directory / "socket", directory / "redis"):
        path.mkdir(mode=0o700, exist_ok=True)
        if user:
            account = pwd.getpwnam(user)
            os.chown(path, account.pw_uid, account.pw_gid)
    return Scratch(directory, user)


def remove(directory: Path) -> None:
    """Remove a scratch directory, if it is there."""
    if directory.exists():
        shutil.rmtree(directory)
