"""One data volume and two machines, one after the other: what an upgrade of the image does."""

from __future__ import annotations

import json

import pytest

from tests.support.machines.image import ImageLab
from tests.support.machines.promises import swap


@pytest.mark.fault(
    17,
    injected="one volume under two machines of one image",
    must="rows, keys and owners are what they were",
)
@pytest.mark.incident("/data was lost with its instance, or belonged to nobody on the next one")
def test_what_was_written_survives_its_machine(images: ImageLab) -> None:
    left = swap.write_and_leave(images, images.serve(keep=True))
    second = swap.launch_with(images, left)
    swap.expect_what_was_left(images, second, left)
    images.terminate(second)
    images.ec2.delete_volume(VolumeId=left.volume)


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
