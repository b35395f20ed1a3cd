"""What moto lacks of an image's life, on its own images: protection, deprecation, disabling, whom it is shared with.

And the thing that AWS's answers can't be asked for: to be cut off before or after each call (`cut_at`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.ec2.models import ec2_backends

from tests.support import pipeline_cloud as cloud
from zmanim_ami.pipeline.aws import Clients

HERE, THERE = "eu-west-1", "eu-central-1"
# Long enough ago for anything that waits for an image to be old.
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
_READS = ("Describe", "Get", "List", "Head")


class CutOff(BaseException):
    """The program ended here: kill -9, as far as AWS can tell."""


@dataclass
class Life:
    """The images of a region. `references` are ARNs that DescribeImageReferences gives, by image."""

    clients: Clients
    references: dict[str, list[str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    @property
    def amis(self) -> dict[str, Any]:
        """moto's images."""
        made: dict[str, Any] = ec2_backends[cloud.ACCOUNT][self.clients.region].amis
        return made

    def answer(self) -> None:
        """Answer what moto does not."""
        replies: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any] | str]] = {
            "EnableImageDeregistrationProtection": lambda body: self._set(body, deregistration_protection="enabled"),
            "DisableImageDeregistrationProtection": lambda body: self._set(body, deregistration_protection="disabled"),
            "EnableImageDeprecation": lambda body: self._set(body, deprecation_time=_text(body["DeprecateAt"])),
            "DisableImage": lambda body: self._set(body, state="disabled"),
            "DeregisterImage": self._deregister,
            "DescribeImageReferences": self._references,
        }
        for operation, reply in replies.items():
            cloud.answer(self.clients.ec2, operation, lambda request, reply=reply: reply(request["body"]))  # type: ignore[misc]  # the default binds it

    def image(self, version: str = "v1.2.3", *, source: str = "", created: datetime = CREATED, **tags: str) -> str:
        """Make a verified image of ours, or with `source` the copy of one."""
        ec2, own = self.clients.ec2, {"copy_of": source} if source else {}
        given = {"version": version, "run": "7", **own, **tags}
        ami_id = ec2.register_image(Name=f"zmanim-{version}", RootDeviceName="/dev/xvda")["ImageId"]
        ami = self.amis[ami_id]
        ami.creation_date = created
        ami.add_tags({f"zmanim:{name.replace('_', '-')}": value for name, value in given.items() if value})
        ami.ebs_snapshot.add_tags({"zmanim:run": "7"})
        if source:
            ami.source_image_id = source
        elif "verified" not in tags:
            cloud.attest(self.clients, ami_id)
        return ami_id

    def _set(self, body: Mapping[str, Any], **fields: str) -> Mapping[str, Any] | str:
        ami = self.amis.get(body["ImageId"])
        if ami is None:
            return "InvalidAMIID.Unavailable"
        vars(ami).update(fields)
        return {"Return": True}

    def _deregister(self, body: Mapping[str, Any]) -> Mapping[str, Any] | str:
        ami = self.amis.get(body["ImageId"])
        if ami is None:
            return "InvalidAMIID.Unavailable"
        if getattr(ami, "deregistration_protection", "disabled").startswith("enabled"):
            return "OperationNotPermitted"
        del self.amis[ami.id]
        if body.get("DeleteAssociatedSnapshots") != "true":
            return {"Return": True}
        ec2_backends[cloud.ACCOUNT][self.clients.region].delete_snapshot(ami.ebs_snapshot.id)
        return {"Return": True, "DeleteSnapshotResults": [{"SnapshotId": ami.ebs_snapshot.id, "ReturnCode": "success"}]}

    def _references(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        wanted = {value for name, value in body.items() if name.startswith("ImageId")}
        assert len(wanted) <= 10, "AWS takes ten at most"
        return {
            "ImageReferences": [
                {"ImageId": ami_id, "ResourceType": "ssm:Parameter", "Arn": arn}
                for ami_id, arns in self.references.items()
                if ami_id in wanted
                for arn in arns
            ]
        }


def _text(moment: object) -> str:
    return str(moment)


@contextmanager
def two_regions() -> Iterator[tuple[Life, Life]]:
    """An account with two regions, whose images have a life."""
    with cloud.account(HERE) as here:
        there = cloud.clients(THERE)
        lives = Life(here), Life(there)
        for life in lives:
            life.answer()
        yield lives


@contextmanager
def cut_at(number: int, clients: Sequence[Clients], *, after: bool) -> Iterator[list[str]]:
    """Cut whatever runs off at its change number `number` (from 0), before it or when its answer was to come.

    Gives the changes that were made or begun; there are no more than `number + 1`.
    """
    made: list[str] = []

    def begin(model: Any, **_: Any) -> None:
        if model.name.startswith(_READS):
            return
        made.append(model.name)
        if not after and len(made) == number + 1:
            raise CutOff

    def ended(model: Any, **_: Any) -> None:
        if after and not model.name.startswith(_READS) and len(made) == number + 1:
            raise CutOff

    watched = [client for each in clients for client in (each.ec2, each.ssm)]
    for client in watched:
        # Before whatever a test answers itself.
        client.meta.events.register_first("before-call.*.*", begin)
        client.meta.events.register_last("after-call.*.*", ended)
    try:
        yield made
    finally:
        for client in watched:
            client.meta.events.unregister("before-call.*.*", begin)
            client.meta.events.unregister("after-call.*.*", ended)
