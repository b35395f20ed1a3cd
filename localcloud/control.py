"""Starting, finding and removing clouds, and looking into a running one, from the host.

Cleaning up is the kernel's job: everything of a cloud lives in one set of namespaces whose first process dies with its
parent (`unshare --kill-child`), and loop devices clear themselves with their last user. What is left for `down` after a
kill -9 is what the kernel keeps for us on the host: a link, control groups, a binfmt entry, the state directory.
"""

from __future__ import annotations

import dataclasses
import fcntl
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from localcloud import bad_day
from localcloud.bad_day import BadDay
from localcloud.host import binfmt, cgroups, requirements
from localcloud.host.certificates import ensure_authority, issue
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
    ended_sessions,
    link_name,
    make_key,
    read_cloud,
    settings_to_json,
)
from support.errors import BadInput, Error
from support.progress import say
from support.waiting import wait_for

READY_SECONDS = 60.0
# Clouds that this process has started: their first processes are our children, to be reaped by us when they end.
_children: dict[Path, list[subprocess.Popen[bytes]]] = {}


@dataclass(frozen=True)
class MachineInfo:
    """One instance: its state as the API shows it, the host's pid of its init, or of its QEMU (None when it
    does not run).

    `since` is when it was last started, in seconds since 1970.
    """

    instance_id: str
    state: str
    address: str
    image: str
    leader: int | None
    since: float


def up(settings: CloudSettings, check_host: Callable[[CloudSettings], None] = requirements.check) -> Cloud:
    """Start the cloud and return it once it answers; a cloud that is up already is returned as it is.

    Raises `bad-settings`, `not-root`, `programs-missing`, `host-unfit`, `disk-too-small`, `no-subnet-free` and
    `cloud-failed`. Nothing is left behind then, nor after an interruption.
    """
    check(settings)
    check_host(settings)
    # The server has another working directory, and the kernel shows a loop device's file without links in its path.
    settings = dataclasses.replace(
        settings,
        state=settings.state.resolve(),
        authority=settings.authority.resolve(),
        images=tuple(
            dataclasses.replace(image, root=image.root.resolve(), disk=image.disk.resolve() if image.disk else None)
            for image in settings.images
        ),
        egress_hosts=settings.egress_hosts.resolve() if settings.egress_hosts else None,
    )
    with _lock(settings.name, settings.state):
        running = find(settings.name, settings.state)
        if running is not None:
            say(f"local cloud {running.name} is up already: {running.endpoint}")
            return running
        groups = cgroups.cloud_groups(settings.directory)
        remains = [path for path in (settings.directory, *groups) if path.exists()]
        if remains or addresses.link_exists(link_name(settings.directory)):
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


def set_bad_day(cloud: Cloud, day: BadDay | None) -> None:
    """Switch faults of a running cloud on, each as `day` says, or with None all off; from the next call on."""
    bad_day.write(cloud.directory, day)


def machines(cloud: Cloud) -> list[MachineInfo]:
    """Return every instance that the cloud has had, in the order of their launches."""
    try:
        rows = json.loads((cloud.directory / "machines.json").read_text())
    except FileNotFoundError:
        return []
    group = cgroups.cloud_groups(cloud.directory)[0]
    return [MachineInfo(**row, leader=_leader(group / row["instance_id"])) for row in rows]


def _leader(group: Path) -> int | None:
    """Return the pid of the init below a machine's control group: the one that is process 1 of its own namespace.

    Of a machine with a kernel of its own, its QEMU's.
    """
    if (own := next(filter(_is_qemu, cgroups.members(group)), None)) is not None:
        return own
    for pid in cgroups.members(group / "payload"):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue  # it ended in between
        numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        if len(numbers) > 1 and numbers[-1] == "1":
            return pid
    return None


