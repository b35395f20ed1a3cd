"""Which ports a machine has open, seen from its network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.machines.image import ImageLab

# No machine of a cloud has an IPv6 address by itself: for a while the bridge is given one, and the machine.
_BRIDGE, _HERE, _THERE = "br0", "fd00:5ca1::1", "fd00:5ca1::2"
# SSH and the API, as docs/security.md says.
MEANT = {22, 8080}
EVERY = range(1, 65536)
# No answer is no "closed": a closed port refuses.
_SCAN = """
import errno, socket, sys
from concurrent.futures import ThreadPoolExecutor
address, ports = sys.argv[1], range(int(sys.argv[2]), int(sys.argv[3]))
def is_open(port):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.settimeout(30)
        code = probe.connect_ex((address, port))
    if code not in (0, errno.ECONNREFUSED):
        raise SystemExit(f"port {port} of {address}: {errno.errorcode.get(code, code)}")
    return code == 0
with ThreadPoolExecutor(32) as pool:
    print(*(port for port, found in zip(ports, pool.map(is_open, ports)) if found))
"""


def open_ports(address: str, ports: range = EVERY, enter: Sequence[str] = ()) -> set[int]:
    """Return which TCP ports of an address can be connected to, asked from where the command `enter` leads."""
    scan = [*enter, sys.executable, "-c", _SCAN, address, str(ports.start), str(ports.stop)]
    done = subprocess.run(scan, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {int(word) for word in done.stdout.split()}


def expect_only_meant_to_listen(images: ImageLab, machine: str) -> None:
    """By its own word (ss), only SSH and the API listen to others, on both families; no UDP but the DHCP client's."""
    listed = [line.split() for line in images.run(machine, "ss --listening --tcp --numeric --no-header").splitlines()]
    to_all = {fields[3].rpartition(":")[2] for fields in listed if not fields[3].startswith("127.")}
    assert to_all == {str(port) for port in MEANT}
    udp = [line.split() for line in images.run(machine, "ss --listening --udp --numeric --no-header").splitlines()]
    # Port 68 is the DHCP client's own.
    assert {fields[3].rpartition(":")[2] for fields in udp if not fields[3].startswith(("127.", "[::1]"))} <= {"68"}


@contextmanager
def by_ipv6(images: ImageLab, machine: str) -> Iterator[tuple[list[str], str]]:
    """Give a machine an IPv6 address; yield the command that leads to where it can be reached from, and the address.

    Neighbours are told of each other by hand: the cloud's rules let no neighbour discovery through.
    """
    enter = images.inside("net")
    mac = images.run(machine, "cat /sys/class/net/ens5/address")
    bridge = [*enter, "ip", "-json", "link", "show", _BRIDGE]
    bridges = json.loads(subprocess.run(bridge, capture_output=True, text=True, check=True).stdout)[0]["address"]
    come = f"address replace {_HERE}/64 dev {_BRIDGE} nodad\nneigh replace {_THERE} lladdr {mac} dev {_BRIDGE}\n"
    subprocess.run([*enter, "ip", "-6", "-batch", "-"], input=come, text=True, check=True)
    try:
        images.run(
            machine,
            f"ip -6 address replace {_THERE}/64 dev ens5 nodad; ip -6 neigh replace {_HERE} lladdr {bridges} dev ens5",
        )
        yield enter, _THERE
        images.run(machine, f"ip -6 address delete {_THERE}/64 dev ens5")
    finally:
        subprocess.run([*enter, "ip", "-6", "address", "delete", f"{_HERE}/64", "dev", _BRIDGE], check=True)
