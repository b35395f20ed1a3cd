"""Starting, finding and removing clouds, from the host.

Cleaning up is the kernel's job: everything of a cloud lives in one set of namespaces whose first process dies with its
parent (`unshare --kill-child`), and loop devices clear themselves with their last user. What is left for `down` after a
kill -9 is what the kernel keeps for us on the host: a link, control groups, a binfmt entry, the state directory.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from localcloud.host import binfmt, cgroups, requirements
from localcloud.host.certificates import ensure_authority, issue
from localcloud.host.inventory import MachineInfo, console, machines, shell_command
from localcloud.machine import volumes
from localcloud.net import addresses
from localcloud.settings import (
    ACCOUNT,
    DEFAULT_STATE,
    Cloud,
    CloudSettings,
    check,
    check_name,
    cloud_to_json,
    link_name,
    read_cloud,
    settings_to_json,
)
from support.errors import Error
from support.progress import say

__all__ = ["MachineInfo", "console", "down", "find", "machines", "shell_command", "up"]
READY_SECONDS = 60.0
# Clouds that this process has started: their first processes are our children, to be buried by us when they end.
_children: dict[Path, list[subprocess.Popen[bytes]]] = {}


def up(settings: CloudSettings) -> Cloud:
    """Start the cloud and return it once it answers; a cloud that is up already is returned as it is.

    Raises `bad-settings`, `not-root`, `programs-missing`, `host-unfit`, `disk-too-small`, `no-subnet-free` and
    `cloud-failed`. Nothing is left behind then, nor after an interruption.
    """
    check(settings)
    requirements.check(settings)
    # The server has another working directory, and the kernel shows a loop device's file without links in its path.
    settings = dataclasses.replace(
        settings,
        state=settings.state.resolve(),
        authority=settings.authority.resolve(),
        images=tuple(dataclasses.replace(image, root=image.root.resolve()) for image in settings.images),
        egress_hosts=settings.egress_hosts.resolve() if settings.egress_hosts else None,
    )
    with _lock(settings.name, settings.state):
        running = find(settings.name, settings.state)
        if running is not None:
            say(f"local cloud {running.name} is up already: {running.endpoint}")
            return running
        if _remains(settings.directory):
            say(f"local cloud {settings.name} is half dead: cleaning up before it is started again")
            _clean(settings.directory)
        try:
            return _start(settings)
        except BaseException:
            _clean(settings.directory)
            raise


def down(name: str = "default", state: Path = DEFAULT_STATE) -> None:
    """Remove a cloud and whatever is left of one; quiet when there is none.

    Raises `bad-settings`, `not-root` and `clean-up-failed`.
    """
    check_name(name)
    requirements.check_root()
    state = state.resolve()
    with _lock(name, state):
        _clean(state / name)


def find(name: str = "default", state: Path = DEFAULT_STATE) -> Cloud | None:
    """Return the cloud of that name if it is up and answering, else None."""
    directory = state.resolve() / name
    cloud = read_cloud(directory)
    if cloud is None or not (directory / "ready").exists() or not addresses.link_exists(cloud.link):
        return None
    # The keeper leaf holds unshare, the leaf "server" the server itself: a cloud lacking either is half dead.
    group = cgroups.cloud_groups(directory)[0]
    alive = cgroups.members(group / "keeper") and cgroups.members(group / "server")
    return cloud if alive else None


@contextmanager
def _lock(name: str, state: Path) -> Iterator[None]:
    """Hold the lock of one cloud's name; leave no lock file and no empty state directory behind."""
    path = state / f".{name}.lock"
    while True:
        state.mkdir(parents=True, exist_ok=True)
        try:
            handle = path.open("w")
        except FileNotFoundError:
            continue  # the holder before us took the empty directory away
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting: another process is busy with the local cloud {name}")
                fcntl.flock(handle, fcntl.LOCK_EX)
            # The holder before us removes the file: a lock on a removed file excludes nobody.
            if not path.exists() or path.stat().st_ino != os.fstat(handle.fileno()).st_ino:
                continue
            try:
                yield
            finally:
                path.unlink()
                try:
                    state.rmdir()
                except OSError:
                    pass  # the state of a cloud is in it
            return


def _remains(directory: Path) -> bool:
    return (
        directory.exists()
        or addresses.link_exists(link_name(directory))
        or any(group.exists() for group in cgroups.cloud_groups(directory))
    )


def _start(settings: CloudSettings) -> Cloud:
    directory = settings.directory
    directory.mkdir(parents=True)
    directory.chmod(0o700)
    (directory / "settings.json").write_text(settings_to_json(settings))
    issue(ensure_authority(settings.authority), directory)
    own_groups = cgroups.cloud_groups(directory)
    cgroups.make(own_groups)
    with addresses.reserved_index() as index:
        cloud = Cloud(settings.name, settings.region, directory, index)
        (directory / "cloud.json").write_text(cloud_to_json(cloud))
        addresses.make_link(cloud)
    # Each end is closed here once its process has it: when that ends, the other one hears so.
    ends = socket.socketpair() if settings.egress else ()
    try:
        child = _spawn(directory, own_groups, ends[:1])
        _wait_until_unshared(child, directory)
        cgroups.spread_out(own_groups[0], child.pid)
        addresses.hand_over_link(cloud.link, child.pid)
        if ends:
            _spawn_egress(directory, own_groups, ends[1])
    finally:
        for end in ends:
            end.close()
    _wait_until_ready(child, directory)
    return cloud


