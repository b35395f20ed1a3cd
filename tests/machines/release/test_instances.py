"""The life of an instance, by the role of the people who run it: launched, swapped for the next image, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from localcloud.iam.policy import read
from tests.machines.release.test_policies import POLICIES, VALUES, decisions, only_aws_asks
from tests.support import bucket_name
from tests.support.machines.image import VERSION, ImageLab
from tests.support.machines.other_images import copy, spoil, vouch
from tests.support.replay import read_record, unneeded
from tests.support.tasks.operator import Operator, end_instances
from zmanim_ami.pipeline.account import roles

ENVIRONMENT = "lived"
NEXT, BROKEN, UNVERIFIED = "v9.4.0", "v9.4.1", "v9.4.2"
ROLE = roles.operate_name(ENVIRONMENT)
# It changes the database, and then does not serve.
SPOILED = {
    "etc/systemd/system/zmanim-api.service.d/99-spoiled.conf": (
        "[Service]\nExecStartPre=+/usr/sbin/runuser -u postgres -- psql --dbname=zmanim"
        " --command=\"INSERT INTO schema_migrations (version) VALUES ('20990101000000_late') ON CONFLICT DO NOTHING\"\n"
        "ExecStart=\nExecStart=/usr/bin/sleep infinity\n"
    )
}


@pytest.fixture(scope="module")
def operator(images: ImageLab) -> Operator:
    images.prepare(ENVIRONMENT)
    return Operator(images, ENVIRONMENT)


@pytest.fixture(scope="module")
def earlier(images: ImageLab) -> int:
    return len(decisions(images))


@pytest.fixture(scope="module")
def first(operator: Operator, earlier: int) -> str:
    """An instance that was launched and serves, with rows, a key and an address."""
    lab = operator.lab
    vouch(lab, lab.image)
    instance: str = operator.task("instance.launch", "--version", VERSION, "--size", "2", "--wait", *operator.place)[
        "instance_id"
    ]
    lab.ec2.associate_address(AllocationId=operator.address, InstanceId=instance)
    lab.query(instance, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    lab.redis(instance, "SET kept yes")
    return instance


@pytest.fixture(scope="module")
def swapped(operator: Operator, first: str) -> Mapping[str, Any]:
    """What the swap for the next image said."""
    vouch(operator.lab, copy(operator.lab, operator.lab.image, f"zmanim-{NEXT}", NEXT))
    result: Mapping[str, Any] = operator.task("instance.swap", "--to", NEXT)
    return result


@pytest.fixture(scope="module")
def taken_back(operator: Operator, swapped: Mapping[str, Any]) -> str:
    """What a swap said whose new image changes the database and then does not serve."""
    vouch(operator.lab, spoil(operator.lab, SPOILED, BROKEN))
    return operator.refused("instance.swap", "--to", BROKEN)


def test_the_next_image_has_the_data_and_the_address_and_the_old_instance_is_kept(
    operator: Operator, first: str, swapped: Mapping[str, Any]
) -> None:
    lab, new = operator.lab, swapped["instance_id"]
    assert lab.query(new, "SELECT count(*) FROM kept").strip() == "1000"
    assert lab.redis(new, "GET kept").strip() == "yes"
    assert operator.leads_to() == new
    assert (lab.state(first), lab.volume_of(new)) == ("stopped", swapped["volume"])
    refused = lab.client("ec2").exceptions.ClientError
    with pytest.raises(refused, match="OperationNotPermitted"):
        lab.ec2.terminate_instances(InstanceIds=[first])
    assert swapped["downtime"] > 0


def test_what_does_not_serve_is_taken_back_with_the_data_as_it_was(
    operator: Operator, swapped: Mapping[str, Any], taken_back: str
) -> None:
    lab, serving = operator.lab, swapped["instance_id"]
    assert "swap-taken-back" in taken_back
    assert "is not ready" in taken_back
    assert operator.leads_to() == serving
    assert lab.query(serving, "SELECT count(*) FROM kept").strip() == "1000"
    # The image's migration is not there: it is the volume of the snapshot.
    assert "2099" not in lab.query(serving, "SELECT string_agg(version, ' ') FROM schema_migrations")
    assert lab.volume_of(serving) != swapped["volume"]
    assert "set aside" in taken_back


def test_the_list_says_what_each_is_and_how_it_does(
    operator: Operator, first: str, swapped: Mapping[str, Any], taken_back: str
) -> None:
    rows = {row["instance_id"]: row for row in operator.task("instance.list")}
    assert set(rows) == {first, swapped["instance_id"]}
    serving = rows[swapped["instance_id"]]
    assert (serving["state"], serving["version"], serving["ready"], serving["why"]) == ("running", NEXT, True, "")
    assert serving["last_backup"]
    assert (rows[first]["state"], rows[first]["ready"]) == ("stopped", None)
    assert swapped["instance_id"] in rows[first]["why"]


def test_operators_launch_nothing_that_is_not_verified(operator: Operator, first: str) -> None:
    lab = operator.lab
    unverified = copy(lab, lab.image, f"zmanim-{UNVERIFIED}", UNVERIFIED)
    assert "not-attested" in operator.refused("instance.launch", "--version", UNVERIFIED, "--another", *operator.place)
    session = boto3.Session(
        operator.credentials["AWS_ACCESS_KEY_ID"],
        operator.credentials["AWS_SECRET_ACCESS_KEY"],
        operator.credentials["AWS_SESSION_TOKEN"],
        region_name=lab.cloud.region,
    )
    ec2: Any = session.client("ec2", endpoint_url=lab.cloud.endpoint)
    with pytest.raises(ec2.exceptions.ClientError, match="UnauthorizedOperation"):
        ec2.run_instances(ImageId=unverified, InstanceType="m7g.medium", MinCount=1, MaxCount=1)


def test_each_of_the_operators_rights_is_needed_and_none_is_missing(
    operator: Operator, earlier: int, taken_back: str
) -> None:
    record: Path = operator.lab.cloud.directory / "authorization.jsonl"
    given = {**VALUES, "environment": ENVIRONMENT, "releases_bucket": bucket_name("releases", ENVIRONMENT)}
    statements = read(roles.read(POLICIES / "operate.json", [given]), "operate")
    exempt = only_aws_asks()
    unused = [each for each in unneeded({ROLE: statements}, read_record(record)) if each.action not in exempt]
    assert unused == []
    refused = [
        raw for raw in decisions(operator.lab)[earlier:] if raw["role"] == ROLE and not raw["decision"]["allowed"]
    ]
    # The one that a test brought about.
    assert {raw["action"] for raw in refused} <= {"ec2:RunInstances"}


@pytest.fixture(scope="module", autouse=True)
def nothing_left(images: ImageLab) -> Iterator[None]:
    yield
    for name in (NEXT, BROKEN, UNVERIFIED):
        for made in images.ec2.describe_images(Filters=[{"Name": "name", "Values": [f"zmanim-{name}"]}])["Images"]:
            images.ec2.deregister_image(ImageId=made["ImageId"])
    end_instances(images, ENVIRONMENT)
