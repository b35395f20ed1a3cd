"""What account.apply sets for all of an account, on the account that the local cloud has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, clients, ec2_lab, made_image
from zmanim_ami.pipeline.account import changes, region_defaults
from zmanim_ami.pipeline.settings import Settings

ALL = {"LaunchPermission": {"Add": [{"Group": "all"}]}}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Ec2Lab]:
    with ec2_lab(tmp_path) as made:
        yield made


def planned(lab: Ec2Lab, settings: Settings | None = None) -> list[changes.Change]:
    return list(region_defaults.plan(clients(lab), settings or Settings()))


def rows(lab: Ec2Lab, settings: Settings | None = None) -> list[tuple[str, str]]:
    return [(change.action, change.resource) for change in planned(lab, settings)]


def test_nothing_is_stored_in_the_clear_or_shared_with_everybody_afterwards(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    ec2.disable_image_block_public_access()  # as in an account that is older than that default
    image = made_image(ec2, "own")
    volume = ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    assert rows(lab) == [("encrypt", "new volumes"), ("close", "images"), ("close", "snapshots")]
    changes.apply(planned(lab))
    assert rows(lab) == []
    assert ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")["Encrypted"] is True
    assert refused(ec2.modify_image_attribute, ImageId=image, **ALL) == "OperationNotPermitted"
    public = {"Attribute": "createVolumePermission", "OperationType": "add", "GroupNames": ["all"]}
    assert refused(ec2.modify_snapshot_attribute, SnapshotId=snapshot, **public) == "OperationNotPermitted"
    assert ec2.get_snapshot_block_public_access_state()["State"] == "block-all-sharing"
    # By name it is shared as before.
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": "111122223333"}]})


def test_a_snapshot_that_its_owner_has_made_public_stays_so(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    volume = ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", GroupNames=["all"]
    )
    assert [each.reason for each in planned(lab) if each.resource == "snapshots"] == [
        "one could be shared with everybody; 1 that are stay so"
    ]
    changes.apply(planned(lab))
    assert ec2.get_snapshot_block_public_access_state()["State"] == "block-new-sharing"
    assert rows(lab) == []


def test_who_shares_an_account_can_keep_it_as_it_is(lab: Ec2Lab) -> None:
    assert rows(lab, Settings(account_wide=False)) == []


def test_volumes_stay_as_they_are_where_the_image_is_not_to_be_encrypted(
    lab: Ec2Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rows(lab, Settings(root_encrypted=False)) == [("close", "snapshots")]
    assert "setting root_encrypted" in capsys.readouterr().err
