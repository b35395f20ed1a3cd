"""Where strangers' code runs: what a backup holds is loaded by a user who has nothing and reaches nothing.

Every program that touches what is restored is a transient unit of systemd's in one slice: as zmanim-scratch, without a
network, without credentials, and with no way to the live servers' sockets or anything else below /run and /data but the
one directory. Root starts them, talks to them through pipes, and opens nothing that is theirs.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from zmanim_host.host import HostError, open_folder, run
from zmanim_host.systemd import properties, systemctl

USER = "zmanim-scratch"
SLICE = "zmanim-scratch.slice"
CGROUPS = Path("/sys/fs/cgroup")
# How much of a program's answer is taken, and of its complaints kept, in bytes.
MOST = 64 << 20
TAIL = 4000
BLOCK = 1 << 18
# What all of them take together, of all there is: the live servers have sized themselves for two thirds of it.
MEMORY = "MemoryMax=40%"
# The sandbox of the transient units; a seconds-long stop is a server's last checkpoint.
PROPERTIES = (
    f"User={USER}",
    f"Group={USER}",
    "TemporaryFileSystem=/run:ro /data:ro",
    "PrivateNetwork=yes",
    "RestrictAddressFamilies=AF_UNIX",
    "IPAddressDeny=any",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "RemoveIPC=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "UMask=0077",
    "Nice=10",
    "IOSchedulingClass=idle",
    "OOMScoreAdjust=500",
    "KillMode=mixed",
    "TimeoutStopSec=600",
)


@dataclass(frozen=True)
class Sandbox:
    """The sandbox of one directory, the only place that what runs in it may write to."""

    directory: Path

    def command(self, *words: str, unit: str = "", stop: str = "SIGTERM") -> list[str]:
        """Return the command that runs a program in the sandbox, with our own standard streams.

        With `unit` it can be stopped by that name, and gets the signal `stop` then.
        """
        made = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec", f"--slice={SLICE}"]
        made += [f"--unit={unit}"] if unit else []
        made += [f"--property={line}" for line in (*PROPERTIES, f"BindPaths={self.directory}", f"KillSignal={stop}")]
        # What psql and its like are told by their environment, and nothing else of ours.
        return [*made, "--setenv=PGOPTIONS", "--", *words]

    def prefix(self) -> tuple[str, ...]:
        """Return the words that come before a program's own."""
        return tuple(self.command())

    def limit(self) -> None:
        """Limit what runs in any sandbox from here on, all of it together. Raises HostError."""
        run(["systemctl", "set-property", "--runtime", SLICE, MEMORY], timeout=60)

    def stop(self) -> None:
        """End everything that runs in any sandbox. Raises HostError unless nothing is left of it."""
        systemctl("stop", SLICE)
        group = properties(SLICE, "ControlGroup").get("ControlGroup", "")
        events = CGROUPS / group.lstrip("/") / "cgroup.events"
        if group.strip("/") and events.exists() and "populated 0" not in events.read_text("ascii"):
            raise HostError(f"something still runs in {SLICE}: nothing of what is restored is used")


class Reader(threading.Thread):
    """Reads a stream to its end, and keeps the first `most` bytes of it or the last `tail`."""

    def __init__(self, stream: IO[bytes], *, most: int = 0, tail: int = 0) -> None:
        super().__init__(daemon=True)
        self._stream, self._most, self._tail = stream, most, tail
        self.content = b""
        self.length = 0
        self.start()

    def run(self) -> None:
        """Read (the thread's own work)."""
        parts: list[bytes] = []
        with self._stream as stream:
            for block in iter(lambda: os.read(stream.fileno(), BLOCK), b""):
                self.length += len(block)
                if self._tail:
                    self.content = (self.content + block)[-self._tail :]
                elif self.length <= self._most:
                    parts.append(block)
        if not self._tail:
            self.content = b"".join(parts)


@dataclass
class Child:
    """A program in the sandbox that is fed through a pipe: how it ended, and what it wrote, are known at its end."""

    command: Sequence[str]
    name: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            list(self.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.environment},
        )
        assert self._process.stdout
        assert self._process.stderr
        self._output = Reader(self._process.stdout, most=MOST)
        self._errors = Reader(self._process.stderr, tail=TAIL)

    def feed(self, block: bytes) -> bool:
        """Give it some bytes; return whether it still takes any."""
        assert self._process.stdin
        try:
            self._process.stdin.write(block)
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def ended(self) -> bool:
        """Return whether it has ended already."""
        return self._process.poll() is not None

    def finish(self, *, timeout: float = 7200) -> str:
        """Return what it wrote, once it has ended; HostError unless it ended well, with its last words."""
        assert self._process.stdin
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has taken all that it needs
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise HostError(f"{self.name}: no end after {timeout:.0f} s") from None
        for reader in (self._output, self._errors):
            reader.join(5)
        if code:
            output = self._errors.content.decode("utf-8", "replace").strip()[-1500:]
            raise HostError(f"{self.name}: exit code {code}: {output}")
        if self._output.length > MOST:
            raise HostError(f"{self.name}: its answer is longer than {MOST >> 20} MiB")
        return self._output.content.decode("utf-8", "replace")


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left in a stream."""
    return iter(lambda: stream.read(BLOCK), b"")


def feed_all(children: Iterable[Child], blocks: Iterable[bytes]) -> None:
    """Give every block to each child that still takes one; read to the end all the same, for how the source ends."""
    taking = list(children)
    for block in blocks:
        taking = [child for child in taking if child.feed(block)]


# ---- What root does in a directory that strangers wrote to ----


def write_new(folder: int, name: str, content: str, mode: int = 0o600) -> None:
    """Write a file that is not there yet into a folder, through no link. Raises OSError."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def give(path: Path, owner: str) -> None:
    """Give a tree to another user; HostError when anything in it is no folder and no file of just this name.

    Nothing may run any more that could change the tree: a link that is made in time would be followed by whoever reads
    it later, as root or as the new owner.
    """
    account = pwd.getpwnam(owner)
    with open_folder(path) as top:
        for place, folders, files, descriptor in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            os.fchown(descriptor, account.pw_uid, account.pw_gid)
            for name in (*folders, *files):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                is_file = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
                if not (is_file or stat.S_ISDIR(status.st_mode)):
                    raise HostError(f"{path}/{place}/{name} is no plain file: nothing of what is restored is used")
                os.chown(name, account.pw_uid, account.pw_gid, dir_fd=descriptor, follow_symlinks=False)
