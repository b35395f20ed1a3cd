"""What AWS and its owner would have given the account of a cloud before anybody works in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from zmanim_ami.pipeline.account import buckets, changes, requirements
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.rehearsal import identity
from zmanim_ami.rehearsal.versions import MIRROR_BUCKET

ENVIRONMENTS = ("prod", "verify")


def fill_mirror(clients: Clients, mirror: Path) -> None:
    """Make the bucket that stands for the sites of artifacts, of the files in `mirror`."""
    buckets.create(clients, MIRROR_BUCKET)
    # As open as the sites that it stands for: curl asks without credentials.
    read = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{MIRROR_BUCKET}/*",
    }
    clients.s3.delete_public_access_block(Bucket=MIRROR_BUCKET)
    clients.s3.put_bucket_policy(
        Bucket=MIRROR_BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [read]})
    )
    for file in sorted(mirror.iterdir()):
        clients.s3.upload_file(str(file), MIRROR_BUCKET, file.name)


def seed(connect: Callable[[str], Clients], policies: Path, settings: Settings) -> None:
    """Make what `account.apply` makes for prod and verify, from the policies' directory; and the owner's own keys."""
    chosen = replace(settings, github_subject=identity.SUBJECT)
    _make_keys(connect, chosen)
    _apply(connect, policies, chosen)


def _make_keys(connect: Callable[[str], Clients], settings: Settings) -> None:
    """Make the key whose alias the settings name, wherever images are: account.apply leaves it to its owner."""
    if settings.kms_key_id.startswith("alias/"):
        for region in (settings.region, *settings.ami_regions):
            kms = connect(region).kms
            kms.create_alias(AliasName=settings.kms_key_id, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])


def _apply(connect: Callable[[str], Clients], policies: Path, settings: Settings) -> None:
    clients = connect(settings.region)
    for each in ENVIRONMENTS:
        copies = tuple(dict.fromkeys((*identity.COPIES, *settings.ami_regions)))
        chosen = replace(settings, ami_regions=copies) if each == requirements.VERIFY else settings
        plan = partial(requirements.plan, clients, each, policies=policies, settings=chosen, connect=connect)
        planned = plan()
        changes.apply(planned)
        changes.settle(clients, planned, plan)
