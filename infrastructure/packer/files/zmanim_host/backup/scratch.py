"""A second PostgreSQL and a second Redis in a directory, for what a backup holds: each in the sandbox, by itself.

The directory is root's, and what is below it zmanim-scratch's: root makes it, and opens nothing in it while that user
can do anything.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zmanim_host.backup.sandbox import TAIL, USER, Child, Reader, Sandbox, blocks, write_new
from zmanim_host.host import ANSWER_SECONDS, CLOCK, Clock, HostError, NotYet, open_folder, retry, run
from zmanim_host.postgres import HOME, SUPERUSER, Server
from zmanim_host.storage import data_layout, redis_files
from zmanim_host.storage.redis_files import Keys
from zmanim_host.systemd import systemctl

# A socket's whole path has at most 107 characters.
LONGEST = 90
# Seconds that a server may take to load what it is given, and to stop.
PATIENCE = 600.0
UNITS = ("zmanim-scratch-postgresql.service", "zmanim-scratch-redis.service")
FOLDERS = ("postgres", "redis", "socket")
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
    "max_wal_size": "256MB",
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
    """The directory of both servers."""

    directory: Path
    clock: Clock = CLOCK

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox that everything of it runs in."""
        return Sandbox(self.directory)

    @property
    def server(self) -> Server:
        """The second PostgreSQL, as its superuser."""
        return Server(socket=str(self.directory / "socket"), role=SUPERUSER, inside=self.sandbox.prefix())

    @property
    def postgres(self) -> Path:
        """The second cluster."""
        return self.directory / "postgres"

    @property
    def redis(self) -> Path:
        """The second Redis's data."""
        return self.directory / "redis"

    @property
    def snapshot(self) -> Path:
        """The second Redis's snapshot file."""
        return self.redis / redis_files.SNAPSHOT

    @contextmanager
    def list_file(self, lines: Sequence[str]) -> Iterator[Path]:
        """Keep lines in a file of root's that the sandbox can read, for the body of the `with`."""
        name = f"list-{secrets.token_hex(4)}"
        with open_folder(self.directory) as folder:
            write_new(folder, name, "".join(f"{line}\n" for line in lines), mode=0o644)
            yield self.directory / name
            os.unlink(name, dir_fd=folder)

    @contextmanager
    def running_postgresql(self) -> Iterator[Server]:
        """Make a cluster and run it for the body of the `with`; it is stopped cleanly whatever happens there."""
        run(self.sandbox.command(*data_layout.initdb_command(self.postgres, "--auth=trust", "--no-sync")), timeout=300)
        settings = {**POSTGRESQL, "unix_socket_directories": str(self.directory / "socket")}
        command = ["postgres", "-D", str(self.postgres), *(f"--{name}={value}" for name, value in settings.items())]

        def answers() -> bool:
            return self.server.query(HOME, "SELECT 1;", timeout=ANSWER_SECONDS) == ["1"]

        # SIGINT: a fast shutdown.
        with self._running(command, UNITS[0], "SIGINT", answers):
            yield self.server

    def sync(self) -> None:
        """Make the cluster durable, which its server did not."""
        run(self.sandbox.command("initdb", "--sync-only", f"--pgdata={self.postgres}"), timeout=1800)

    def receive(self, stream: IO[bytes]) -> str:
        """Write the second Redis's snapshot, and return the SHA-256 of what was written. Raises HostError."""
        child = Child(self.sandbox.command("dd", f"of={self.snapshot}", "conv=excl", "status=none"), "dd")
        digest = hashlib.sha256()
        for block in blocks(stream):
            digest.update(block)
            child.feed(block)
        child.finish()
        return digest.hexdigest()

    def keys(self) -> Keys:
        """Return what the second Redis's snapshot holds. Raises HostError."""
        return redis_files.rdb_keys(self.snapshot, inside=self.sandbox.prefix())

    @contextmanager
    def running_redis(self) -> Iterator[Callable[[str], str]]:
        """Load the second Redis's snapshot, and yield what sends it a command.

        It writes nothing: what makes an append-only file of a snapshot is redis-check, before the live Redis starts.
        """
        socket = str(self.directory / "socket/redis.sock")
        # Nothing is evicted and nothing saved over what was restored.
        options = {"port": "0", "unixsocket": socket, "dir": str(self.redis), "daemonize": "no"}
        options |= {"appendonly": "no", "save": "", "maxmemory": "0"}
        command = ["redis-server", *(word for name, value in options.items() for word in (f"--{name}", value))]

        def ask(words: str) -> str:
            return run(self.sandbox.command("redis-cli", "-s", socket, *words.split()), timeout=60).stdout

        with self._running(command, UNITS[1], "SIGTERM", lambda: is_loaded(ask("INFO persistence"))):
            yield ask

    @contextmanager
    def _running(self, command: Sequence[str], unit: str, stop: str, ready: Callable[[], bool]) -> Iterator[None]:
        process = subprocess.Popen(
            self.sandbox.command(*command, unit=unit, stop=stop),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
        )
        assert process.stdout
        # Read all the time, as much as anybody writes, and only the end of it kept.
        output = Reader(process.stdout, tail=TAIL)

        def attempt() -> None:
            try:
                if ready():
                    return
            except HostError:
                pass  # it does not answer yet
            ended = process.poll() is not None
            if ended:
                output.join(5)  # its last words
            failure = f"{command[0]} does not start: {output.content.decode('utf-8', 'replace')[-1500:]}"
            raise (HostError if ended else NotYet)(failure)

        try:
            retry(attempt, seconds=PATIENCE, pause=0.1, clock=self.clock)
            yield
        finally:
            if process.poll() is None:
                systemctl("stop", unit)
            code = process.wait(PATIENCE)
            output.join(5)
        if code:
            raise HostError(f"{command[0]} did not stop cleanly: exit code {code}")


def is_loaded(persistence: str) -> bool:
    """Return whether a Redis has loaded all that it had, by its INFO persistence."""
    # A line of its own: async_loading:0 is there from the beginning.
    return "loading:0" in persistence.split()


def prepare(directory: Path, user: str = USER) -> Scratch:
    """Make an empty directory for both servers.

    Raises HostError when there is something already, its path is too long, or somebody else could exchange it.
    """
    if len(str(directory)) > LONGEST or not directory.is_absolute():
        raise HostError(f"{directory}: an absolute path of at most {LONGEST} characters is needed, sockets are in it")
    if directory.exists() and any(directory.iterdir()):
        raise HostError(f"{directory} is not empty: nothing was restored into it")
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    for path in (directory, *directory.parents):
        if path.is_symlink() or path.lstat().st_uid not in {0, os.geteuid()}:
            raise HostError(f"{path} is a link or another user's: nothing is restored below it")
    account = pwd.getpwnam(user)
    with open_folder(directory) as folder:
        # Whoever restores may look below it, and only root makes anything there.
        os.fchmod(folder, 0o711)
        for name in FOLDERS:
            os.mkdir(name, mode=0o700, dir_fd=folder)
            os.chown(name, account.pw_uid, account.pw_gid, dir_fd=folder, follow_symlinks=False)
    return Scratch(directory)


def remove(directory: Path) -> None:
    """End what still runs in the sandbox, and remove a scratch directory, if it is there."""
    Sandbox(directory).stop()
    if directory.exists():
        shutil.rmtree(directory)
