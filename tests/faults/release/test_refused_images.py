"""Images that look like good ones, and are not: each is refused, with the reason, and nothing of its trial stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support import bucket_name
from tests.support.machines.image import VERSION, ImageLab
from tests.support.machines.other_images import copy, spoil
from zmanim_ami.pipeline.ami import image as amis

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Spoiled:
    """What is written into a good image's root file system, and what a verification says of it."""

    files: dict[str, str]
    says: str


def drop_in(unit: str, *lines: str) -> dict[str, str]:
    return {f"etc/systemd/system/{unit}.d/99-spoiled.conf": "[Service]\n" + "\n".join(lines) + "\n"}


LISTENER = "/usr/bin/systemd-run --unit=listener /usr/bin/python3 -m http.server 9999"
SPOILED = {
    "one that does not boot": Spoiled(
        {"usr/lib/systemd/systemd": "#!/bin/false\n"}, "running until it is terminated here"
    ),
    "one whose API does not answer": Spoiled(
        drop_in("zmanim-api.service", "ExecStart=", "ExecStart=/usr/bin/sleep infinity"), "ready: api"
    ),
    "one whose timer is off": Spoiled(
        {"etc/systemd/system/restic-backup.timer.d/99-spoiled.conf": "[Unit]\nConditionPathExists=/nowhere\n"},
        "ready: timers",
    ),
    "one that needs 70 seconds": Spoiled(
        drop_in("zmanim-ready.service", "ExecStartPre=/usr/bin/sleep 70", "TimeoutStartSec=150"), "ready: in time"
    ),
    "one at which something listens": Spoiled(
        drop_in("zmanim-api.service", f"ExecStartPost=+{LISTENER}"), "listening: expected"
    ),
    "one whose Redis forgets at a reboot": Spoiled(
        drop_in("redis.service", "ExecStartPre=+/usr/bin/rm -rf /data/redis/appendonlydir /data/redis/dump.rdb"),
        "reboot: expected",
    ),
}


@pytest.fixture
def shop(images: ImageLab) -> Iterator[ImageLab]:
    """The cloud whose good image has another name: what is spoiled takes its name, being of its version."""
    good = images.image
    images.image = copy(images, good, "kept")
    images.ec2.deregister_image(ImageId=good)
    yield images
    for spoiled in images.ec2.describe_images(Filters=[{"Name": "name", "Values": [f"zmanim-{VERSION}"]}])["Images"]:
        images.ec2.deregister_image(ImageId=spoiled["ImageId"])
    kept = images.image
    images.image = copy(images, kept, f"zmanim-{VERSION}")
    images.ec2.deregister_image(ImageId=kept)


def left(lab: ImageLab) -> list[str]:
    """The instances and volumes that verifications made and that are still there."""
    mine = [{"Name": "tag:zmanim:verification", "Values": ["true"]}]
    instances = [
        each for item in lab.ec2.describe_instances(Filters=mine)["Reservations"] for each in item["Instances"]
    ]
    alive = [each["InstanceId"] for each in instances if each["State"]["Name"] not in ("terminated", "shutting-down")]
    # Those of an instance that is shutting down go with it.
    volumes = [each for each in lab.ec2.describe_volumes(Filters=mine)["Volumes"] if each["State"] == "available"]
    return [*alive, *(each["VolumeId"] for each in volumes)]


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_image_is_refused_with_the_reason(shop: ImageLab, name: str) -> None:
    spoil(shop, SPOILED[name].files, VERSION)
    refused = shop.try_task("verify-ami", "--version", VERSION, step="verify", ZMANIM_BOOT_TIMEOUT="120")
    assert refused.returncode == 1, refused.stderr
    assert SPOILED[name].says in refused.stderr
    assert left(shop) == []
    unpublished = shop.try_task("publish-ssm", "--version", VERSION, step="publish")
    assert unpublished.returncode == 2
    assert "not-verified-yet" in unpublished.stderr


# ---- Forged verifications ----


@pytest.fixture(scope="module")
def good(images: ImageLab) -> ImageLab:
    """The image of this tree, verified."""
    images.task("verify-ami", "--version", VERSION, step="verify")
    return images


def _tag(lab: ImageLab, ami_id: str, digest: str) -> None:
    lab.ec2.create_tags(Resources=[ami_id], Tags=[{"Key": amis.VERIFIED_TAG, "Value": digest}])


def _copy(lab: ImageLab, source: str, target: str, *kinds: str) -> None:
    s3, bucket = lab.client("s3"), bucket_name("releases", "verify")
    for kind in kinds:
        content = s3.get_object(Bucket=bucket, Key=f"reports/{source}.{kind}")["Body"].read()
        s3.put_object(Bucket=bucket, Key=f"reports/{target}.{kind}", Body=content)


def _forged_tag(lab: ImageLab, ami_id: str) -> None:
    _tag(lab, ami_id, "ab" * 32)


def _forged_report(lab: ImageLab, ami_id: str) -> None:
    _copy(lab, lab.image, ami_id, "json", "dsse.json")
    _tag(lab, ami_id, "ab" * 32)


def _report_of_another(lab: ImageLab, ami_id: str) -> None:
    _copy(lab, lab.image, ami_id, "json", "dsse.json")
    (shown,) = lab.ec2.describe_images(ImageIds=[lab.image])["Images"]
    _tag(lab, ami_id, next(tag["Value"] for tag in shown["Tags"] if tag["Key"] == amis.VERIFIED_TAG))


@pytest.mark.parametrize("forge", [_forged_tag, _forged_report, _report_of_another])
def test_a_verification_that_was_not_made_publishes_nothing(
    good: ImageLab, forge: Callable[[ImageLab, str], None]
) -> None:
    version = "v9.30.0"
    ami_id = copy(good, good.image, f"zmanim-{version}")
    good.ec2.create_tags(Resources=[ami_id], Tags=[{"Key": "zmanim:version", "Value": version}])
    forge(good, ami_id)
    refused = good.try_task("publish-ssm", "--version", version, step="publish")
    assert refused.returncode == 2, refused.stderr
    assert "nobody vouches for the verification" in refused.stderr
    assert json.loads(good.task("publish-ssm", "--version", VERSION, "--dry", "--json", step="publish"))
    good.ec2.deregister_image(ImageId=ami_id, DeleteAssociatedSnapshots=True)
