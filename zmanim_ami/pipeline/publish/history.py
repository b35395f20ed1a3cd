"""What was published when, as Parameter Store remembers it, and what there is to go back to.

The pointer of the image's own region moves last, so each of its versions is a publication that came to its end.
Parameter Store keeps a hundred of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from support.errors import BadInput
from support.version_order import version_key
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.publish import parameters
from zmanim_ami.pipeline.publish.record import Record

if TYPE_CHECKING:
    from mypy_boto3_ssm.type_defs import ParameterHistoryTypeDef

_NOW = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Publication:
    """One time that the pointer was moved: to what, when (an ISO time) and by whom (an ARN).

    `what` is `published` for a version that is newer than the one before, else `rolled back`. `version` is empty where
    nothing says what the image was.
    """

    at: str
    what: str
    version: str
    ami_id: str
    by: str


def read(clients: aws.Clients, prefix: str, records: Mapping[str, Record]) -> tuple[Publication, ...]:
    """Return every publication, the oldest first; `records` say which image is of which version.

    Raises aws's errors.
    """
    name = parameters.id_name(prefix)
    moves = _history(clients, name)
    versions = {ami_id: record.version for record in records.values() for ami_id in record.images.values()}
    # What was published before there were records has only its label, which is written just before the pointer.
    known = all(move.get("Value", "") in versions for move in moves)
    labels = [] if known else _history(clients, parameters.version_name(prefix))
    found: list[Publication] = []
    for move in moves:
        ami_id, at = move.get("Value", ""), move.get("LastModifiedDate", _NOW)
        if found and found[-1].ami_id == ami_id:
            continue  # written again, which moved nothing
        version = versions.get(ami_id) or _label(labels, at)
        back = bool(found) and version_key(version) < version_key(found[-1].version)
        when = at.astimezone(UTC).isoformat(timespec="seconds")
        found.append(
            Publication(when, "rolled back" if back else "published", version, ami_id, move.get("LastModifiedUser", ""))
        )
    return tuple(found)


def before(publications: Sequence[Publication]) -> Publication:
    """Return what production goes back to: what was published before the newest step forward.

    Where the newest step was back already, that is where it stays: so to go back may be said twice, and a half-done way
    back comes to its end.

    Raises `nothing-to-go-back-to`.
    """
    if publications and publications[-1].what == "rolled back":
        return publications[-1]
    if len(publications) < 2:
        raise BadInput(
            "there is nothing to go back to",
            code="nothing-to-go-back-to",
            expected="an earlier publication in the parameter's history",
            found=publications[-1].version if publications else "nothing was published",
            fix="./inv image.history shows what was",
        )
    return publications[-2]


def _history(clients: aws.Clients, name: str) -> list[ParameterHistoryTypeDef]:
    with aws.translate_errors(f"reading the history of {name}"):
        pages = clients.ssm.get_paginator("get_parameter_history").paginate(Name=name)
        found = aws.unless_refused(
            lambda: [item for page in pages for item in page["Parameters"]],
            "ParameterNotFound",
        )
    return sorted(found or [], key=lambda item: item.get("Version", 0))


def _label(labels: Sequence[ParameterHistoryTypeDef], at: datetime) -> str:
    earlier = [item.get("Value", "") for item in labels if item.get("LastModifiedDate", _NOW) <= at]
    return earlier[-1] if earlier else ""
