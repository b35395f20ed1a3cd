"""Machines that must not serve: each says why, touches nothing that it does not know, and can still be reached."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.machines.backups import expect_one_mail_of_a_boot
from tests.support.machines.image import NOT_ON_THE_ROOT_DISK, STORES, ImageLab


@dataclass(frozen=True)
class Refused:
    """The machines by what they lack, all launched at once. (One without any volume waits 90 s: tests/faults.)"""

    machines: dict[str, str]
    key: Path
    foreign: str
    digest: str


@pytest.fixture(scope="module")
def refused(images: ImageLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refused]:
    key = images.key_pair("refused")
    foreign = images.new_volume()
    content = tmp_path_factory.mktemp("content")
    (content / "precious").write_text("of somebody else\n")
    make = ["mkfs.ext4", "-q", "-d", str(content), str(images.volume_file(foreign))]
    subprocess.run(make, check=True)
    digest = images.digest(foreign)
    hidden = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}  # as a launch is that asks for nothing else
    with_key: dict[str, Any] = {"KeyName": "refused"}
    machines = {
        "no consent": images.start(consent=False, **with_key),
        "no environment": images.start(None, **with_key),
        "no tags in the metadata": images.start(MetadataOptions=hidden, **with_key),
        "a foreign volume": images.start_with(foreign, **with_key),
    }
    yield Refused(machines, key, foreign, digest)
    images.terminate(*machines.values())
    images.ec2.delete_volume(VolumeId=foreign)
    images.ec2.delete_key_pair(KeyName="refused")


def refusal(images: ImageLab, refused: Refused, lack: str) -> str:
    """Return why a machine does not serve, after what all of them promise: nothing on the root disk, SSH answers."""
    machine = refused.machines[lack]
    report = images.wait_report(machine, seconds=150)
    assert not report["ok"]
    assert images.run(machine, f"mountpoint --quiet /data && umount --lazy /data; {NOT_ON_THE_ROOT_DISK}") == ""
    answer = images.ssh(machine, refused.key, "whoami")
    assert answer.stdout.strip() == images.user, answer.stderr
    return str(report["checks"]["units"]["detail"])


@pytest.mark.fault(
    2,
    injected="a blank volume, and a launch that does not consent",
    must="every byte stays zero, no service starts, the ready line and one mail say what to do, SSH answers",
)
def test_without_consent_a_blank_volume_is_not_formatted(images: ImageLab, refused: Refused) -> None:
    machine = refused.machines["no consent"]
    assert "formatting it: it is left untouched. Launch with the tag zmanim:data-volume=new" in refusal(
        images, refused, "no consent"
    )
    expect_one_mail_of_a_boot(images, machine, "Launch with the tag zmanim:data-volume=new")
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    assert images.run(machine, "tr --delete '\\0' </dev/sdf | wc --bytes") == "0"


def test_without_the_environment_s_tag_nothing_is_guessed(images: ImageLab, refused: Refused) -> None:
    machine = refused.machines["no environment"]
    report = images.wait_report(machine)
    assert report["environment"] == ""
    states = images.active(machine, *STORES)
    assert (states["redis.service"], states["zmanim-api.service"]) == ("inactive", "inactive")
    assert images.run(machine, "ls /run/zmanim/secrets") == ""
    assert "this instance has no tag zmanim:environment" in refusal(images, refused, "no environment")


def test_a_launch_that_hides_its_tags_from_the_machine_is_told_so(images: ImageLab, refused: Refused) -> None:
    machine = refused.machines["no tags in the metadata"]
    reason = refusal(images, refused, "no tags in the metadata")
    for tag in ("zmanim:environment", "zmanim:data-volume"):
        assert f"the tag {tag} can't be read: launch with instance tags in metadata enabled" in reason
    assert set(images.active(machine, *STORES).values()) == {"inactive"}


@pytest.mark.fault(
    3,
    injected="an ext4 of somebody else, with a launch that consents",
    must="its SHA-256 is what it was, no service starts, the ready line and one mail tell of it, SSH answers",
)
@pytest.mark.incident("the data volume was once lost by hand")
def test_a_foreign_volume_stays_as_it_is_to_the_last_byte(images: ImageLab, refused: Refused) -> None:
    machine = refused.machines["a foreign volume"]
    reason = refusal(images, refused, "a foreign volume")
    assert "is not zmanim's data volume and is left untouched" in reason
    assert "TYPE=ext4" in reason
    expect_one_mail_of_a_boot(images, machine, "is not zmanim's data volume and is left untouched")
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    images.terminate(machine)
    assert images.digest(refused.foreign) == refused.digest


@pytest.mark.incident("a migration with its own COMMIT left half of itself, and was said to be rolled back")
def test_a_migration_with_its_own_commit_leaves_nothing_of_itself(images: ImageLab, served: str) -> None:
    path = "/opt/zmanim/current/migrations/20990101000000_half.sql"
    sql = "CREATE TABLE public.half (n int);\nCOMMIT;\nSELECT 1 / 0;\n"
    images.enter(served, ["sh", "-c", f"cat >{path}"], input=sql)
    # What the unit runs: its failure would take the API of a machine that others look at down.
    refused = images.run(served, "cd /; runuser -u zmanim -- /opt/zmanim/zmanim-host migrate 2>&1 || true")
    assert "20990101000000_half.sql, line 2: COMMIT: each migration is one transaction already" in refused
    assert images.query(served, "SELECT to_regclass('public.half')") == ""
    # The same by psql alone, as it once was: half of it stays, whatever the exit code says.
    psql = f"psql --set=ON_ERROR_STOP=1 --single-transaction --file={path} --dbname=zmanim"
    images.run(served, f"cd /; runuser -u zmanim -- {psql} 2>&1 || true")
    assert images.query(served, "SELECT to_regclass('public.half')") == "half"
    images.query(served, "DROP TABLE public.half")
    images.run(served, f"rm {path}")
