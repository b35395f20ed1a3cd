"""The smallest machines that the image is made for: what they have, and what both stores really use of it."""

from __future__ import annotations

import pytest

from tests.support.machines.image import ImageLab

ASK_REDIS = "REDISCLI_AUTH=$(cat /run/zmanim/secrets/ready/redis-password) redis-cli --user ready --no-auth-warning"
FIND_PASSWORD = (
    "export REDISCLI_AUTH=$(python3 -c '"
    "from urllib.parse import unquote; import re;"
    'print(unquote(re.search("redis://zmanim:([^@]*)@", open("/run/zmanim/secrets/api.env").read())[1]))'
    "')"
)
SETTINGS = ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem")
# By instance type: its memory in GiB, then in MiB PostgreSQL's settings as listed above and Redis's limit.
SIZES = {
    "t4g.micro": (1, (146, 438, 2, 36), 146),
    "t4g.small": (2, (438, 1314, 6, 109), 438),
    "t4g.medium": (4, (1024, 3072, 16, 256), 1024),
}


@pytest.mark.incident("a 4 GiB tuning ran on a 2 GiB t4g.small")
@pytest.mark.parametrize("kind", SIZES)
def test_both_stores_use_what_fits_the_machine(images: ImageLab, kind: str) -> None:
    gib, wanted, redis_mib = SIZES[kind]
    machine = images.serve(InstanceType=kind)
    total = int(images.run(machine, "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"))
    assert (gib - 1) << 20 < total <= gib << 20
    # As the server that runs has them, and not as a file says: it counts in kB, or in pages of 8 kB.
    command = (
        "SELECT setting::bigint * CASE unit WHEN '8kB' THEN 8 ELSE 1 END / 1024 FROM pg_settings"
        f" WHERE name = ANY('{{{','.join(SETTINGS)}}}') ORDER BY array_position('{{{','.join(SETTINGS)}}}', name)"
    )
    assert tuple(map(int, images.query(machine, command).split())) == wanted
    report = images.run(machine, f"{ASK_REDIS} INFO memory").split()
    assert {f"maxmemory:{redis_mib << 20}", "maxmemory_policy:allkeys-lru"} <= set(report)
    images.terminate(machine)


@pytest.mark.fault(
    27,
    injected="600 MiB for a Redis whose limit is 438",
    must="it evicts keys and stays within its limit, nothing restarts",
)
def test_a_2_gib_machine_s_redis_stays_within_its_limit_when_it_is_given_more(images: ImageLab) -> None:
    machine = images.serve(InstanceType="t4g.small")
    # 600 MiB in values of 1 MiB: more than its 438.
    client = f"{FIND_PASSWORD}; client='redis-cli --user zmanim --no-auth-warning'"
    writes = "for n in $(seq 600); do $client -x SET big$n </run/value; done | sort --unique"
    images.run(machine, f"{client}; head --bytes=1M /dev/zero >/run/value; {writes}; rm /run/value")
    report = dict(line.split(":", 1) for line in images.run(machine, f"{ASK_REDIS} INFO").split() if ":" in line)
    assert 350 << 20 < int(report["used_memory"]) <= 440 << 20
    assert int(report["evicted_keys"]) > 0
    assert set(images.active(machine, "redis", "postgresql", "zmanim-api").values()) == {"active"}
    assert images.run(machine, "systemctl show --property=NRestarts --value redis postgresql").split() == ["0", "0"]
    images.terminate(machine)
