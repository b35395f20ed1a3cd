"""Who may ask the metadata service: it gives the instance's role, and with it every secret and all backups, to whoever
can reach it.

So every service of ours, and every other one that our preset enables, has no way to it, by its unit or by a drop-in;
but for those that stand here, each with its reason. What Amazon Linux enables by itself is not looked at.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from zmanim_ami.gate.finding import Finding
from zmanim_ami.pipeline.shipped.install import FILES, installed
from zmanim_ami.pipeline.shipped.unit_files import DIRECTORY, PRESET, Unit, enabled_units, read, units

# The metadata service's two addresses (EC2 User Guide, "Access instance metadata").
ADDRESSES = ("169.254.169.254", "fd00:ec2::254")
MAY_ASK: Mapping[str, str] = {
    "zmanim-data-volume.service": "whether the launch consents to formatting a blank volume",
    "zmanim-environment.service": "which environment the launch says",
    "zmanim-power-off.service": "what the launch wants done with a machine that is not ready",
    "zmanim-secrets.service": "the role, for Parameter Store",
    "zmanim-release-fetch.service": "the role, for the release channel",
    "restic-backup.service": "the role, for the backups' bucket",
    "backup-drill.service": "the role, for the backups' bucket",
    "backup-proof.service": "the role, for the backups' bucket",
    "backup-notify@.service": "the role, for mail by SES",
    "backup-notify-retry.service": "the role, for mail by SES",
    "zmanim-metrics.service": "the role, for metrics",
    "amazon-ssm-agent.service": "the role, for Session Manager and Run Command",
    "amazon-cloudwatch-agent.service": "the role, for logs and metrics",
    "sshd.service": "the keys of EC2 Instance Connect, while somebody logs in",
}
# Which user those of them become that root starts and that can become another (CAP_SETUID).
BECOMES: Mapping[str, str] = {
    "backup-drill.service": "zmanim-backup",
    "backup-proof.service": "zmanim-backup",
}
# What systemd.resource-control(5) has words for.
_WORDS = {
    "any": ("0.0.0.0/0", "::/0"),
    "localhost": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/64"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
}


def check(tree: Path) -> list[Finding]:
    """Return which services could ask the metadata service and need not, and what the list says in vain."""
    ours = {unit.name: unit for unit in units(tree) if unit.path.suffix == ".service"}
    foreign = [name for name in enabled_units(tree) if name.endswith(".service") and name not in ours]
    dropped = _drop_ins(tree)
    findings = [finding for unit in ours.values() for finding in _judge(unit.name, [unit, *dropped.get(unit.name, [])])]
    for name in foreign:
        if name in dropped or name in MAY_ASK:
            findings += _judge(name, dropped.get(name, []))
        else:
            findings.append(Finding(str(PRESET), 0, f"enables {name}, which {_reaches(ADDRESSES)}"))
    findings += _shared_users(ours.values())
    unknown = sorted(MAY_ASK.keys() - ours.keys() - set(foreign))
    return findings + [Finding("", 0, f"{name} may ask the metadata service, and is no service") for name in unknown]


def _shared_users(ours: Iterable[Unit]) -> Iterator[Finding]:
    """Yield what may ask and shares a user with what may not: a process writes into another one of its own user."""
    others = {user: unit.name for unit in ours if unit.name not in MAY_ASK and (user := unit.last("User"))}
    for unit in (unit for unit in ours if unit.name in MAY_ASK):
        user = unit.last("User") or BECOMES.get(unit.name, "")
        bounded = any(each.name == "CapabilityBoundingSet" for each in unit.directives)
        capabilities = unit.words("CapabilityBoundingSet")
        if user in others:
            words = f"may ask the metadata service, and runs as {user}, as {others[user]} does, which may not"
            yield Finding(str(unit.path), unit.line("User"), words)
        elif not user and (not bounded or any(each == "CAP_SETUID" or each[0] == "~" for each in capabilities)):
            words = "may ask the metadata service, and become any user (CAP_SETUID): BECOMES in addresses.py says which"
            yield Finding(str(unit.path), unit.line("CapabilityBoundingSet"), words)


def _drop_ins(tree: Path) -> dict[str, list[Unit]]:
    """Return what of ours adds to single services, by their names."""
    result: dict[str, list[Unit]] = {}
    for each in installed(tree):
        folder = PurePosixPath(each.destination).parent
        if folder.parent == DIRECTORY and folder.name.endswith(".service.d") and "-." not in folder.name:
            result.setdefault(folder.name[: -len(".d")], []).append(read(tree, FILES / each.source))
    return result


def _judge(name: str, files: Sequence[Unit]) -> Iterator[Finding]:
    reached = [address for address in ADDRESSES if _reaches_address(files, address)]
    if name in MAY_ASK:
        if not reached:
            yield Finding(str(files[0].path), 0, f"{name} may ask the metadata service, and has no way to it")
    elif reached:
        line = files[0].line("IPAddressDeny")
        yield Finding(str(files[0].path), line, _reaches(reached))


def _reaches(addresses: Sequence[str]) -> str:
    return (
        f"reaches the metadata service, and by it the instance's role: IPAddressDeny={' '.join(addresses)}, or a place"
        " in MAY_ASK (zmanim_ami/gate/units/addresses.py) with its reason"
    )


def _reaches_address(files: Sequence[Unit], address: str) -> bool:
    # An allowed one wins, whatever the order.
    allowed, denied = (_holds(files, name, address) for name in ("IPAddressAllow", "IPAddressDeny"))
    return allowed or not denied


def _holds(files: Sequence[Unit], name: str, address: str) -> bool:
    # As one file: an empty value in a drop-in takes back what the unit says.
    whole = Unit(Path(), tuple(each for unit in files for each in unit.directives))
    words = whole.words(name)
    networks = [ipaddress.ip_network(each, strict=False) for word in words for each in _WORDS.get(word, (word,))]
    return any(ipaddress.ip_address(address) in network for network in networks)
