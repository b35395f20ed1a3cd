"""The network inside the cloud: bridge, rules, DHCP and DNS; and one network namespace per machine.

A machine's interface is called ens5 as in EC2 and has an EC2-like MAC. Each machine gets a network namespace that is
wired before it starts: systemd-nspawn's own --network-interface was rejected because two machines can't start at once
with interfaces of the same name, and because the interface falls back into the cloud's namespace when a machine ends.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from localcloud.net.outside import packages_name
from localcloud.settings import Cloud
from support.errors import Error
from support.process import run
from support.waiting import wait_for

METADATA = "169.254.169.254"
RESOLVER = "169.254.169.253"
_BRIDGE = "br0"
_UPLINK = "uplink"
_HOSTS = Path("/run/dhcp-hosts")

# Machines reach the cloud's services and each other; the host reaches machines; nothing else is forwarded. "reject"
# rather than "drop": a program without egress hears so at once, as from a subnet without a NAT gateway it would not,
# but a rehearsal that hangs teaches nobody anything.
_RULES = """
table inet localcloud {{
  chain input {{
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iifname "lo" accept
    iifname "{uplink}" tcp dport 5000 accept
    iifname "{uplink}" icmp type echo-request accept
    iifname "{bridge}" udp dport {{ 53, 67 }} accept
    iifname "{bridge}" tcp dport 53 accept
    iifname "{bridge}" ip daddr {gateway} tcp dport 443 accept
    iifname "{bridge}" ip daddr {metadata} tcp dport 80 accept
{egress}    iifname "{bridge}" ip daddr {gateway} icmp type echo-request accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "{uplink}" oifname "{bridge}" ip saddr {host} accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }}
}}
"""
_EGRESS_RULE = '    iifname "{bridge}" ip daddr {address} tcp dport {{ 80, 443 }} accept\n'


@dataclass(frozen=True)
class Interface:
    """A machine's interface: its address, MAC, host name, and the network namespace it is in."""

    address: str
    mac: str
    hostname: str
    namespace: Path


def wait_for_uplink(patience: float = 30.0) -> None:
    """Wait until `control.up` has handed over the cloud's end of the link. Raises `machine-failed`."""
    if not wait_for(lambda: _UPLINK in dict(socket.if_nameindex()).values(), patience, 0.002):
        raise Error(
            "the link to the host never came",
            code="machine-failed",
            expected=f"an interface {_UPLINK}",
            found="none",
        )


def set_up(cloud: Cloud, *, egress: bool) -> None:
    """Wire the cloud's namespace: loopback, link, bridge with the cloud's addresses, and the rules.

    With `egress` there is one more address on the bridge, where the egress proxy listens (egress.py). Nothing is
    forwarded there either.
    """
    rule = _EGRESS_RULE.format(bridge=_BRIDGE, address=cloud.egress_address) if egress else ""
    run(["nft", "-f", "-"], input=_RULES.format(uplink=_UPLINK, bridge=_BRIDGE, gateway=cloud.gateway,
                                                metadata=METADATA, host=cloud.host_address, egress=rule))  # fmt: skip
    run(
        ["ip", "-batch", "-"],
        input=f"link set lo up\n"
        # With an address of its own: a bridge else takes the lowest of its ports', and when that machine comes or goes,
        # the others send to an address that nobody has any more, until their ARP entries have aged.
        f"link add {_BRIDGE} address {_mac(cloud.gateway)} type bridge\n"
        f"link set {_BRIDGE} addrgenmode none\n"
        f"address add {cloud.gateway}/24 dev {_BRIDGE}\n"
        f"address add {METADATA}/32 dev {_BRIDGE}\n"
        f"address add {RESOLVER}/32 dev {_BRIDGE}\n"
        + (f"address add {cloud.egress_address}/32 dev {_BRIDGE}\n" if egress else "")
        + f"link set {_BRIDGE} up\n"
        f"address add {cloud.link_address}/30 dev {_UPLINK}\n"
        f"link set {_UPLINK} up\n",
    )
    # /proc/sys belongs to this network namespace alone.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _name_options(cloud: Cloud, egress: bool) -> list[str]:
    """Return dnsmasq's options for names; the longest name that fits counts."""
    aws = f"--address=/amazonaws.com/{cloud.gateway}"
    if not egress:
        # Every AWS name is the cloud; every other name is refused at once, without asking anybody.
        return [aws, "--address=/#/"]
    # Every other name leads to the egress proxy, which asks the host; only names that DHCP has given are machines'.
    names = (packages_name(cloud.region), "#")
    return [aws, *(f"--address=/{name}/{cloud.egress_address}" for name in names), "--local=/compute.internal/"]


