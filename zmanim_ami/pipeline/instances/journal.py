"""How far a swap is: written on the data volume, which is what all of it is about, before and after each step.

Whoever runs the swap again, from whatever machine, finds it there. It says what was meant; what is, EC2 says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final

from support.errors import Error
from zmanim_ami.pipeline import aws

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import TagTypeDef, VolumeTypeDef

TAG: Final = "zmanim:swap"
# In their order. Until `address` has begun no client reaches the new instance.
STEPS: Final = ("launch", "quiet", "stop", "snapshot", "detach", "attach", "ready", "address", "protect")


@dataclass(frozen=True)
class Entry:
    """A swap and its current step, begun or done.

    `token` is also the new instance's tag of the same name, by which it is found when its launch's answer was lost.
    `database` is state.py's of the old instance. `back` is what a swap that is taken back goes back to, once that is
    decided: the volume itself (`same`) or its `snapshot`.
    """

    environment: str
    to: str
    old: str
    token: str
    database: str = ""
    step: str = "launch"
    done: str = "no"
    new: str = ""
    snapshot: str = ""
    back: str = ""

    def has_begun(self, step: str) -> bool:
        """Whether a step may have been made."""
        return STEPS.index(self.step) >= STEPS.index(step)


class Journal:
    """A swap's entry on its volume; whatever is written there is in `entry` afterwards."""

    def __init__(self, clients: aws.Clients, volume: str, entry: Entry, written: str = "") -> None:
        """`written` is what the volume's tag says now, as far as this run knows."""
        self._clients = clients
        self._written = written
        self.volume = volume
        self.entry = entry

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note a step before and after the body of a `with`; not after, where that fails. Raises aws's errors."""
        self.note(step=name, done="no")
        yield
        self.note(done="yes")

    def note(self, **found: str) -> None:
        """Write down what is new. Raises `swap-taken-over`, aws's errors."""
        self._check_ours()
        self.entry = replace(self.entry, **found)
        self._written = _text(self.entry)
        tag: TagTypeDef = {"Key": TAG, "Value": self._written}
        with aws.translate_errors(f"noting the step {self.entry.step} on {self.volume}"):
            self._clients.ec2.create_tags(Resources=[self.volume], Tags=[tag])

    def clear(self) -> None:
        """Take the entry from the volume: the swap is over. Raises `swap-taken-over`, aws's errors."""
        self._check_ours()
        with aws.translate_errors(f"noting on {self.volume} that the swap is over"):
            self._clients.ec2.delete_tags(Resources=[self.volume], Tags=[{"Key": TAG}])

    def _check_ours(self) -> None:
        """Raise `swap-taken-over` when somebody else has written here since: two at once would undo each other."""
        found = [""]

        def ours() -> bool:
            with aws.translate_errors(f"reading how far the swap of {self.volume} is"):
                (shown,) = self._clients.ec2.describe_volumes(VolumeIds=[self.volume])["Volumes"]
            found.append(_tag(shown))
            return found[-1] == self._written

        # Tags are seen late at times; what this run has written is waited for.
        if not (ours() or self._clients.written.settled(f"the tag {TAG} of {self.volume}", ours)):
            raise Error(
                f"another command goes on with the swap of {self.volume}",
                code="swap-taken-over",
                expected=self._written or f"no tag {TAG}",
                found=found[-1] or "no tag",
                fix="let that one come to its end; then run this again, which shows what is left to do",
            )


def find(clients: aws.Clients, environment: str) -> list[Journal]:
    """Return the environment's swaps that have not come to their end.

    Raises `swap-unreadable`, aws's errors.
    """
    with aws.translate_errors("looking for a swap that was cut short"):
        pages = clients.ec2.get_paginator("describe_volumes").paginate(
            Filters=[{"Name": "tag-key", "Values": [TAG]}], PaginationConfig={"PageSize": 500}
        )
        found = [each for page in pages for each in page["Volumes"]]
    ours = [each for each in found if f"environment={environment} " in f"{_tag(each)} " or "=" not in _tag(each)]
    return [Journal(clients, each["VolumeId"], _entry(each), _tag(each)) for each in ours]


def _tag(item: VolumeTypeDef) -> str:
    return next((tag.get("Value", "") for tag in item.get("Tags", []) if tag.get("Key") == TAG), "")


def _text(entry: Entry) -> str:
    values = {item.name: str(getattr(entry, item.name)) for item in fields(entry)}
    # Of letters that each of AWS's services takes in a tag, and far below its 256.
    return " ".join(f"{name}={value}" for name, value in values.items() if value)


def _entry(item: VolumeTypeDef) -> Entry:
    text = _tag(item)
    try:
        values: Mapping[str, str] = dict(word.split("=", 1) for word in text.split())
        entry = Entry(**values)
        if entry.step not in STEPS:
            raise ValueError(f"there is no step {entry.step}")
    except (ValueError, TypeError) as error:
        raise Error(
            f"the tag {TAG} of {item['VolumeId']} can't be read",
            code="swap-unreadable",
            expected="what instance.swap writes there",
            found=f"{text!r} ({error})",
            fix="look which instance has the volume; delete the tag once all is as it should be",
        ) from error
    return entry
