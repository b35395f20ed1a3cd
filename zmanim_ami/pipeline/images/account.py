"""Every image of ours in an account, with its copies, and what was published of them: few calls, however many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from support.version_order import version_key
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.ami.distribution import COPY_OF_TAG
from zmanim_ami.pipeline.publish import history, parameters, record
from zmanim_ami.pipeline.publish.history import Publication
from zmanim_ami.pipeline.publish.record import Record
from zmanim_ami.pipeline.version import IMAGE_PREFIX


@dataclass(frozen=True)
class Family:
    """An image in its own region, and its copies by theirs; a copy whose image is gone is the `ami` of `region`."""

    region: str
    ami: image.Image
    copies: Mapping[str, image.Image]

    @property
    def members(self) -> dict[str, image.Image]:
        """The copies and then the image, by region: in this order they go."""
        return {**self.copies, self.region: self.ami}

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all of them."""
        return frozenset(each.ami_id for each in self.members.values())

    @property
    def orphan(self) -> bool:
        """Whether it is a copy whose image is gone."""
        return COPY_OF_TAG in self.ami.tags


@dataclass(frozen=True)
class Account:
    """What is there: `families` with the newest version first, and what is published.

    `pointed` are the ids that a parameter ami-id names now, in whatever region.
    """

    owner: str
    families: tuple[Family, ...]
    records: Mapping[str, Record]
    publications: tuple[Publication, ...]
    pointed: frozenset[str]

    def recorded(self, family: Family) -> bool:
        """Whether it was published, now or once."""
        once = {each.ami_id for each in self.publications} | self.pointed
        kept = self.records.get(family.ami.version)
        return bool(family.ids & (once | {*(kept.images.values() if kept else ())}))


def look(clients: aws.Clients, elsewhere: Sequence[aws.Clients], prefix: str) -> Account:
    """Return what is in the account, in the region of `clients` and `elsewhere`. Raises aws's and record's errors."""
    own = {each.region: image.own(each) for each in (clients, *elsewhere)}
    pointers = [parameters.read_parameter(each, parameters.id_name(prefix)) for each in (clients, *elsewhere)]
    records = record.read_all(clients, prefix)
    return Account(
        owner=aws.account(clients),
        families=tuple(sorted(_families(clients.region, own), key=_age, reverse=True)),
        records=records,
        publications=history.read(clients, prefix, records),
        pointed=frozenset(pointer.value for pointer in pointers if pointer),
    )


def is_ours(owner: str, ami: image.Image) -> bool:
    """Whether an image is this account's, and was made by this project: its name says what its tags say."""
    return (
        ami.owner == owner
        and bool(ami.version)
        and ami.name == f"{IMAGE_PREFIX}{ami.version}"
        and image.PROJECT_TAG in ami.tags
    )


def _families(home: str, own: Mapping[str, Sequence[image.Image]]) -> Iterator[Family]:
    sources = {each.ami_id for each in own[home]}
    copies: dict[str, dict[str, image.Image]] = {}
    for region, images in own.items():
        for each in images:
            source = each.tags.get(COPY_OF_TAG, "")
            if region != home and source in sources:
                copies.setdefault(source, {})[region] = each
            elif region != home:
                yield Family(region, each, {})
    for each in own[home]:
        yield Family(home, each, copies.get(each.ami_id, {}))


def _age(family: Family) -> tuple[object, ...]:
    return version_key(family.ami.version), family.ami.created, family.ami.ami_id
