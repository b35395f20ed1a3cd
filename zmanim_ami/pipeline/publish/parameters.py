"""The two parameters that say what the world launches, in one region: reading them, and moving both or neither.

`{prefix}/ami-id` is the pointer that launch templates resolve, `{prefix}/ami-version` its label for people. The label
is written first and the pointer last, so that whatever fails before the end leaves in use what was in use. If the
pointer can't be written, the label is put back. Of two publications at one time the newer version stays: Parameter
Store has no condition on a write, but it numbers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import botocore.exceptions

from support.errors import BadInput, Error
from support.progress import say
from support.version_order import version_key
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.plan import Step

_IMAGE_TYPE = "aws:ec2:image"


@dataclass(frozen=True)
class Parameter:
    """An SSM parameter as it is now."""

    value: str
    version: int
    data_type: str


@dataclass(frozen=True)
class Target:
    """What the parameters are to say."""

    ami_id: str
    version: str


@dataclass(frozen=True)
class Pointer:
    """The two parameters below `prefix` in the region of `clients`, as they were read; None: there is none."""

    clients: aws.Clients
    prefix: str
    ami_id: Parameter | None
    version: Parameter | None

    @property
    def id_name(self) -> str:
        """The name of the one that launches resolve."""
        return id_name(self.prefix)

    @property
    def version_name(self) -> str:
        """The name of its label."""
        return version_name(self.prefix)

    @property
    def newest(self) -> str:
        """The newer one of the label and the version of the image that is pointed at; empty where neither is there."""
        pointed = _version_of_image(self.clients, self.ami_id.value) if self.ami_id else ""
        return max((self.version.value if self.version else "", pointed), key=version_key)

    def stale(self, target: Target) -> dict[str, str]:
        """Return what has to be written to say `target`, by name, the pointer last."""
        meant = {self.version_name: target.version, self.id_name: target.ami_id}
        now = self._now()
        return {name: value for name, value in meant.items() if (seen := now[name]) is None or seen.value != value}

    def steps(self, target: Target) -> tuple[Step, ...]:
        """Return what `move` would write, and what is there."""
        now = self._now()
        return tuple(
            Step("write", f"{name} = {value} in {self.clients.region}", _reason(now[name]))
            for name, value in self.stale(target).items()
        )

    def move(self, target: Target, *, yielding: bool) -> Mapping[str, Parameter]:
        """Say `target` and return both parameters as read back, by name; what is said already is not written.

        `yielding` gives back what a publication of a newer version wrote meanwhile.

        Raises `older-than-published` then, `not-written`, `not-read-back`, aws's errors.
        """
        stale = self.stale(target)
        if stale:
            written = _write_all(self.clients, stale, self._now(), pointer=self.id_name)
            if yielding:
                _yield_to_newer(self.clients, target, written, self._now(), pointer=self.id_name)
        meant = {self.version_name: target.version, self.id_name: target.ami_id}
        return {name: _read_back(self.clients, name, value) for name, value in meant.items()}

    def _now(self) -> dict[str, Parameter | None]:
        return {self.version_name: self.version, self.id_name: self.ami_id}


def id_name(prefix: str) -> str:
    """Return the name of the parameter that launches resolve."""
    return f"{prefix}/ami-id"


def version_name(prefix: str) -> str:
    """Return the name of its label."""
    return f"{prefix}/ami-version"


def read(clients: aws.Clients, prefix: str) -> Pointer:
    """Return the two parameters below `prefix` as they are now. Raises aws's errors."""
    return Pointer(
        clients, prefix, read_parameter(clients, id_name(prefix)), read_parameter(clients, version_name(prefix))
    )


def older(target: Target, newest: str) -> BadInput:
    """Return the error `older-than-published`."""
    return BadInput(
        f"{target.version} is older than what is published",
        code="older-than-published",
        expected=f"{newest} or newer",
        found=f"{target.version} ({target.ami_id})",
        fix=f"to take production back on purpose: ./inv image.rollback --to {target.version}",
    )


def _version_of_image(clients: aws.Clients, ami_id: str) -> str:
    try:
        return image.of_id(clients, ami_id).version
    except (BadInput, image.NoSuchImage):  # no id, or of an image that is gone: the label is all there is
        return ""


