"""publish-ssm, image.promote, image.rollback: a verified image becomes the one that the world launches, everywhere.

A publication writes the version's record once (record.py), protects the image and its copies from deregistration, and
then moves the two parameters (parameters.py) in each region, the image's own region last: history (history.py) has no
publication that did not come to its end. One that was cut short is completed by the same command again, and put back by
going to the version before.

An image that is not verified, or whose verification nobody vouches for (attestation.py), is refused, and nothing
overrides that. What was published once is believed by its record. One that is older than the published one is only
published by going back on purpose, so that an approval that comes late takes nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from support.errors import BadInput, Error
from support.progress import say
from support.version_order import version_key
from zmanim_ami.pipeline import attestation, aws, programs
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.ami.distribution import COPY_OF_TAG
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.publish import history, parameters, record
from zmanim_ami.pipeline.publish.parameters import Pointer, Target
from zmanim_ami.pipeline.publish.record import Record
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version, parse, refuse_test_image


@dataclass(frozen=True)
class Published:
    """What is published, as read back: `values` and `parameter_versions` by name, of the image's own region.

    `images` are the image and its copies by region. `changed` is False when all of them said so before.
    """

    ami_id: str
    version: str
    images: Mapping[str, str]
    report: str
    values: Mapping[str, str]
    parameter_versions: Mapping[str, int]
    changed: bool


@dataclass(frozen=True)
class _Place:
    """A region, the image there, and the parameters there."""

    clients: aws.Clients
    image: image.Image
    pointer: Pointer

    @property
    def target(self) -> Target:
        return Target(self.image.ami_id, self.image.version)


def publish(
    clients: aws.Clients,
    settings: Settings,
    elsewhere: Sequence[aws.Clients] = (),
    *,
    version: Version | None = None,
    ami_id: str = "",
    dry: bool = False,
) -> Published | Plan:
    """Publish the image of `version`, or the one called `ami_id`, in its region and `elsewhere`.

    Raises `older-than-published`, `test-image`, image's errors (there is none, not this account's, not of that
    version), `not-publishable`, `not-verified-yet`, `not-attested`, `programs-not-shipped`, `copy-missing`,
    `version-is-anothers`, parameters' and record's errors.
    """
    refuse_test_image(version)
    candidate = image.find(clients, version, ami_id)
    refuse_test_image(parse(candidate.version))
    recorded = record.read(clients, settings.parameter_prefix, candidate.version)
    _check(candidate)
    attestation.check(clients, candidate)
    return _publish(clients, settings, elsewhere, candidate, recorded, back=False, dry=dry)


def promote(
    clients: aws.Clients,
    settings: Settings,
    elsewhere: Sequence[aws.Clients] = (),
    *,
    version: Version,
    dry: bool = False,
) -> Published | Plan:
    """Publish a version that was published before and is newer than what is now.

    Raises `never-published`, and as `publish` does.
    """
    recorded = _recorded(clients, settings, version)
    candidate = image.find(clients, version, "")
    return _publish(clients, settings, elsewhere, candidate, recorded, back=False, dry=dry)


def roll_back(
    clients: aws.Clients,
    settings: Settings,
    elsewhere: Sequence[aws.Clients] = (),
    *,
    to: Version | None = None,
    dry: bool = False,
) -> Published | Plan:
    """Publish what was published before what is now, or the version `to`, which is older.

    Raises `nothing-to-go-back-to`, `not-older`, `never-published`, and as `publish` does.
    """
    records = record.read_all(clients, settings.parameter_prefix)
    publications = history.read(clients, settings.parameter_prefix, records)
    if to is None:
        step = history.before(publications)
        if step == publications[-1]:
            say(f"{step.version} is what production went back to at {step.at}; further back goes --to VERSION")
        to = parse(step.version)
    now = publications[-1].version if publications else ""
    if version_key(str(to)) > version_key(now):
        raise BadInput(
            f"{to} is not older than what is published",
            code="not-older",
            expected=f"{now or 'nothing'} or older",
            found=str(to),
            fix=f"./inv image.promote --version {to}",
        )
    recorded = _recorded(clients, settings, to)
    return _publish(clients, settings, elsewhere, image.find(clients, to, ""), recorded, back=True, dry=dry)


def _recorded(clients: aws.Clients, settings: Settings, version: Version) -> Record | None:
    """Return a version's record; None where it was published before there were records. Raises `never-published`."""
    recorded = record.read(clients, settings.parameter_prefix, str(version))
    if recorded is None:
        ami = image.of_name(clients, version.image_name)
        if ami is None or not image.was_published(clients, settings.parameter_prefix, ami.ami_id):
            raise BadInput(
                f"{version} was never published",
                code="never-published",
                expected=f"{record.name(settings.parameter_prefix, str(version))}",
                found="no such parameter",
                fix=f"./inv publish-ssm --version {version}",
            )
    return recorded


