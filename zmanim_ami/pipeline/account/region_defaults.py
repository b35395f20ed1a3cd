"""What is set for all of an account in one region, whoever works there: nothing in the clear, nothing for everybody.

Volumes are encrypted without being told to be; no image and no snapshot can be shared with everybody. Whom an image is
shared with by name (the setting ami_users) stays so.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.settings import Settings

_UNBLOCKED = "unblocked"
_NEW: Literal["block-new-sharing"] = "block-new-sharing"
_ALL: Literal["block-all-sharing"] = "block-all-sharing"


def plan(clients: aws.Clients, settings: Settings) -> Iterator[Change]:
    """Yield what is missing in the region of `clients`; nothing is made weaker. Raises botocore's errors."""
    if not settings.account_wide:
        return
    ec2 = clients.ec2
    if not ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]:
        if settings.root_encrypted:
            reason = "one that nobody asks to encrypt would be stored in the clear"
            yield Change("encrypt", "new volumes", reason, ec2.enable_ebs_encryption_by_default)
        else:
            say("volumes are not encrypted by default: then no image could be unencrypted (setting root_encrypted)")
    if ec2.get_image_block_public_access_state()["ImageBlockPublicAccessState"] == _UNBLOCKED:
        close = partial(ec2.enable_image_block_public_access, ImageBlockPublicAccessState=_NEW)
        yield Change("close", "images", "one could be shared with everybody", close)
    if ec2.get_snapshot_block_public_access_state()["State"] == _UNBLOCKED:
        public = ec2.describe_snapshots(OwnerIds=["self"], RestorableByUserIds=["all"])["Snapshots"]
        # What is public already is its owner's choice, and others may need it: it stays.
        block = partial(ec2.enable_snapshot_block_public_access, State=_NEW if public else _ALL)
        kept = f"; {len(public)} that are stay so" if public else ""
        yield Change("close", "snapshots", f"one could be shared with everybody{kept}", block)
