"""One data volume and two machines, one after the other: what an upgrade of the image does."""

from __future__ import annotations

import pytest

from tests.support.machines.image import ImageLab

OWNERS = "stat --format='%n %u %g %a' /data /data/* /data/postgres/PG_VERSION /data/redis/appendonlydir"


@pytest.mark.incident("/data was lost with its instance, or belonged to nobody on the next one")
def test_what_was_written_survives_its_machine(images: ImageLab) -> None:
    first = images.serve(keep=True)
    images.query(first, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    images.query(first, "CREATE ROLE somebody NOLOGIN; GRANT SELECT ON kept TO somebody", role="postgres")
    images.redis(first, "SET kept precious EX 3600", "SET forever precious")
    owners, volume = images.run(first, OWNERS), images.volume_of(first)
    identity = images.run(first, "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")
    images.terminate(first)

    # As production's launch is: with the volume that it has, and no word about formatting one.
    second = images.start_with(volume, consent=False)
    images.expect_ready(second)
    assert images.query(second, "SELECT word FROM kept") == "precious"
    granted = "SELECT grantee FROM information_schema.table_privileges WHERE table_name = 'kept'"
    assert "somebody" in images.query(second, granted).split()
    value, seconds, forever = images.redis(second, "GET kept", "TTL kept", "GET forever").split()
    assert (value, 3400 < int(seconds) <= 3600, forever) == ("precious", True, "precious")
    assert images.run(second, OWNERS) == owners
    # Two machines of one image are two machines.
    assert not set(identity.split()) & (set(images.run(second, "cat /etc/machine-id").split()))
    assert images.run(second, "cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub") not in identity
    images.terminate(second)
    images.ec2.delete_volume(VolumeId=volume)
