"""The disks of one machine: each stands behind a write cache, a process of the machine's own (write_cache.py)."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from localcloud.host import cgroups
from localcloud.machine.qemu import write_cache

# A clean end writes out what is left, 64 MiB at most.
_END_SECONDS = 30.0


class Drives:
    """The write caches of a machine, by the name of their socket in the directory `sockets`."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, file: Path, groups: Sequence[Path], log: Path, *, size: int = 0) -> None:
        """Put a file of `size` bytes, its own unless that is given, behind a cache that waits for QEMU on its socket.

        The process is born in the control groups `groups`, and dies with who else is in them. It writes to `log`, where
        something is wrong. Raises OSError.
        """
        path = self._sockets / name
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listening, log.open("ab") as output:
            listening.bind(str(path))
            listening.listen(1)
            self._processes[name] = subprocess.Popen(
                cgroups.entering(list(groups), command(listening.fileno(), file, size)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._sockets,
                start_new_session=True,
                pass_fds=[listening.fileno()],
            )

    def end(self, name: str) -> None:
        """Wait for the end of a cache whose QEMU has let go of it; kill it where that takes too long."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        (self._sockets / name).unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """End a cache that QEMU does not have."""
        if (process := self._processes.get(name)) is not None:
            process.kill()
        self.end(name)

    def end_all(self) -> None:
        """Wait for the end of all of them, of a QEMU that has ended or was killed."""
        for name in list(self._processes):
            self.end(name)


def command(descriptor: int, file: Path, size: int) -> list[str]:
    """Return the command line of a write cache that listens on that descriptor."""
    # Without site-packages and the caller's settings: it starts four times as fast.
    return [sys.executable, "-I", "-S", write_cache.__file__, str(descriptor), str(file), str(size)]
