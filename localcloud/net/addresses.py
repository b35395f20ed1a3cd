"""The link between host and cloud: which subnets are free, and the host's half of the wiring.

The link is reserved by making it, under a lock that every cloud of this host takes, so that two clouds that start at
once never take the same subnet.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from localcloud.settings import Cloud
from support.errors import HostLacks
from support.host import search_path
from support.process import run

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# A route this wide (a VPN's 10.0.0.0/8, say) is shadowed by our narrower ones; avoiding it would leave nothing.
_TOO_WIDE_TO_AVOID = 16


def subnets(index: int) -> tuple[ipaddress.IPv4Network, ipaddress.IPv4Network]:
    """Return the link's /30 and the machines' /24 for an index from 0 to 255."""
    return ipaddress.IPv4Network(f"10.212.{index}.0/30"), ipaddress.IPv4Network(f"10.213.{index}.0/24")


def pick_index(taken: Iterable[Network]) -> int:
    """Return the lowest index whose subnets overlap none of `taken` (the host's addresses and routes).

    Raises `no-subnet-free`.
    """
    obstacles = [network for network in taken if network.version == 4 and network.prefixlen >= _TOO_WIDE_TO_AVOID]
    for index in range(256):
        if not any(mine.overlaps(other) for mine in subnets(index) for other in obstacles):
            return index
    raise HostLacks(
        "no subnet is left for another cloud",
        code="no-subnet-free",
        expected="one N with 10.212.N.0/30 and 10.213.N.0/24 unused",
        found="addresses or routes of this host in all 256 of them",
        fix="take down clouds that are no longer needed",
    )


def taken_networks() -> list[Network]:
    """Return every network that this host has an address in or a route to, but for its default route."""
    addresses = json.loads(run(["ip", "-json", "-4", "address"]).stdout or "[]")
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout or "[]")
    networks = [f"{info['local']}/{info['prefixlen']}" for link in addresses for info in link.get("addr_info", [])]
    networks += [route["dst"] for route in routes if route["dst"] != "default"]
    return [ipaddress.ip_network(text, strict=False) for text in networks]


def peer_name(link: str) -> str:
    """Name the cloud's end of the link while it is still on the host."""
    return link.replace("lc", "lp", 1)


@contextmanager
def reserved_index() -> Iterator[int]:
    """Give a free index; keep it from others until the block ends, by when `make_link` must have been called."""
    # A lock on a directory that every host has: nothing is left behind, and the kernel frees it when we die.
    handle = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield pick_index(taken_networks())
    finally:
        os.close(handle)


# Root in a machine is root of the host, so nobody else on this host gets as far as a machine or the API: neither by a
# socket of another user nor by a packet that the host forwards (a container's, a neighbour's in its network).
# nft adds to a table that is there: one that was left behind (a kill between the deletions below) would keep its users
# beside the new ones, and shut both out. So it is made, if need be, to be deleted.
_RULES = """
table inet {link}
delete table inet {link}
table inet {link} {{
  chain output {{
    type filter hook output priority 0; policy accept;
    oifname "{link}" meta skuid != {{ {users} }} drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    oifname "{link}" drop
  }}
}}
"""


def owners(environ: Mapping[str, str]) -> set[int]:
    """Return the user ids whose processes may reach the cloud: root, and who has become root by sudo."""
    caller = environ.get("SUDO_UID", "")
    return {os.geteuid(), *([int(caller)] if caller.isdecimal() else [])}


def rules(link: str, users: Iterable[int]) -> str:
    """Return what nft reads to close a link to all users of this host but these, whatever was left behind of it."""
    return _RULES.format(link=link, users=", ".join(map(str, sorted(users))))


def make_link(cloud: Cloud) -> None:
    """Make the link with both ends on the host, the host's address on it, and the route to the machines.

    It is closed to the host's other users before it is there.
    """
    link, peer = cloud.link, peer_name(cloud.link)
    run(_nft("-f", "-"), input=rules(link, owners(os.environ)))
    # -batch: one process for five changes. addrgenmode none keeps IPv6 away from the link.
    run(
        ["ip", "-batch", "-"],
        input=f"link add {link} type veth peer name {peer}\n"
        f"link set {link} addrgenmode none\n"
        f"address add {cloud.host_address}/30 dev {link}\n"
        f"link set {link} up\n"
        f"route add {cloud.subnet} via {cloud.link_address} dev {link}\n",
    )


def hand_over_link(link: str, pid: int) -> None:
    """Move the cloud's end of the link into the network namespace of process `pid`, where it is called uplink."""
    run(["ip", "link", "set", peer_name(link), "netns", str(pid), "name", "uplink"])


def _nft(*arguments: str) -> list[str]:
    return [shutil.which("nft", path=search_path()) or "nft", *arguments]


def link_exists(link: str) -> bool:
    """Say whether this host has an interface of that name."""
    return run(["ip", "link", "show", "dev", link], check=False).returncode == 0


def delete_link(link: str) -> None:
    """Delete the link if it is there; its other end, address and route go with it, and then the rules about it."""
    for name in (link, peer_name(link)):
        run(["ip", "link", "delete", "dev", name], check=False)
    if shutil.which("nft", path=search_path()):  # without it there never was a cloud
        run(_nft("delete", "table", "inet", link), check=False)
