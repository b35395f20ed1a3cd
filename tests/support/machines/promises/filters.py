"""That the filters of our units are in force, tried from where they hold."""

from __future__ import annotations

import json

from tests.support import ROOT
from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for
from zmanim_ami.gate.units.addresses import ADDRESSES, MAY_ASK
from zmanim_ami.pipeline.shipped.unit_files import units

REFUSED = "Operation not permitted"
# Says of each address whether a packet may go there: a filter refuses it at once, and nobody has to answer.
_PROBE = """
import os, socket, sys
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(b"x", (address, 80))
            print(address, "passes")
        except OSError as error:
            print(address, error.strerror)
"""
# Takes the filter of outgoing addresses from a control group, as if the kernel had refused it (linux/bpf.h).
_TAKE_AWAY = """
import ctypes, os, platform, struct, sys
library = ctypes.CDLL(None, use_errno=True)
def bpf(command, content):
    given = ctypes.create_string_buffer(content, 128)
    result = library.syscall({"x86_64": 321, "aarch64": 280}[platform.machine()], command, given, 128)
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result, given.raw
group = os.open(sys.argv[1], os.O_RDONLY)
ids = (ctypes.c_uint * 8)()
_, answer = bpf(16, struct.pack("=IIIIQI", group, 1, 0, 0, ctypes.addressof(ids), 8))
for number in ids[: struct.unpack_from("=I", answer, 24)[0]]:
    program, _ = bpf(13, struct.pack("=I", number))
    bpf(9, struct.pack("=III", group, program, 1))
"""
_ENTER = "echo $$ >/sys/fs/cgroup/system.slice/{name}.service/cgroup.procs"


def expect_metadata_out_of_reach(images: ImageLab, machine: str) -> None:
    """No service reaches the metadata service but those that have to: tried from what runs and as each unit of ours."""
    addresses = " ".join(ADDRESSES)
    # Without it there is no way by IPv6 at all, and nothing would have to be refused.
    images.run(machine, "ip -6 address replace fd00:ec2::1/64 dev ens5 nodad; mkdir -p /run/probe")
    images.enter(machine, ["sh", "-c", "cat >/run/probe/probe.py"], input=_PROBE)
    every = {f"{address} passes" for address in ADDRESSES}
    assert set(images.run(machine, f"python3 /run/probe/probe.py {addresses}").splitlines()) == every
    # From within what runs.
    for name in ("zmanim-api", "redis", "postgresql"):
        enter = _ENTER.format(name=name)
        result = images.run(machine, f"{enter}; exec python3 /run/probe/probe.py {addresses} 127.0.0.1").splitlines()
        assert result[:2] == [f"{address} {REFUSED}" for address in ADDRESSES], name
        assert result[2] == f"127.0.0.1 {REFUSED if name == 'postgresql' else 'passes'}"
    # And from a unit with the same lines, of those that run for a moment only.
    services = [unit for unit in units(ROOT) if unit.path.suffix == ".service"]
    for unit in services:
        lines = [f"{each.name}={each.value}" for each in unit.directives if each.name.startswith("IPAddress")]
        probe = [f"ExecStart=/usr/bin/python3 /run/probe/probe.py {addresses}", "StandardOutput=file:/run/probe/%p"]
        content = "\n".join(["[Service]", "Type=oneshot", *lines, *probe])
        path = f"/run/systemd/system/probe-{unit.path.stem.rstrip('@')}.service"
        images.enter(machine, ["sh", "-c", f"cat >{path}"], input=content + "\n")
    images.run(machine, "systemctl daemon-reload; cd /run/systemd/system; systemctl start probe-*.service")
    for unit in services:
        result = images.run(machine, f"cat /run/probe/probe-{unit.path.stem.rstrip('@')}").splitlines()
        reached = [line.split()[0] for line in result if line.endswith(" passes")]
        if unit.name in MAY_ASK:
            assert ADDRESSES[0] in reached, unit.name
        else:
            assert result == [f"{address} {REFUSED}" for address in ADDRESSES], unit.name
    images.run(machine, "rm -r /run/systemd/system/probe-*.service /run/probe; systemctl daemon-reload")


def expect_no_role_and_no_disk(images: ImageLab, machine: str) -> None:
    """The API's process gets no role of the metadata service, and opens no disk."""
    disk = images.run(machine, "findmnt --noheadings --output SOURCE /data")
    ask = (
        "curl --silent --show-error --max-time 3 --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60'"
        " http://169.254.169.254/latest/api/token 2>&1 | sed 's/^[^:]*==$/a token/'"
    )
    read = f"echo; head --bytes=4 {disk} 2>&1"
    assert images.run(machine, f"{ask}; {read}").split() == ["a", "token", "XFSB"]
    result = images.run(machine, f"{_ENTER.format(name='zmanim-api')}; {ask}; {read} || true")
    assert "timed out" in result
    assert f"cannot open '{disk}' for reading: {REFUSED}" in result
    assert "XFSB" not in result


def expect_a_missing_filter_to_be_told(images: ImageLab, machine: str) -> None:
    """A machine one of whose services runs without its filter is not ready, and says so; with it, it is again."""
    # After a daemon-reload systemd attaches all filters anew with the next unit that starts: let that be this one.
    images.run(machine, "systemctl start zmanim-filters.service")
    group = "/sys/fs/cgroup/system.slice/zmanim-api.service"
    images.enter(machine, ["python3", "-", group], input=_TAKE_AWAY)
    # Not only when somebody asks: a timer starts this every five minutes, and a mail tells.
    images.run(machine, "systemctl start zmanim-recovering.service")
    begun = "systemctl show --property=InactiveExitTimestampMonotonic --value"
    mail = f"{begun} backup-notify@zmanim-filters.service.service"
    wait_for(lambda: images.run(machine, mail).strip() not in {"", "0"}, images.patience, "the mail about the filters")
    images.run(machine, "systemctl restart zmanim-ready.service || true")
    report = json.loads(images.run(machine, "cat /run/zmanim/ready.json"))
    assert not report["ok"]
    assert "failed: zmanim-filters.service" in report["checks"]["units"]["detail"]
    assert "zmanim-api.service runs without its filter of addresses" in report["checks"]["units"]["detail"]
    images.run(machine, "systemctl restart zmanim-api.service && systemctl restart zmanim-ready.service")
    assert json.loads(images.run(machine, "cat /run/zmanim/ready.json"))["ok"]
