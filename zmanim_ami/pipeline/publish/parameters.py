"""publish-ssm: make a verified image the one that the world launches, by two SSM parameters.

`{prefix}/ami-id` is the pointer that launch templates resolve, `{prefix}/ami-version` its label for people. The label
is written first and the pointer last, so that whatever fails before the end leaves in use what was in use. If the
pointer can't be written, the label is put back. An image that is not verified is refused, and nothing overrides that;
one that is older than the published one is refused unless it is said that production is to go back. Of two publications
at one time the newer version stays: Parameter Store has no condition on a write, but it numbers them.
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
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version, parse, refuse_test_image

_IMAGE_TYPE = "aws:ec2:image"


@dataclass(frozen=True)
class Parameter:
    """An SSM parameter as it is now."""

    value: str
    version: int
    data_type: str


@dataclass(frozen=True)
class Published:
    """What the parameters say, as read back: `values` and `parameter_versions` by name.

    `changed` is False when they said so before.
    """

    ami_id: str
    version: str
    values: Mapping[str, str]
    parameter_versions: Mapping[str, int]
    changed: bool


def publish(
    clients: aws.Clients,
    settings: Settings,
    *,
    version: Version | None = None,
    ami_id: str = "",
    roll_back: bool = False,
    dry: bool = False,
) -> Published | Plan:
    """Point the parameters below `settings.parameter_prefix` at the image of `version`, or at the one called `ami_id`.

    With `roll_back` it may be older than the published one. Raises `older-than-published` without, `test-image`,
    image's errors (there is none, not this account's, not of that version), `not-publishable`, `not-verified-yet`,
    `not-written`, `not-read-back`, aws's errors.
    """
    refuse_test_image(version)
    candidate = image.find(clients, version, ami_id)
    refuse_test_image(parse(candidate.version))
    _check(candidate)
    id_name, version_name = (f"{settings.parameter_prefix}/{name}" for name in ("ami-id", "ami-version"))
    meant = {version_name: candidate.version, id_name: candidate.ami_id}
    now = {name: read_parameter(clients, name) for name in meant}
    if not roll_back:
        _refuse_older(clients, candidate, now[version_name], now[id_name])
    stale = [name for name, value in meant.items() if (seen := now[name]) is None or seen.value != value]
    if dry:
        return Plan(tuple(Step("write", f"{name} = {meant[name]}", _reason(now[name])) for name in stale))
    if stale:
        written = _write_all(clients, {name: meant[name] for name in stale}, now, pointer=id_name)
        if not roll_back:
            _yield_to_newer(clients, candidate, written, now, pointer=id_name)
    else:
        say(f"{id_name} and {version_name} say so already")
    after = {name: _read_back(clients, name, value) for name, value in meant.items()}
    return Published(
        ami_id=candidate.ami_id,
        version=candidate.version,
        values={name: parameter.value for name, parameter in after.items()},
        parameter_versions={name: parameter.version for name, parameter in after.items()},
        changed=bool(stale),
    )


def _check(candidate: image.Image) -> None:
    if candidate.state != "available":
        raise BadInput(
            f"{candidate.ami_id} can't be launched, so it is not published",
            code="not-publishable",
            expected="state available",
            found=candidate.state,
        )
    if not candidate.verified:
        raise BadInput(
            f"{candidate.ami_id} ({candidate.version}) has not been verified",
            code="not-verified-yet",
            expected=f"the tag {image.VERIFIED_TAG} with the digest of a passed verification's report",
            found=candidate.tags.get(image.VERIFIED_TAG) or "no such tag",
            fix=f"./inv verify-ami --ami-id {candidate.ami_id}",
        )


def _refuse_older(
    clients: aws.Clients, candidate: image.Image, label: Parameter | None, pointer: Parameter | None
) -> None:
    """Raise `older-than-published` where the label, or the image that is pointed at, is of a newer version.

    An approval in GitHub can come days late, when a newer release is out: it must not take production back.
    """
    versions = (label.value if label else "", _version_of_image(clients, pointer.value) if pointer else "")
    newest = max(versions, key=version_key)
    if version_key(candidate.version) < version_key(newest):
        raise _older(candidate, newest)


def _version_of_image(clients: aws.Clients, ami_id: str) -> str:
    try:
        return image.of_id(clients, ami_id).version
    except (BadInput, image.NoSuchImage):  # no id, or of an image that is gone: the label is all there is
        return ""


def _older(candidate: image.Image, newest: str) -> BadInput:
    return BadInput(
        f"{candidate.version} is older than what is published",
        code="older-than-published",
        expected=f"{newest} or newer",
        found=f"{candidate.version} ({candidate.ami_id})",
        fix=f"to take production back on purpose: ./inv publish-ssm --version {candidate.version} --roll-back",
    )


def _yield_to_newer(
    clients: aws.Clients,
    candidate: image.Image,
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
        if lost and version_key(candidate.version) < version_key(version):
            newest = version
            say(f"{name} was {lost.value} for a moment: writing that again")
            with aws.translate_errors(f"writing {name}"):
                _write(clients, name, lost.value, lost, is_image=False)
    if newest:
        raise _older(candidate, newest)


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
