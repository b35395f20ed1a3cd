"""Inventories of images, kept beside the reports on them: what is in an image, as its builder has written it down.

They lie in the bucket for releases of the environment verify, as inventories/AMI.json. An inventory is the builder's
word, and is shown to people only: nothing is decided by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.requirements import VERIFY
from zmanim_ami.pipeline.channel import bucket as release_channel

_MISSING = {"NoSuchKey", "404"}


def keep(clients: aws.Clients, ami_id: str, inventory: Path) -> None:
    """Put an image's inventory where `read` finds it; an account that has no place for it is told, and is no error."""
    try:
        bucket = release_channel.bucket(clients, VERIFY)
        with aws.translate_errors(f"keeping the inventory in {bucket}"):
            clients.s3.put_object(Bucket=bucket, Key=_key(ami_id), Body=inventory.read_bytes())
    except (Error, OSError) as error:
        say(f"the inventory of {ami_id} is not kept in the account, so image.diff can't show it: {error}")


def read(clients: aws.Clients, ami_id: str) -> Mapping[str, Any] | None:
    """Return the kept inventory of an image, None when there is none. Raises aws's errors."""
    bucket = release_channel.bucket(clients, VERIFY)
    with aws.translate_errors(f"reading {bucket}/{_key(ami_id)}"):
        answer = aws.unless_refused(lambda: clients.s3.get_object(Bucket=bucket, Key=_key(ami_id)), *_MISSING)
        content = answer["Body"].read() if answer else None
    try:
        inventory: Mapping[str, Any] | None = json.loads(content) if content else None
    except ValueError:
        return None
    return inventory


def _key(ami_id: str) -> str:
    return f"inventories/{ami_id}.json"
