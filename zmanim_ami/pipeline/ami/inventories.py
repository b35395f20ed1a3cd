"""What a builder has written down of an image, kept beside the report on it: its inventory, its advisories.

Both lie in the bucket for releases of the environment verify, as inventories/AMI.json and advisories/AMI.json. They are
the builder's word, and are shown to people only: nothing is decided by them.
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


INVENTORIES, ADVISORIES = "inventories", "advisories"


def keep(clients: aws.Clients, ami_id: str, file: Path, kind: str = INVENTORIES) -> None:
    """Put an image's file where `read` finds it; an account that has no place for it is told, and is no error."""
    try:
        bucket = release_channel.bucket(clients, VERIFY)
        with aws.translate_errors(f"keeping {kind} in {bucket}"):
            clients.s3.put_object(Bucket=bucket, Key=_key(ami_id, kind), Body=file.read_bytes())
    except (Error, OSError) as error:
        say(f"{file.name} of {ami_id} is not kept in the account, so image.diff can't show it: {error}")


def read(clients: aws.Clients, ami_id: str, kind: str = INVENTORIES) -> Mapping[str, Any] | None:
    """Return the kept inventory of an image (or of another kind), None when there is none. Raises aws's errors."""
    bucket = release_channel.bucket(clients, VERIFY)
    with aws.translate_errors(f"reading {bucket}/{_key(ami_id, kind)}"):
        answer = aws.unless_refused(lambda: clients.s3.get_object(Bucket=bucket, Key=_key(ami_id, kind)), *_MISSING)
        content = answer["Body"].read() if answer else None
    try:
        kept: Mapping[str, Any] | None = json.loads(content) if content else None
    except ValueError:
        return None
    return kept


def _key(ami_id: str, kind: str) -> str:
    return f"{kind}/{ami_id}.json"
