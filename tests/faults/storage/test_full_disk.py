"""A data volume that stays full while both stores have to start on it."""

from __future__ import annotations

import pytest

from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for

STORES = ("postgresql.service", "redis.service")
# More than the five starts within ten seconds that are systemd's default, and than the thirty that Redis once had.
TRIES = 35


@pytest.mark.fault(
    20,
    injected="both stores killed on a full data volume, which stays full",
    must="they are tried again for as long as it takes, and with room the API serves by itself",
)
def test_stores_that_can_t_start_on_a_full_disk_come_back_by_themselves_and_the_api_with_them(images: ImageLab) -> None:
    machine = images.serve()
    images.redis(machine, "SET kept precious")
    images.query(machine, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    images.run(machine, "dd if=/dev/zero of=/data/ballast bs=64k status=none 2>/dev/null; sync; df /data >&2")
    # The main processes only: `systemctl kill` would kill what runs after them (ExecStopPost=) as well.
    images.run(machine, f"kill -KILL $(systemctl show --value --property=MainPID {' '.join(STORES)})")

    def tried() -> bool:
        result = (images.run(machine, f"systemctl show --value --property=NRestarts {unit}") for unit in STORES)
        up = images.active(machine, *STORES)
        return all(up[unit] == "active" or int(tries) > TRIES for unit, tries in zip(STORES, result, strict=True))

    wait_for(tried, 240, "both up, or tried often")
    output = images.run(machine, f"journalctl --no-pager --output=cat {' '.join(f'--unit={unit}' for unit in STORES)}")
    assert "No space left on device" in output
    images.run(machine, "rm /data/ballast")
    wait_for(lambda: set(images.active(machine, *STORES).values()) == {"active"}, 60, "both stores")
    # systemd gave up on the API when PostgreSQL's first try failed; zmanim-recovery has not.
    wait_for(lambda: images.active(machine, "zmanim-api") == {"zmanim-api": "active"}, 120, "the API")
    wait_for(lambda: images.try_run(machine, "curl -sf http://127.0.0.1:8080/health")["Status"] == "Success", 30)
    assert images.query(machine, "SELECT word FROM kept") == "precious"
    assert images.redis(machine, "GET kept") == "precious"
    images.terminate(machine)
