"""Images beside the one that a test's cloud has: copies of it, and ones with other files in them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.machines.image import ImageLab
from zmanim_ami.pipeline import attestation
from zmanim_ami.pipeline.ami import image as amis
from zmanim_ami.pipeline.ami.distribution import COPY_OF_TAG
from zmanim_ami.pipeline.images.rules import KEEP_TAG
from zmanim_ami.rehearsal import cloud as clouds

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import TagTypeDef

# What is said of one image, and of no copy of it.
_ITS_OWN = {amis.VERIFIED_TAG, KEEP_TAG}


def copy(lab: ImageLab, source: str, name: str, version: str = "") -> str:
    """Copy an image with its tags, but for those that are its own; return the copy's id."""
    return _copy(lab.ec2, lab, source, name, tags_of(lab, source, version))


def copy_to(lab: ImageLab, source: str, region: str) -> str:
    """Copy an image to another region, as build-ami leaves its copies; return the copy's id."""
    there: Any = lab.session.client("ec2", region_name=region, endpoint_url=lab.cloud.endpoint)
    (shown,) = lab.ec2.describe_images(ImageIds=[source])["Images"]
    tags: list[TagTypeDef] = [*tags_of(lab, source), {"Key": COPY_OF_TAG, "Value": source}]
    return _copy(there, lab, source, shown["Name"], tags)


def _copy(ec2: Any, lab: ImageLab, source: str, name: str, tags: Sequence[TagTypeDef]) -> str:
    specified = [{"ResourceType": kind, "Tags": tags} for kind in ("image", "snapshot")]
    made = ec2.copy_image(SourceImageId=source, SourceRegion=lab.cloud.region, Name=name, TagSpecifications=specified)
    ami_id = str(made["ImageId"])
    ec2.get_waiter("image_available").wait(ImageIds=[ami_id], WaiterConfig={"Delay": 1})
    return ami_id


def tags_of(lab: ImageLab, ami_id: str, version: str = "") -> list[TagTypeDef]:
    """Return the tags of an image, but for those that are its own; with `version` as those of that one."""
    (shown,) = lab.ec2.describe_images(ImageIds=[ami_id])["Images"]
    tags = {tag["Key"]: tag["Value"] for tag in shown["Tags"] if tag["Key"] not in _ITS_OWN}
    tags |= {"zmanim:version": version} if version else {}
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def spoil(lab: ImageLab, files: Mapping[str, str], version: str) -> str:
    """Make an image of a version of the good one with other files in it, as if it had been built so; return its id."""
    instance = lab.start(None, consent=False, data=False)
    lab.wait_state(instance, "running")
    lab.ec2.stop_instances(InstanceIds=[instance])
    lab.wait_state(instance, "stopped")
    # What its only boot wrote goes: what stands below it is the good image again.
    upper: Path = lab.cloud.directory / "machines" / instance / "upper"
    for path in upper.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, content in files.items():
        target = upper / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(0o755 if content.startswith("#!") else 0o644)
    tags = tags_of(lab, lab.image, version)
    made = lab.ec2.create_image(
        InstanceId=instance, Name=f"zmanim-{version}", TagSpecifications=[{"ResourceType": "image", "Tags": tags}]
    )
    ami_id = str(made["ImageId"])
    lab.ec2.get_waiter("image_available").wait(ImageIds=[ami_id], WaiterConfig={"Delay": 1})
    lab.terminate(instance)
    return ami_id


def vouch(lab: ImageLab, ami_id: str) -> None:
    """Let an image be as a passed verification leaves it: by the account's owner, who may sign."""
    owner = clouds.connect(lab.environment, lab.cloud.region)
    digest = attestation.keep(owner, amis.of_id(owner, ami_id), b'{"ok": true}')
    lab.ec2.create_tags(Resources=[ami_id], Tags=[{"Key": amis.VERIFIED_TAG, "Value": digest}])
