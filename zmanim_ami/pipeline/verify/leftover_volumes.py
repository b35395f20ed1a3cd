"""The data volumes of verifications: none is left behind, whatever comes of the instances."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from zmanim_ami.pipeline import aws, instance, volumes

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef


@contextmanager
def deleted_at_end(clients: aws.Clients, volume: str, owner: str, poller: aws.Poller) -> Iterator[None]:
    """Delete a volume after the body of a `with`, as soon as it is free; what `owner` still has goes with that.

    Not by DeleteOnTermination of the instance that gets it: that is ModifyInstanceAttribute, and a right to much more.

    Raises `volume-not-moved`, aws's errors.
    """
    try:
        yield
    finally:
        if owner not in volumes.owners(clients, volume):
            volumes.wait_for(clients, volume, "available", poller)
            volumes.delete(clients, [volume])


def leftovers(clients: aws.Clients, now: datetime) -> list[str]:
    """Return the volumes that a killed verification left between two instances hours ago. Raises aws's errors."""
    filters: list[FilterTypeDef] = [
        {"Name": f"tag:{instance.TAG}", "Values": ["true"]},
        {"Name": "status", "Values": ["available"]},
    ]
    with aws.translate_errors("looking for volumes of earlier verifications"):
        pages = clients.ec2.get_paginator("describe_volumes").paginate(Filters=filters)
        return [
            each["VolumeId"]
            for page in pages
            for each in page["Volumes"]
            if now - each["CreateTime"] > instance.LEFT_BEHIND
        ]
