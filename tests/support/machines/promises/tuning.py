"""What the image sets of its kernel, as the shipped files say it; and what it makes of the memory that there is."""

from __future__ import annotations

import re
from dataclasses import asdict

from tests.support import ROOT
from tests.support.machines.image import ImageLab
from zmanim_ami.pipeline.shipped.install import FILES
from zmanim_ami.pipeline.shipped.unit_files import read
from zmanim_host.memory import mem_total_kib, nominal_mib, sizes

# As the unit zmanim-ready asks: the API's own user may not ask for INFO.
ASK_REDIS = "REDISCLI_AUTH=$(cat /run/zmanim/secrets/ready/redis-password) redis-cli --user ready --no-auth-warning"


def sysctls() -> dict[str, tuple[str, bool]]:
    """Return what zmanim-sysctl.conf sets: each name's value, and whether a kernel may lack it ("-")."""
    text = (ROOT / FILES / "zmanim-sysctl.conf").read_text()
    lines = re.findall(r"^(-?)([a-z][\w.]+)\s*=\s*(\S+)$", text, re.MULTILINE)
    assert len(lines) == sum(bool(line.strip()) and line[0] not in "#;" for line in text.splitlines())
    return {name: (value, bool(may_lack)) for may_lack, name, value in lines}


def sysctls_of(images: ImageLab, machine: str) -> dict[str, str]:
    """Return what a machine's kernel has of these; nothing for those that it does not know."""
    names = " ".join(sysctls())
    lines = images.run(machine, f"sysctl --ignore {names} 2>/dev/null").splitlines()
    return dict(line.split(" = ", 1) for line in lines)


def huge_pages() -> tuple[str, str]:
    """Return the file of sysfs that zmanim-huge-pages.service writes, and what it writes there."""
    command = read(ROOT, FILES / "zmanim-huge-pages.service").last("ExecStart")
    written = re.search(r"echo (\w+) >(/sys/\S+?)'", command)
    assert written, command
    return written[2], written[1]


def expect_sized_for(images: ImageLab, machine: str, mib: int) -> None:
    """The kernel sees a machine that was sold with `mib` MiB, and PostgreSQL and Redis have what that gives them."""
    total = mem_total_kib(images.run(machine, "cat /proc/meminfo"))
    # The kernel keeps some of it for itself.
    assert total < mib * 1024
    assert nominal_mib(total) == mib
    wanted = asdict(sizes(mib))
    redis = wanted.pop("redis_maxmemory")
    mebibytes = "setting::bigint * CASE unit WHEN '8kB' THEN 8 ELSE 1 END / 1024"
    names = ", ".join(f"'{name}'" for name in wanted)
    rows = images.query(machine, f"SELECT name, {mebibytes} FROM pg_settings WHERE name IN ({names})", role="postgres")
    assert {name: int(value) for name, value in (row.split("|") for row in rows.splitlines())} == wanted
    assert f"maxmemory:{redis << 20}" in images.run(machine, f"{ASK_REDIS} INFO memory").split()