def _is_qemu(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("qemu-system-")
    except OSError:
        return False  # it ended in between


def console(cloud: Cloud, instance_id: str) -> str:
    """Return what an instance, running or gone, wrote to its console. Raises `unknown-machine`."""
    path = cloud.directory / "machines" / instance_id / "console.log"
    if "/" in instance_id or not path.parent.is_dir():
        raise _unknown(cloud, instance_id)
    return path.read_text(errors="replace") if path.exists() else ""


def confirm_all(cloud: Cloud) -> None:
    """Follow every link that the cloud has mailed (services/confirmations.py), as who gets those mails would."""
    path = cloud.directory / "confirmations.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        connection = http.client.HTTPConnection(cloud.link_address, 5000, timeout=10)
        with closing(connection):
            connection.request("GET", urlsplit(json.loads(line)["link"]).path)
            connection.getresponse().read()  # 404: it was followed before


def end_session(cloud: Cloud, key: str) -> None:
    """Have a session's credentials expire now: the cloud answers as AWS does when their time is over."""
    with ended_sessions(cloud.directory).open("a") as file:
        file.write(f"{key}\n")


def shell_command(cloud: Cloud, instance_id: str) -> list[str]:
    """Return the command that gives a root shell inside a running machine, to be exec'ed.

    Raises `unknown-machine`, and `no-way-in` for one with a kernel of its own.
    """
    leader = next((info.leader for info in machines(cloud) if info.instance_id == instance_id), None)
    if leader is None:
        raise _unknown(cloud, instance_id)
    if _is_qemu(leader):
        raise BadInput(
            f"{instance_id} has a kernel of its own: nobody can enter it from outside",
            code="no-way-in",
            expected="a machine on this host's kernel",
            found="one in QEMU",
            fix="SSM's Run Command or SSH; cloud.console shows what it says",
        )
    return ["nsenter", "--target", str(leader), "--all", "--wd", "/bin/bash", "--login"]


def _unknown(cloud: Cloud, instance_id: str) -> BadInput:
    running = [info.instance_id for info in machines(cloud) if info.leader is not None]
    return BadInput(
        f"no machine {instance_id} runs in the local cloud {cloud.name}",
        code="unknown-machine",
        expected="one of: " + (", ".join(running) or "none is running"),
        found=repr(instance_id),
    )


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


def _start(settings: CloudSettings) -> Cloud:
    directory = settings.directory
    settings.state.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700)
    (directory / "settings.json").write_text(settings_to_json(settings))
    bad_day.write(directory, settings.bad_day)
    issue(ensure_authority(settings.authority), directory)
    own_groups = cgroups.cloud_groups(directory)
    for group in own_groups:
        group.mkdir(exist_ok=True)
    with addresses.reserved_index() as index:
        key = make_key(directory)
        cloud = Cloud(settings.name, settings.region, directory, index, key, emulated=settings.emulated)
        (directory / "cloud.json").write_text(cloud_to_json(cloud))
        addresses.make_link(cloud)
    # Each end is closed here once its process has it: when that ends, the other one hears so.
    ends = socket.socketpair() if settings.egress else ()
    try:
        child = _spawn(directory, own_groups, ends[:1])
        _wait_until_unshared(child, directory)
        # Out of the cloud's own group, so that cgroup2 lets that hand controllers to its machines.
        (cgroups.leaf(own_groups[0], "keeper") / "cgroup.procs").write_text(str(child.pid))
        addresses.hand_over_link(cloud.link, child.pid)
        if ends:
            # Out of the cloud's namespaces but in its groups, so that `down` ends it too if it has not ended by itself.
            inside = [cgroups.leaf(own_groups[0], "egress"), *own_groups[1:]]
            egress = [sys.executable, "-m", "localcloud.net.egress", str(directory)]
            _start_in(inside, directory, egress, ends[1:])
    finally:
        for end in ends:
            end.close()
    _wait_until_ready(child, directory)
    return cloud


def _spawn(directory: Path, own_groups: list[Path], link: Sequence[socket.socket]) -> subprocess.Popen[bytes]:
    namespaces = "--net --mount --pid --cgroup --ipc --uts --fork --kill-child --mount-proc"
    # Process 1 is a shell that ends with the server. It reaps orphans, as an init must: a command in a machine whose
    # nsenter was killed would else stay as a zombie, and the kernel ends no machine before all in it are reaped.
    server = ["/bin/sh", "-c", '"$@"; exit', "sh", sys.executable, "-m", "localcloud.server", str(directory)]
    return _start_in(own_groups, directory, ["unshare", *namespaces.split(), *server], link)


def _start_in(
    entered: list[Path], directory: Path, command: list[str], link: Sequence[socket.socket]
) -> subprocess.Popen[bytes]:
    """Start a process in these control groups, so that `down` can't miss it; a socket that it inherits comes last."""
    handles = [end.fileno() for end in link]
    # Nothing of the caller's AWS_*, proxies or Python settings reaches the server.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "LANG": "C.UTF-8",
        "HOME": "/root",
        # moto reads these when it is imported.
        "MOTO_ACCOUNT_ID": ACCOUNT,
        "MOTO_ENABLE_AMI_VALIDATION": "true",
        "MOTO_ENABLE_KEYPAIR_VALIDATION": "true",
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        "MOTO_DISABLE_GLOBAL_CORS": "true",
    }
    with (directory / "server.log").open("ab") as log:
        child = subprocess.Popen(
            cgroups.entering(entered, [*command, *map(str, handles)]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
            pass_fds=handles,
        )
    _children.setdefault(directory, []).append(child)
    return child


def _wait_until_unshared(child: subprocess.Popen[bytes], directory: Path) -> None:
    ours = Path("/proc/self/ns/net").readlink()

    def unshared() -> bool:
        try:
            return Path(f"/proc/{child.pid}/ns/net").readlink() != ours
        except OSError:
            return False  # between fork and exec

    if not wait_for(lambda: child.poll() is not None or unshared(), READY_SECONDS, 0.002) or child.poll() is not None:
        raise _failed("its namespaces were never made", directory)


def _wait_until_ready(child: subprocess.Popen[bytes], directory: Path) -> None:
    ready = directory / "ready"
    if not wait_for(lambda: ready.exists() or child.poll() is not None, READY_SECONDS):
        raise _failed(f"it was not ready after {READY_SECONDS:.0f} s", directory)
    if not ready.exists():
        raise _failed(f"its server ended with exit code {child.returncode}", directory)


def _failed(what: str, directory: Path) -> Error:
    log = directory / "server.log"
    tail = log.read_text(errors="replace").splitlines()[-25:] if log.exists() else []
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
    remaining = [f"process {pid}" for pid in cgroups.kill_all(own_groups)]
    for child in children:
        child.wait()
    remaining += [f"loop device {device}" for device in volumes.wait_until_released(directory)]
    addresses.delete_link(link_name(directory))
    binfmt.unregister(binfmt.entry_name(cgroups.group_name(directory)))
    remaining += [f"control group {group}" for group in cgroups.remove(own_groups)]
    if directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError as error:
            remaining.append(f"directory {directory} ({error})")
    if remaining:
        raise Error(
            f"something of the local cloud {directory.name} is still here",
            code="clean-up-failed",
            expected="nothing",
            found=", ".join(remaining),
        )
