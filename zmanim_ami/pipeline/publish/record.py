"""What a version was published as: a parameter of its own for each version, written once and never again.

`{prefix}/images/VERSION`, in the image's own region, holds the image's id in each region and the digest of the report
of its verification. The two parameters that the world launches (parameters.py) are pointers that move; this is what
they may move to, and a version that was built anew under its old name is refused by it. IAM lets the publish role write
one, and write over none (`ssm:Overwrite`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws

_FOLDER = "images"


@dataclass(frozen=True)
class Record:
    """A version as it was published: its images by region, and the SHA-256 of the report on the one that was verified.

    `at` is when it was written, an ISO time; it is empty of one that is about to be.
    """

    version: str
    images: Mapping[str, str]
    report: str
    at: str = ""


def folder(prefix: str) -> str:
    """Return the path of all records."""
    return f"{prefix}/{_FOLDER}"


def name(prefix: str, version: str) -> str:
    """Return the name of a version's parameter."""
    return f"{folder(prefix)}/{version}"


def read(clients: aws.Clients, prefix: str, version: str) -> Record | None:
    """Return a version's record, None when it was never published. Raises `record-unreadable`, aws's errors."""
    wanted = name(prefix, version)
    with aws.translate_errors(f"reading {wanted}"):
        found = aws.unless_refused(lambda: clients.ssm.get_parameter(Name=wanted)["Parameter"], "ParameterNotFound")
    return _record(wanted, found) if found else None


def read_all(clients: aws.Clients, prefix: str) -> dict[str, Record]:
    """Return every record by its version. Raises `record-unreadable`, aws's errors."""
    with aws.translate_errors(f"reading {folder(prefix)}"):
        pages = clients.ssm.get_paginator("get_parameters_by_path").paginate(Path=folder(prefix))
        found = [_record(item.get("Name", ""), item) for page in pages for item in page["Parameters"]]
    return {record.version: record for record in found}


def write(clients: aws.Clients, prefix: str, record: Record) -> Record:
    """Write a record unless it is there, and return the one that is there: whoever was first has said what it is.

    Raises `record-unreadable`, aws's errors.
    """
    wanted = name(prefix, record.version)
    say(f"writing {wanted}, once and for ever")
    images = dict(sorted(record.images.items()))
    value = json.dumps({"version": record.version, "images": images, "report": record.report})
    with aws.translate_errors(f"writing {wanted}"):
        # There already: an earlier attempt's answer was lost, or somebody publishes beside us.
        aws.unless_refused(
            lambda: clients.ssm.put_parameter(Name=wanted, Value=value, Type="String", Overwrite=False),
            "ParameterAlreadyExists",
        )
    return read(clients, prefix, record.version) or record


def _record(name: str, item: Mapping[str, object]) -> Record:
    try:
        content = json.loads(str(item.get("Value", "")))
        images = {str(region): str(ami_id) for region, ami_id in content["images"].items()}
        record = Record(str(content["version"]), images, str(content["report"]), _time(item.get("LastModifiedDate")))
        if record.version != name.rpartition("/")[2]:
            raise ValueError(f"it is of {record.version}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Error(
            f"{name} is no record of a publication",
            code="record-unreadable",
            expected='{"version", "images": {REGION: AMI}, "report"}, as publish-ssm writes it',
            found=f"{error!r} in {str(item.get('Value', ''))[:200]}",
            fix="look who wrote it (aws ssm get-parameter-history); delete it, and publish the version again",
        ) from error
    return record


def _time(value: object) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds") if isinstance(value, datetime) else ""