def _publish(
    clients: aws.Clients,
    settings: Settings,
    elsewhere: Sequence[aws.Clients],
    candidate: image.Image,
    recorded: Record | None,
    *,
    back: bool,
    dry: bool,
) -> Published | Plan:
    _check(candidate)
    programs.check(clients, candidate.tags.get(programs.TAG, programs.SHIPPED), candidate.ami_id)
    prefix = settings.parameter_prefix
    own = _Place(clients, candidate, parameters.read(clients, prefix))
    places = [*_copies(elsewhere, prefix, candidate, recorded), own]
    images = {place.clients.region: place.image.ami_id for place in places}
    meant = Record(candidate.version, images, candidate.tags[image.VERIFIED_TAG])
    _check_record(recorded, meant)
    for place in places:
        newest = place.pointer.newest
        if not back and version_key(candidate.version) < version_key(newest):
            raise parameters.older(place.target, newest)
    stale = [place for place in places if place.pointer.stale(place.target)]
    unprotected = [place for place in places if not place.image.protected]
    if dry:
        return Plan(tuple(_steps(prefix, recorded, meant, unprotected, stale)))
    if recorded is None:
        recorded = record.write(clients, prefix, meant)
        _check_record(recorded, meant)
    for place in unprotected:
        _protect(place)
    after = _move(places, yielding=not back)
    if not stale:
        say(f"{candidate.version} is what is published already")
    return Published(
        ami_id=candidate.ami_id,
        version=candidate.version,
        images=images,
        report=meant.report,
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


def _copies(
    elsewhere: Sequence[aws.Clients], prefix: str, candidate: image.Image, recorded: Record | None
) -> Iterator[_Place]:
    """Yield the copies of an image, each found by its name and held to be what it says. Raises `copy-missing`."""
    for there in elsewhere:
        copy = image.of_name(there, candidate.name)
        if copy is None and recorded and there.region not in recorded.images:
            # A region that came later. Its images can't be made any more, and the others must not wait for it.
            say(f"{candidate.version} was never in {there.region}: what is published there stays")
            continue
        wrong = "no image of that name" if copy is None else "; ".join(wrong_copy(copy, candidate))
        if copy is None or wrong:
            raise Error(
                f"{candidate.version} can't be published in {there.region}",
                code="copy-missing",
                expected=f"an available copy of {candidate.ami_id}, called {candidate.name}",
                found=wrong,
                fix=f"./inv build-ami --version {candidate.version} makes what copies are missing",
            )
        yield _Place(there, copy, parameters.read(there, prefix))


def wrong_copy(copy: image.Image, candidate: image.Image) -> Iterator[str]:
    """Yield what is not as it has to be of the copy of an image."""
    if copy.state != "available":
        yield f"{copy.ami_id} is {copy.state}"
    # The tag is ours, and says so of any image; what it was copied from says AWS, of copies that are not too old.
    for source in (copy.tags.get(COPY_OF_TAG, "nothing"), copy.copied_from or candidate.ami_id):
        if source != candidate.ami_id:
            yield f"{copy.ami_id} is a copy of {source}"
    if copy.version != candidate.version:
        yield f"{copy.ami_id} is tagged {copy.version or 'with no version'}"


def _check_record(recorded: Record | None, meant: Record) -> None:
    """Raise `version-is-anothers` where a version was published as other images than these."""
    if recorded is None:
        return
    other = [ami_id for region, ami_id in recorded.images.items() if meant.images.get(region, ami_id) != ami_id]
    if other:
        raise BadInput(
            f"{meant.version} was published as another image",
            code="version-is-anothers",
            expected=", ".join(other),
            found=", ".join(meant.images.values()),
            fix="a version is one image for ever: build this one under a new version",
        )
    if recorded.report != meant.report:
        say(f"{meant.version} was verified again since it was first published")


def _steps(
    prefix: str, recorded: Record | None, meant: Record, unprotected: Sequence[_Place], stale: Sequence[_Place]
) -> Iterator[Step]:
    if recorded is None:
        yield Step("write", record.name(prefix, meant.version), "once and for ever: it was never published")
    for place in unprotected:
        yield Step("protect", f"{place.image.ami_id} in {place.clients.region}", "from deregistration")
    for place in stale:
        yield from place.pointer.steps(place.target)


def _protect(place: _Place) -> None:
    ami_id = place.image.ami_id
    say(f"protecting {ami_id} in {place.clients.region} from deregistration")
    with aws.translate_errors(f"protecting {ami_id}"):
        place.clients.ec2.enable_image_deregistration_protection(ImageId=ami_id)


def _move(places: Sequence[_Place], *, yielding: bool) -> Mapping[str, parameters.Parameter]:
    """Move the parameters of each place in turn; return those of the last. What fails says where it stands then."""
    after: Mapping[str, parameters.Parameter] = {}
    for number, place in enumerate(places):
        try:
            after = place.pointer.move(place.target, yielding=yielding)
        except Error as error:
            if len(places) == 1 or error.code == "older-than-published":
                raise
            moved = ", ".join(each.clients.region for each in places[:number]) or "nowhere"
            raise Error(
                f"{place.target.version} is published in some regions only: {error.summary}, in {place.clients.region}",
                code=error.code,
                expected=", ".join(each.clients.region for each in places),
                found=f"{moved}; {error.found}",
                fix=f"{error.fix or 'remove the cause'}; then the same command again completes it, and image.rollback "
                "--to the version before puts it back",
            ) from error
    return after