def start_dnsmasq(cloud: Cloud, *, egress: bool) -> subprocess.Popen[bytes]:
    """Start DHCP and DNS for the machines, and return once it answers. Raises `machine-failed`."""
    _HOSTS.mkdir()
    network, _, _ = cloud.subnet.rpartition("/")
    child = subprocess.Popen(
        [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=",
            f"--interface={_BRIDGE}", "--bind-interfaces", "--except-interface=lo",
            f"--dhcp-range={network},static,255.255.255.0,infinite", f"--dhcp-hostsdir={_HOSTS}",
            "--dhcp-leasefile=/run/dnsmasq.leases", "--dhcp-authoritative", "--no-ping",
            f"--dhcp-option=option:router,{cloud.gateway}", f"--dhcp-option=option:dns-server,{RESOLVER}",
            f"--domain={cloud.region}.compute.internal",
            "--no-resolv", "--no-hosts", *_name_options(cloud, egress), "--quiet-dhcp", "--local-ttl=60",
        ],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((cloud.gateway, 53)) == 0

    if wait_for(lambda: child.poll() is not None or answers(), 10) and child.poll() is None:
        return child
    child.kill()
    raise Error(
        "dnsmasq did not start",
        code="machine-failed",
        expected="a name server on the bridge",
        found="its message is above",
    )


# The last parts of machines' addresses.
_NUMBERS = range(10, 250)


class AddressRefused(Error):
    """No address, or not the one that was asked for; `aws_code` is what EC2 calls it."""

    def __init__(self, summary: str, aws_code: str, found: str) -> None:
        super().__init__(summary, code="machine-failed", expected="a free address of the machines'", found=found)
        self.aws_code = aws_code


class Interfaces:
    """Hands out addresses of the machines' subnet, each with its wiring, and takes them back."""

    def __init__(self, cloud: Cloud) -> None:
        self._prefix = cloud.subnet.rpartition(".")[0]
        self._used: set[int] = set()
        # Never the address that was freed last: what still talks to a dead machine must not reach a new one.
        self._next = itertools.cycle(_NUMBERS)
        self._lock = threading.Lock()

    @property
    def room(self) -> int:
        """How many more machines can have an address."""
        return len(_NUMBERS) - len(self._used)

    def take(self, name: str, wanted: str | None = None) -> Interface:
        """Choose an address (or take the one wanted) and a MAC for the machine `name`. Raises AddressRefused."""
        with self._lock:
            number = self._choose() if wanted is None else self._number(wanted)
            self._used.add(number)
        address = f"{self._prefix}.{number}"
        return Interface(address, _mac(address), "ip-" + address.replace(".", "-"), Path("/run/netns") / name)

    def _choose(self) -> int:
        number = next((one for one in itertools.islice(self._next, len(_NUMBERS)) if one not in self._used), None)
        if number is None:
            raise AddressRefused(
                "no address is left for another machine",
                "InsufficientFreeAddressesInSubnet",
                f"{len(self._used)} in use",
            )
        return number

    def _number(self, wanted: str) -> int:
        prefix, _, last = wanted.rpartition(".")
        if prefix != self._prefix or int(last) not in _NUMBERS:
            raise AddressRefused(
                f"The local cloud has one network, {self._prefix}.0/24: no machine can have the address {wanted}.",
                "UnsupportedOperation",
                wanted,
            )
        if int(last) in self._used:
            raise AddressRefused(f"Address {wanted} is in use.", "InvalidIPAddress.InUse", wanted)
        return int(last)

    def give_back(self, interface: Interface) -> None:
        """Free an address that `take` gave."""
        self._used.discard(int(interface.address.rpartition(".")[2]))


def _mac(address: str) -> str:
    """Return the MAC that goes with an address: a locally administered one, as EC2's begin."""
    return "06:ec:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def outer_name(interface: Interface) -> str:
    """Return the name of an interface's end on the cloud's side."""
    return "m" + interface.namespace.name[-12:]


def connect(interface: Interface) -> None:
    """Make the machine's network namespace with ens5 in it, wired to the bridge, and tell DHCP about it."""
    name, outer = interface.namespace.name, outer_name(interface)
    _lease(interface)
    run(
        ["ip", "-batch", "-"],
        input=f"netns add {name}\n"
        f"link add {outer} type veth peer name ens5 address {interface.mac} netns {name}\n"
        f"link set {outer} addrgenmode none\n"
        f"link set {outer} master {_BRIDGE} up\n",
    )


def connect_tap(interface: Interface) -> None:
    """Wire a machine with a kernel of its own to the bridge, by a tap device, and tell DHCP about it.

    Its name on the cloud's side is `outer_name`; inside, the machine's kernel and udev name it.
    """
    _lease(interface)
    outer = outer_name(interface)
    run(
        ["ip", "-batch", "-"],
        input=f"tuntap add dev {outer} mode tap\n"
        f"link set {outer} addrgenmode none\n"
        f"link set {outer} master {_BRIDGE} up\n",
    )


def _lease(interface: Interface) -> None:
    lease = f"{interface.mac},{interface.address},{interface.hostname},infinite\n"
    (_HOSTS / interface.namespace.name).write_text(lease)


def disconnect(interface: Interface) -> None:
    """Undo `connect` or `connect_tap`; quiet when it was undone before."""
    run(["ip", "link", "delete", "dev", outer_name(interface)], check=False)
    run(["ip", "netns", "delete", interface.namespace.name], check=False)
    (_HOSTS / interface.namespace.name).unlink(missing_ok=True)