def _spawn(directory: Path, own_groups: list[Path], link: Sequence[socket.socket]) -> subprocess.Popen[bytes]:
    namespaces = "--net --mount --pid --cgroup --ipc --uts --fork --kill-child --mount-proc"
    # Process 1 is a shell that ends with the server. It buries orphans, as an init must: a command in a machine whose
    # nsenter was killed would else stay as a zombie, and the kernel ends no machine before all in it are buried.
    server = ["/bin/sh", "-c", '"$@"; exit', "sh", sys.executable, "-m", "localcloud.server", str(directory)]
    return _start_in(own_groups, directory, ["unshare", *namespaces.split(), *server], link)


def _spawn_egress(directory: Path, own_groups: list[Path], link: socket.socket) -> None:
    # Out of the cloud's namespaces but in its groups, so that `down` ends it too if it has not ended by itself.
    inside = [cgroups.leaf(own_groups[0], "egress"), *own_groups[1:]]
    _start_in(inside, directory, [sys.executable, "-m", "localcloud.net.egress", str(directory)], [link])


def _start_in(
    entered: list[Path], directory: Path, command: list[str], link: Sequence[socket.socket]
) -> subprocess.Popen[bytes]:
    """Start a process in these control groups; a socket that it inherits is its last argument."""
    # The shell enters the groups before it becomes the program: there is no moment in which `down` could miss it. A
    # group that was removed meanwhile (by `down`, after we were killed) stops it.
    enter = " && ".join(f'echo 0 >"${number}/cgroup.procs"' for number in range(1, len(entered) + 1))
    script = f'{enter} && shift {len(entered)} && exec "$@"'
    handles = [end.fileno() for end in link]
    with (directory / "server.log").open("ab") as log:
        child = subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", *map(str, entered), *command, *map(str, handles)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_server_environment(),
            start_new_session=True,
            pass_fds=handles,
        )
    _children.setdefault(directory, []).append(child)
    return child


def _server_environment() -> dict[str, str]:
    # Nothing of the caller's AWS_*, proxies or Python settings reaches the server.
    root = Path(__file__).resolve().parent.parent
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return {
        "PATH": search,
        "PYTHONPATH": str(root),
        "LANG": "C.UTF-8",
        "HOME": "/root",
        # moto reads these when it is imported.
        "MOTO_ACCOUNT_ID": ACCOUNT,
        "MOTO_ENABLE_AMI_VALIDATION": "true",
        "MOTO_ENABLE_KEYPAIR_VALIDATION": "true",
        "MOTO_DISABLE_GLOBAL_CORS": "true",
    }


def _wait_until_unshared(child: subprocess.Popen[bytes], directory: Path) -> None:
    ours = Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if Path(f"/proc/{child.pid}/ns/net").readlink() != ours:
                return
        except OSError:
            pass  # between fork and exec
        time.sleep(0.002)
    raise _failed("its namespaces were never made", directory)


def _wait_until_ready(child: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not (directory / "ready").exists():
        if child.poll() is not None:
            raise _failed(f"its server ended with exit code {child.returncode}", directory)
        if time.monotonic() > deadline:
            raise _failed(f"it was not ready after {READY_SECONDS:.0f} s", directory)
        time.sleep(0.01)


def _failed(what: str, directory: Path) -> Error:
    try:
        tail = (directory / "server.log").read_text(errors="replace").splitlines()[-25:]
    except OSError:
        tail = []
    return Error(
        f"the local cloud {directory.name} could not be started",
        code="cloud-failed",
        expected="a server that writes its ready file",
        found=what + "".join(f"\n    {line}" for line in tail),
    )


def _clean(directory: Path) -> None:
    """Take everything of a cloud off the host. Raises `clean-up-failed` when something stays."""
    own_groups = cgroups.cloud_groups(directory)
    children = _children.pop(directory, [])
    for child in children:
        child.kill()  # it may not have entered its groups yet
    left = [f"process {pid}" for pid in cgroups.kill_all(own_groups)]
    for child in children:
        child.wait()
    left += [f"loop device {device}" for device in volumes.wait_until_released(directory)]
    addresses.delete_link(link_name(directory))
    binfmt.unregister(binfmt.entry_name(cgroups.group_name(directory)))
    left += [f"control group {group}" for group in cgroups.remove(own_groups)]
    if directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError as error:
            left.append(f"directory {directory} ({error})")
    if left:
        raise Error(
            f"something of the local cloud {directory.name} is still here",
            code="clean-up-failed",
            expected="nothing",
            found=", ".join(left),
        )
