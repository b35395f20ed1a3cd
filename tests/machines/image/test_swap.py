"""One data volume and two machines, one after the other: what an upgrade of the image does."""

from __future__ import annotations

import json

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


@pytest.mark.incident("pg_trgm was 1.3 under an image's 1.6, and nobody said so")
def test_an_extension_of_an_older_image_follows_when_going_back_is_over(images: ImageLab) -> None:
    machine = images.serve()
    installed = "SELECT extversion FROM pg_extension WHERE extname = 'pg_trgm'"
    here = images.query(machine, installed)
    # As the volume of an image comes that had an older one.
    older = "DROP EXTENSION pg_trgm CASCADE; CREATE EXTENSION pg_trgm VERSION '1.3' SCHEMA public"
    images.query(machine, f"{older}; CREATE INDEX cities_name ON cities USING gin (name gin_trgm_ops)", role="postgres")

    def restart() -> dict[str, object]:
        units = "zmanim-database.service zmanim-api.service zmanim-ready.service"
        images.run(machine, f"systemctl restart {units}")
        report = json.loads(images.run(machine, "cat /run/zmanim/ready.json"))
        assert report["ok"]
        check: dict[str, object] = report["checks"]["extensions"]
        return check

    check = restart()
    assert check["ok"]
    assert f"pg_trgm is 1.3, this image has {here}, and follows after 20" in str(check["detail"])
    assert images.query(machine, installed) == "1.3", "the image before can be gone back to"
    # 15 days later; and the API's role waits there for the superuser to run what it made.
    waiting = "/data/postgres/zmanim-extensions.json"
    edit = "import json, sys; each = json.load(open(sys.argv[1])); each['pg_trgm']['since'] -= 15 * 86400"
    edit += "; json.dump(each, open(sys.argv[1], 'w'))"
    images.enter(machine, ["python3", "-c", edit, waiting])
    trap = "CREATE FUNCTION public.gtrgm_options(x text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'"
    images.query(machine, trap)
    check = restart()
    assert not check["ok"]
    assert "its script might run what the API's role has made: gtrgm_options" in str(check["detail"])
    assert images.query(machine, installed) == "1.3"
    images.query(machine, "DROP FUNCTION public.gtrgm_options(text)")
    assert restart() == {"ok": True, "required": False, "detail": ""}
    assert images.query(machine, installed) == here
    assert images.query(machine, "SELECT count(*) FROM public.cities WHERE name % 'Jerusalem'") == "1"
    images.terminate(machine)
