"""One data volume under two versions of the image whose packages were given other ids, and back again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.machines.image import ImageLab, copy_work_tree

VERSION = "v9.0.1"
PINNED = ("postgres", "redis", "zmanim", "zmanim-backup")
OWNERS = "stat --format='%n %u %g %a' /data /data/* /data/postgres/PG_VERSION /data/redis/appendonlydir"
ALL_OWNERS = "find /data -xdev -printf '%U %G\\n' | sort --unique"
# Before the users and packages of the image: whoever takes the next free id from here on gets another one.
OTHER_USERS = "useradd --system other-one; useradd --system other-two"


@pytest.fixture(scope="module")
def shifted(images: ImageLab, tmp_path_factory: pytest.TempPathFactory) -> ImageLab:
    """The same cloud, with a later version of the image on whose builder other system users came first."""
    clone: Path = tmp_path_factory.mktemp("shifted") / "clone"
    copy_work_tree(clone)
    script = clone / "infrastructure" / "packer" / "scripts" / "install-packages.sh"
    changed = script.read_text().replace("\n  make_users\n", f"\n  {OTHER_USERS}\n  make_users\n")
    assert changed.count(OTHER_USERS) == 1
    script.write_text(changed)
    report = images.task("build-ami", "--version", VERSION, "--json", directory=clone)
    return replace(images, image=json.loads(report)["ami_id"])


def ids(lab: ImageLab, machine: str) -> dict[str, str]:
    """Return uid and gid of every system user by its name."""
    fields = [line.split(":") for line in lab.run(machine, "cat /etc/passwd").splitlines()]
    return {name: f"{user}:{group}" for name, _, user, group, *_ in fields}


@pytest.mark.fault(
    17,
    injected="one volume under image A, B and A again, where B gives system users other ids",
    must="rows, roles, keys, owners and the four pinned ids are what they were",
)
@pytest.mark.incident("a new image's packages had other ids, and /data belonged to nobody")
def test_a_volume_goes_to_a_version_with_other_ids_and_back(images: ImageLab, shifted: ImageLab) -> None:
    machine = images.serve(keep=True)
    volume = images.volume_of(machine)
    images.query(machine, "CREATE TABLE kept (version text)")
    images.query(machine, "CREATE ROLE somebody NOLOGIN; GRANT SELECT ON kept TO somebody", role="postgres")
    images.redis(machine, "SET kept precious EX 3600", "SET forever precious")
    first, owners, all_owners = ids(images, machine), images.run(machine, OWNERS), images.run(machine, ALL_OWNERS)
    written: list[str] = []
    for lab, version in ((shifted, "B"), (images, "A again")):
        images.terminate(machine)
        machine = lab.start_with(volume, consent=False)
        report = lab.expect_ready(machine)
        assert (report["version"] == VERSION) is (lab is shifted)
        now = ids(lab, machine)
        if lab is shifted:
            # Else this test would show nothing: the ids that nobody pins did move.
            assert {name for name in first if now[name] != first[name]}
        assert {name: now[name] for name in PINNED} == {name: first[name] for name in PINNED}
        assert (lab.run(machine, OWNERS), lab.run(machine, ALL_OWNERS)) == (owners, all_owners)
        assert lab.query(machine, "SELECT version FROM kept ORDER BY version").splitlines() == written
        command = "SELECT grantee FROM information_schema.table_privileges WHERE table_name = 'kept'"
        assert "somebody" in lab.query(machine, command).split()
        value, seconds, forever = lab.redis(machine, "GET kept", "TTL kept", "GET forever").split()
        assert (value, 3300 < int(seconds) <= 3600, forever) == ("precious", True, "precious")
        # Each writes too: the next one has to take over its files as well.
        lab.query(machine, f"INSERT INTO kept VALUES ('{version}')")
        written = sorted([*written, version])
        lab.redis(machine, f"SET {version[0]}{len(written)} written")
    assert images.redis(machine, "EXISTS B1 A2") == "2"
    images.terminate(machine)
    images.ec2.delete_volume(VolumeId=volume)
