"""Each sandbox of our units as it ships, whole, with a program in it that tries what the sandbox is there to refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from tests.support import ROOT
from tests.support.machines.image import ImageLab
from zmanim_ami.gate.units.addresses import ADDRESSES, MAY_ASK
from zmanim_ami.pipeline.shipped.install import FILES
from zmanim_ami.pipeline.shipped.unit_files import Unit, read, units

# Tries one thing after the other, each in a child, because a filter of system calls kills; prints what became of each.
_PROGRAM = """
import ctypes, errno, json, mmap, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
# By number, where libc would refuse the argument before the kernel is asked (asm/unistd.h).
INIT_MODULE, CLOCK_SETTIME = {"x86_64": (175, 227), "aarch64": (105, 112)}[os.uname().machine]
addresses, disk = sys.argv[1:3], sys.argv[3]
def call(name, *arguments, reached=()):
    if getattr(libc, name)(*arguments) < 0 and ctypes.get_errno() not in reached:
        raise OSError(ctypes.get_errno(), name)
def send(address):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (address, 80))
def write(path):
    open(path, "w").close()
    os.unlink(path)
def setuid_bit():
    os.fchmod(os.memfd_create("probe"), 0o4755)
def new_privileges():
    if "NoNewPrivs:\\t1" in open("/proc/self/status").read():
        raise OSError(errno.EPERM, "no new privileges")
# What only an argument refuses has got through: EINVAL and the like.
tried = {
    "disk": lambda: open(disk, "rb").close(),
    "kernel log": lambda: open("/dev/kmsg", "rb").close(),
    "console": lambda: os.close(os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY)),
    "tunables": lambda: open("/proc/sys/vm/swappiness", "r+").close(),
    "control groups": lambda: open("/sys/fs/cgroup/cgroup.subtree_control", "r+").close(),
    "system files": lambda: write("/usr/probe"),
    "home": lambda: write("/root/probe"),
    "namespaces": lambda: call("unshare", 0x04000000),
    "written and run": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "swap": lambda: call("swapoff", b"/nowhere", reached=(errno.ENOENT,)),
    "modules": lambda: call("syscall", INIT_MODULE, 0, 0, b"", reached=(errno.ENOEXEC, errno.EFAULT)),
    "clock": lambda: call("syscall", CLOCK_SETTIME, 0, struct.pack("=qq", 0, -1), reached=(errno.EINVAL,)),
    "host name": lambda: socket.sethostname(socket.gethostname()),
    "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "setuid bit": setuid_bit,
    "personality": lambda: call("personality", 8),
    "new privileges": new_privileges,
    "ownership": lambda: os.fchown(os.memfd_create("probe"), 65534, 65534),
    **{address: lambda address=address: send(address) for address in addresses},
}
def attempt(function):
    child = os.fork()
    if not child:
        code = 0
        try:
            function()
        except OSError as error:
            code = error.errno
        except BaseException:
            code = 255
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "passes" if not status else "killed" if status < 0 else errno.errorcode.get(status, str(status))
print(json.dumps({name: attempt(function) for name, function in tried.items()}))
"""
# What each line has to refuse. The address filters, and devices, are looked at apart: they also let something pass.
_REFUSES: Mapping[str, tuple[str, ...]] = {
    "PrivateDevices=yes": ("disk", "kernel log"),
    "DevicePolicy=closed": ("kernel log",),
    "ProtectKernelTunables=yes": ("tunables",),
    "ProtectKernelModules=yes": ("modules",),
    "ProtectKernelLogs=yes": ("kernel log",),
    "ProtectControlGroups=yes": ("control groups",),
    "ProtectClock=yes": ("clock",),
    "ProtectHostname=yes": ("host name",),
    "ProtectSystem=strict": ("system files",),
    "ProtectHome=yes": ("home",),
    "PrivateNetwork=yes": ADDRESSES,
    "RestrictNamespaces=yes": ("namespaces",),
    "RestrictRealtime=yes": ("real time",),
    "RestrictSUIDSGID=yes": ("setuid bit",),
    "LockPersonality=yes": ("personality",),
    "MemoryDenyWriteExecute=yes": ("written and run",),
    "NoNewPrivileges=yes": ("new privileges",),
    "CapabilityBoundingSet=": ("ownership",),
}
# Lines of a sandbox; what else a unit says (whose it is, when it ends) is not copied.
_SANDBOX = (
    "IPAddress", "Device", "Private", "Protect", "Restrict", "Capability", "SystemCall", "MemoryDeny", "NoNew", "Lock",
    "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "TemporaryFileSystem", "Bind",
)  # fmt: skip
# Which of them are not tried here, and why.
_NOT_TRIED: Mapping[str, str] = {
    "PrivateTmp": "a place of its own, and nothing that is refused",
    "PrivateUsers": "that its users are nobody's elsewhere, no refusal of its own",
    "ProtectProc": "hides from users, and the program is root",
    "SystemCallArchitectures": "needs a program of another architecture",
    "ProtectKernelTunables": "=no, of the one that writes one",
    "ReadWritePaths": "lets pass",
    "ReadOnlyPaths": "below what ProtectSystem=strict refuses already",
    "InaccessiblePaths": "tried by tests of what lies there",
    "BindsTo": "orders, and is no sandbox",
}


def sandboxed_units() -> list[Unit]:
    """Return our services, each with what a drop-in of ours adds to it."""
    everywhere = read(ROOT, FILES / "zmanim-sandbox.conf").directives
    return [
        Unit(unit.path, (*unit.directives, *(everywhere if unit.name.startswith("zmanim-") else ())))
        for unit in units(ROOT)
        if unit.path.suffix == ".service"
    ]


def lines(unit: Unit) -> list[str]:
    """Return the lines of a unit's sandbox as they ship."""
    return [f"{each.name}={each.value}" for each in unit.directives if each.name.startswith(_SANDBOX)]