def _yield_to_newer(
    clients: aws.Clients,
    target: Target,
    written: Mapping[str, int],
    now: Mapping[str, Parameter | None],
    *,
    pointer: str,
) -> None:
    """Give back what a publication of a newer version wrote between our reading and our writing.

    Raises `older-than-published` then, aws's errors. `written` are the numbers of our own writes, by name.
    """
    newest = ""
    for name, number in written.items():
        before = now[name]
        if number == (before.version if before else 0) + 1:
            continue
        lost = read_parameter(clients, f"{name}:{number - 1}")  # what our write has replaced
        version = (_version_of_image(clients, lost.value) if name == pointer else lost.value) if lost else ""
        if lost and version_key(target.version) < version_key(version):
            newest = version
            say(f"{name} was {lost.value} for a moment: writing that again")
            with aws.translate_errors(f"writing {name}"):
                _write(clients, name, lost.value, lost, is_image=False)
    if newest:
        raise older(target, newest)


def _reason(now: Parameter | None) -> str:
    return f"it is {now.value}" if now else "there is none"


def read_parameter(clients: aws.Clients, name: str) -> Parameter | None:
    """Return an SSM parameter as it is now, None when there is none. Raises aws's errors."""
    with aws.translate_errors(f"reading {name}"):
        answer = aws.unless_refused(lambda: clients.ssm.get_parameter(Name=name)["Parameter"], "ParameterNotFound")
    if answer is None:
        return None
    return Parameter(answer.get("Value", ""), answer.get("Version", 0), answer.get("DataType", "text"))


def _write_all(
    clients: aws.Clients, stale: Mapping[str, str], now: Mapping[str, Parameter | None], *, pointer: str
) -> Mapping[str, int]:
    """Write each, the pointer last; return the number that Parameter Store gave to each write."""
    written: list[str] = []
    numbers: dict[str, int] = {}
    try:
        for name, value in stale.items():
            say(f"writing {name} = {value} ({_reason(now[name])})")
            written.append(name)
            with aws.translate_errors(f"writing {name}"):
                numbers[name] = _write(clients, name, value, now[name], is_image=name == pointer)
    except BaseException as error:
        # An answer that got lost may hide a write that was done: what the pointer says now decides.
        seen = _try_read(clients, pointer)
        if pointer in stale and (seen is None or seen.value != stale[pointer]):
            for name in written:
                if name != pointer:
                    _put_back(clients, name, stale[name], now[name])
        if not isinstance(error, Error):
            raise
        state = "; ".join(f"{name} = {seen.value if (seen := _try_read(clients, name)) else '(none)'}" for name in now)
        raise Error(
            f"{written[-1]} could not be written, so the image is not published",
            code="not-written",
            expected="both parameters written, or neither",
            found=f"{error.summary} ({error.found}); now {state}",
            fix=error.fix or "remove the cause, then publish again: it does only what is missing",
        ) from error
    return numbers


def _write(clients: aws.Clients, name: str, value: str, now: Parameter | None, *, is_image: bool) -> int:
    # AWS refuses to change the data type of a parameter that exists.
    data_type = now.data_type if now else _IMAGE_TYPE if is_image else "text"
    overwrite = now is not None
    return clients.ssm.put_parameter(Name=name, Value=value, Type="String", DataType=data_type, Overwrite=overwrite)[
        "Version"
    ]


def _put_back(clients: aws.Clients, name: str, written: str, before: Parameter | None) -> None:
    seen = _try_read(clients, name)
    if seen is None or seen.value != written:
        return  # ours was never there, or is not any more: somebody publishes beside us
    say(f"putting {name} back")
    try:
        if before is None:
            clients.ssm.delete_parameter(Name=name)
        else:
            clients.ssm.put_parameter(
                Name=name, Value=before.value, Type="String", DataType=before.data_type, Overwrite=True
            )
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        # Only the label is wrong then, and the error that is being raised says what both parameters hold.
        say(f"{name} could not be put back: {error}")


def _try_read(clients: aws.Clients, name: str) -> Parameter | None:
    try:
        return read_parameter(clients, name)
    except Error as error:
        return Parameter(f"(unreadable: {error.summary})", 0, "text")


def _read_back(clients: aws.Clients, name: str, value: str) -> Parameter:
    """Wait until a parameter says what was written.

    AWS checks one of type aws:ec2:image after it has accepted it, and shows the old value until then.
    """
    seen: list[Parameter | None] = []

    def look() -> bool:
        seen.append(read_parameter(clients, name))
        return seen[-1] is not None and seen[-1].value == value

    settled, last = clients.written.settled(name, look), seen[-1]
    if last is None or not settled:
        raise Error(
            f"{name} does not say what was written",
            code="not-read-back",
            expected=value,
            found=_reason(last),
            fix=f"AWS takes a parameter of type {_IMAGE_TYPE} only when the image exists in this region; publish again",
        )
    return last
