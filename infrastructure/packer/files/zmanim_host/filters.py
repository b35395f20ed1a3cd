"""Whether the filters of addresses and devices that our services ask for are in force.

They are BPF programs on a service's control group (IPAddressDeny=, DevicePolicy=). Where the kernel refuses one,
systemd starts the service without it and only logs that; in a container it does not even do so. So the kernel is asked.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.host import ANSWER_SECONDS, HostError, log, run

CGROUPS = Path("/sys/fs/cgroup")
# Where our units and our drop-ins to others' are.
OURS = "/etc/systemd/system/"
# linux/bpf.h: the command, and where programs are attached to a control group.
_PROG_QUERY = 16
INGRESS, EGRESS, DEVICE = 0, 1, 6
# asm/unistd.h
_SYSTEM_CALL = {"x86_64": 321, "aarch64": 280}
_PROPERTIES = "Id,FragmentPath,DropInPaths,ControlGroup,IPAddressDeny,DevicePolicy"
# What PID 1 says of a filter that it could not put in force, from systemd 252 to 257.
_REFUSED = re.compile(r"bpf-firewall|bpf-devices|IP firewall|BPF firewall|device control BPF", re.IGNORECASE)

# Returns how many programs are attached to a control group, given as its descriptor, at one place.
Count = Callable[[int, int], int]


@dataclass(frozen=True)
class Service:
    """A service of ours that runs, its control group below CGROUPS, and where programs have to be attached to it."""

    name: str
    group: str
    places: tuple[int, ...]


def attached(group: int, place: int) -> int:
    """Return how many BPF programs are attached to a control group (a descriptor) at `place`. Raises HostError."""
    number = _SYSTEM_CALL.get(platform.machine())
    if number is None:
        raise HostError(f"how to ask the kernel for filters on {platform.machine()} is not known")
    # target_fd, attach_type, query_flags, attach_flags, prog_ids, prog_cnt; the kernel takes what follows as 0.
    query = ctypes.create_string_buffer(struct.pack("=IIIIQI", group, place, 0, 0, 0, 0), 128)
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(number, _PROG_QUERY, query, len(query)) != 0:
        raise HostError(f"the kernel does not say which filters are in force: {os.strerror(ctypes.get_errno())}")
    (count,) = struct.unpack_from("=I", query.raw, 24)
    return int(count)


def services(shown: str) -> Iterator[Service]:
    """Yield the services of ours that run and ask for a filter, from what `systemctl show` says of every service."""
    for block in shown.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if OURS not in f"{values.get('FragmentPath', '')} {values.get('DropInPaths', '')}":
            continue
        places = _places(values)
        if values.get("ControlGroup") and places:
            yield Service(values["Id"], values["ControlGroup"], places)


def _places(values: Mapping[str, str]) -> tuple[int, ...]:
    addresses = (INGRESS, EGRESS) if values.get("IPAddressDeny") else ()
    devices = (DEVICE,) if values.get("DevicePolicy", "auto") != "auto" else ()
    return (*addresses, *devices)


def unfiltered(service: Service, count: Count = attached, groups: Path = CGROUPS) -> list[str]:
    """Return which filters a service runs without; none when it has ended meanwhile. Raises HostError."""
    try:
        group = os.open(groups / service.group.lstrip("/"), os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return []
    try:
        missing = [place for place in service.places if not count(group, place)]
    finally:
        os.close(group)
    names = {INGRESS: "addresses", EGRESS: "addresses", DEVICE: "devices"}
    return sorted({names[place] for place in missing})


def check(shown: str, journal: str, count: Count = attached, groups: Path = CGROUPS) -> list[str]:
    """Return the names of the running services whose filters are in force; HostError names those that run without.

    `journal` is what PID 1 warned of in this boot: of a service that has ended, nothing else can tell.
    """
    running = list(services(shown))
    missing = {service.name: unfiltered(service, count, groups) for service in running}
    problems = [f"{name} runs without its filter of {' and '.join(what)}" for name, what in missing.items() if what]
    problems += [line.strip() for line in journal.splitlines() if _REFUSED.search(line)]
    if not running:
        problems.append("no service of ours asks for a filter")
    if problems:
        raise HostError(f"not every service is held to what its unit says: {'; '.join(dict.fromkeys(problems))}")
    return [service.name for service in running]


def command() -> None:
    """See that the filters of addresses and devices that our services ask for are in force."""
    shown = run(["systemctl", "show", f"--property={_PROPERTIES}", "*.service"], timeout=ANSWER_SECONDS).stdout
    warnings = ["journalctl", "--boot", "--priority=warning", "--output=cat", "--no-pager", "--quiet", "_PID=1"]
    names = check(shown, run(warnings, timeout=ANSWER_SECONDS).stdout)
    log(f"filters are in force for {', '.join(names)}")