def untried(unit: Unit) -> Iterator[str]:
    """Yield the lines of a unit's sandbox of which nothing is expected, and without a reason for that."""
    expected = ("IPAddressDeny", "IPAddressAllow", "DeviceAllow", "RestrictAddressFamilies", "SystemCallFilter")
    for line in lines(unit):
        name = line.partition("=")[0]
        if name not in (*expected, "CapabilityBoundingSet", *_NOT_TRIED) and line not in _REFUSES:
            yield line


def refused_by(unit: Unit) -> set[str]:
    """Return what a unit's lines have to refuse, by the names in _PROGRAM."""
    refused = {each for line in lines(unit) for each in _REFUSES.get(line, ())}
    if unit.last("DevicePolicy") == "closed" and "block-*" not in unit.words("DeviceAllow"):
        refused.add("disk")
    if unit.name not in MAY_ASK:
        refused |= set(ADDRESSES)
    if unit.every("RestrictAddressFamilies"):
        refused.add("packets")
    if unit.every("SystemCallFilter"):
        refused.add("swap")
    return refused


def let_pass_by(unit: Unit) -> set[str]:
    """Return what a unit's own lines have to let pass: its devices, and the way to the metadata service."""
    devices = {"block-*": "disk", "/dev/console": "console"}
    passing = {devices[word] for word in unit.words("DeviceAllow") if word in devices}
    return passing | ({ADDRESSES[0]} if unit.name in MAY_ASK else set())


def try_all(images: ImageLab, machine: str) -> dict[str, dict[str, str]]:
    """Return what became of each attempt, by unit and then by its name in _PROGRAM; "" is one without a sandbox."""
    disk = images.run(machine, "findmnt --noheadings --output SOURCE /data")
    command = f"/usr/bin/python3 /run/probe/program.py {' '.join(ADDRESSES)} {disk}"
    files = {"/run/probe/program.py": _PROGRAM}
    names = {_probe(unit.name): unit.name for unit in sandboxed_units()} | {"probe": ""}
    for unit in (*sandboxed_units(), Unit(FILES / "nothing.service", ())):
        # Whoever owns files and has no capability may do with them what their owner may: nothing but a sandbox refuses.
        body = ["[Service]", "Type=oneshot", f"ExecStart={command}", "StandardOutput=file:/run/probe/%p", *lines(unit)]
        probe = _probe(unit.name) if unit.directives else "probe"
        files[f"/run/systemd/system/{probe}.service"] = "\n".join(body) + "\n"
    images.run(machine, "ip -6 address replace fd00:ec2::1/64 dev ens5 nodad; mkdir -p /run/probe /var/cache/restic")
    write = "import json, sys; [open(path, 'w').write(text) for path, text in json.load(sys.stdin).items()]"
    images.enter(machine, ["python3", "-c", write], input=json.dumps(files))
    services = " ".join(f"{probe}.service" for probe in names)
    images.run(machine, f"systemctl daemon-reload; systemctl start {services}")
    written = images.run(machine, f"cd /run/probe; for each in {' '.join(names)}; do cat $each; done").splitlines()
    images.run(machine, f"cd /run/systemd/system; rm -r {services} /run/probe; systemctl daemon-reload")
    return {name: json.loads(line) for name, line in zip(names.values(), written, strict=True)}


def _probe(unit: str) -> str:
    """Name a unit so that drop-ins for units whose names begin like the one that it stands for are read for it, too."""
    return f"{unit.removesuffix('.service').rstrip('@')}-probe"
