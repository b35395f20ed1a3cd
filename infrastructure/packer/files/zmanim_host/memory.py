"""How much memory PostgreSQL and Redis get: one pure function from what the machine has.

At 4 GiB it gives exactly the values that postgresql.conf and redis.conf say.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from zmanim_host.host import RUN, HostError, log, write_whole

# Everything that is neither PostgreSQL nor Redis: the system, the API, a backup while it runs.
RESERVE_MIB = 512
SMALLEST_MIB = 1024
MAX_CONNECTIONS = 50


@dataclass(frozen=True)
class Sizes:
    """Memory settings, all in MiB."""

    shared_buffers: int
    effective_cache_size: int
    work_mem: int
    maintenance_work_mem: int
    redis_maxmemory: int


def nominal_mib(mem_total_kib: int) -> int:
    """Return the size the machine was sold with, in MiB: the kernel keeps a few percent of it out of MemTotal."""
    half_gib_kib = 512 * 1024
    return -(-mem_total_kib // half_gib_kib) * 512


def sizes(total_mib: int) -> Sizes:
    """Return the settings for a machine of `total_mib` MiB.

    What is left after the reserve is seven halves of a *unit*: one for PostgreSQL's shared buffers, two for Redis (a
    save forks, and every page may be written meanwhile), half a unit for the working memory of PostgreSQL's backends.

    Raises HostError below 1 GiB.
    """
    if total_mib < SMALLEST_MIB:
        raise HostError(
            f"this machine has {total_mib} MiB of memory, and PostgreSQL, Redis and the API need {SMALLEST_MIB}"
        )
    unit = (total_mib - RESERVE_MIB) * 2 // 7
    return Sizes(
        # Beyond 16 GiB the page cache serves a database of this kind better.
        shared_buffers=min(unit, 16 * 1024),
        effective_cache_size=3 * unit,
        work_mem=max(2, min(unit // 64, 64)),
        maintenance_work_mem=min(unit // 4, 2048),
        redis_maxmemory=unit,
    )


def mem_total_kib(meminfo: str) -> int:
    """Return MemTotal in KiB from the text of /proc/meminfo; HostError when it is not there."""
    match = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.MULTILINE)
    if not match:
        raise HostError("/proc/meminfo has no MemTotal")
    return int(match[1])


def files(wanted: Sizes) -> dict[str, str]:
    """Return the files that postgresql.conf and redis.conf include, by their names. Redis's mb is MiB."""
    first = "# Written at boot by zmanim-memory.service.\n"
    postgresql = {name: value for name, value in asdict(wanted).items() if name != "redis_maxmemory"}
    return {
        "postgresql.conf": first + "".join(f"{name} = {value}MB\n" for name, value in postgresql.items()),
        "redis.conf": f"{first}maxmemory {wanted.redis_maxmemory}mb\n",
    }


def command() -> None:
    """Size PostgreSQL and Redis by /proc/meminfo."""
    total = nominal_mib(mem_total_kib(Path("/proc/meminfo").read_text("ascii")))
    wanted = sizes(total)
    for name, content in files(wanted).items():
        write_whole(RUN / name, content)
    log(f"{total} MiB of memory: {wanted}")
