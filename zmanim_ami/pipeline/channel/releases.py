"""release.publish and release.rollback: which release of the API an environment's instances run.

Each moves the channel's pointer to a new serial. Instances take it at their API's next start.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.errors import BadInput
from support.progress import say
from support.version_order import version_key
from zmanim_ami.pipeline import programs
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.channel import bucket as channel
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.shipped import migrations
from zmanim_ami.pipeline.version import Version, refuse_test_image

EXPIRES_DAYS = 90
_ANY = "v0.0.0"


@dataclass(frozen=True)
class Moved:
    """Where the channel points now. `expires` is UTC; `before` is the version that it pointed to, or empty."""

    environment: str
    version: str
    serial: int
    sha256: str
    oldest_allowed: str
    expires: str
    rollback: bool
    before: str


def publish(
    clients: Clients,
    environment: str,
    version: Version,
    bundle: Path,
    *,
    oldest_allowed: Version | None = None,
    expires_days: int = EXPIRES_DAYS,
    dry: bool = False,
    now: datetime | None = None,
) -> Moved | Plan:
    """Make the release bundle in the directory `bundle` the one that instances of `environment` run.

    Without `oldest_allowed` what the channel said before stays. Publishing again what is in force renews its expiry.

    Raises `test-image`, `release-older`, `release-not-allowed`, `release-differs`, `expiry-invalid`, `migration-unfit`,
    `programs-not-shipped`, the errors of bucket, release_key and aws.
    """
    refuse_test_image(version)
    refuse_test_image(oldest_allowed)
    expires = _expires(expires_days, now)
    migrations.check(sorted((bundle / "migrations").iterdir()))
    made_for = str(json.loads((bundle / "manifest.json").read_text())["architecture"])
    if made_for != programs.SHIPPED:  # instances take no other, wherever they are
        raise BadInput(
            f"the program of {version} is not for the processors that it ships for",
            code="programs-not-shipped",
            expected=programs.SHIPPED,
            found=made_for,
            fix="the setting versions_file names a file for rehearsals: leave it out (unset ZMANIM_VERSIONS_FILE)",
        )
    content = channel.archive(bundle)
    sha256 = hashlib.sha256(content).hexdigest()
    before = channel.read(clients, environment, channel.POINTER)
    published = channel.read(clients, environment, channel.record(str(version)))
    if published and published.payload.sha256 != sha256:
        raise BadInput(
            f"{version} was published to {environment} before, and is another one now",
            code="release-differs",
            expected=f"the bundle {published.payload.sha256}",
            found=f"the bundle {sha256}",
            fix="give the new content a new version",
        )
    if before and version_key(str(version)) < version_key(before.payload.version):
        raise BadInput(
            f"{version} is older than what {environment} runs",
            code="release-older",
            expected=f"{before.payload.version} or newer",
            found=str(version),
            fix=f"./inv release.rollback --to {version} --environment {environment}",
        )
    allowed = str(oldest_allowed) if oldest_allowed else before.payload.oldest_allowed if before else _ANY
    what = (str(version), sha256, len(content))
    payload = _payload(clients, environment, before, what, oldest_allowed=allowed, expires=expires)
    if dry:
        steps = [_move(payload, before)]
        if published is None:
            about = f"{len(content)} bytes, commit {json.loads((bundle / 'manifest.json').read_text())['commit']}"
            place = channel.bucket(clients, environment)
            steps.insert(0, Step("upload", f"{place}/{channel.bundle(sha256)}", about))
            steps.insert(1, Step("write", f"{place}/{channel.record(str(version))}", "signed"))
        return Plan(tuple(steps))
    # Before the pointer: what it names has to be there. Objects that nothing names hurt nobody.
    record = channel.signed(clients, environment, replace(payload, serial=channel.RECORD_SERIAL, rollback=False))
    channel.put(clients, environment, channel.bundle(sha256), content)
    if published is None and not channel.put(clients, environment, channel.record(str(version)), record):
        raise BadInput(
            f"{version} is being published by somebody else",
            code="release-differs",
            expected="nobody",
            found=f"{version} appeared meanwhile",
        )
    return _moved(clients, environment, payload, channel.signed(clients, environment, payload), before)


def rollback(
    clients: Clients,
    environment: str,
    to: Version,
    *,
    expires_days: int = EXPIRES_DAYS,
    dry: bool = False,
    now: datetime | None = None,
) -> Moved | Plan:
    """Make instances of `environment` run a version that was published before; it may be older than their image.

    The record of that version is believed for its signature, so nobody who can write to the bucket chooses the bundle.
    The database stays as it is: the schema has to fit both (docs/releases.md).

    Raises `test-image`, `release-unknown`, `release-not-allowed`, `expiry-invalid`, the errors of bucket
    and aws.
    """
    refuse_test_image(to)
    expires = _expires(expires_days, now)
    before = channel.read(clients, environment, channel.POINTER)
    published = channel.read(clients, environment, channel.record(str(to)))
    if before is None or published is None or published.payload.version != str(to):
        raise BadInput(
            f"{to} was never published to {environment}",
            code="release-unknown",
            expected=f"a signed {channel.record(str(to))} in its bucket",
            found="none" if published is None else f"one of {published.payload.version}",
            fix=f"publish it, or launch its image: ./inv release.publish --version {to} --environment {environment}",
        )
    what = (str(to), published.payload.sha256, published.payload.size)
    allowed = before.payload.oldest_allowed
    payload = _payload(clients, environment, before, what, oldest_allowed=allowed, expires=expires, rollback=True)
    if dry:
        return Plan((_move(payload, before),))
    return _moved(clients, environment, payload, channel.signed(clients, environment, payload), before)


def _expires(days: int, now: datetime | None) -> str:
    if not 1 <= days <= 3650:
        raise BadInput(
            "that is no time to expire after",
            code="expiry-invalid",
            expected="1 to 3650 days",
            found=str(days),
            fix="--expires-days 90",
        )
    return ((now or datetime.now(UTC)) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _payload(
    clients: Clients,
    environment: str,
    before: channel.Read | None,
    what: tuple[str, str, int],
    *,
    oldest_allowed: str,
    expires: str,
    rollback: bool = False,
) -> channel.Payload:
    version, sha256, size = what
    if version_key(version) < version_key(oldest_allowed):
        raise BadInput(
            f"{version} is older than {environment} allows",
            code="release-not-allowed",
            expected=f"{oldest_allowed} or newer",
            found=version,
            fix="the database may no longer fit it; if it does, publish a newer version with another --oldest-allowed",
        )
    return channel.Payload(
        format=channel.FORMAT,
        environment=environment,
        serial=channel.last_serial(clients, environment, before) + 1,
        expires=expires,
        version=version,
        sha256=sha256,
        size=size,
        architecture=programs.SHIPPED,
        oldest_allowed=oldest_allowed,
        rollback=rollback,
    )


def _move(payload: channel.Payload, before: channel.Read | None) -> Step:
    was = f"serial {before.payload.serial} names {before.payload.version}" if before else "the channel is empty"
    verb = "roll back" if payload.rollback else "point"
    return Step(verb, f"the channel of {payload.environment} to {payload.version}, serial {payload.serial}", was)


def _moved(
    clients: Clients, environment: str, payload: channel.Payload, envelope: bytes, before: channel.Read | None
) -> Moved:
    say(f"{environment}: serial {payload.serial} names {payload.version}")
    channel.move(clients, environment, envelope, before)
    say("instances take it when their API starts next: systemctl restart zmanim-api")
    return Moved(
        environment=environment,
        version=payload.version,
        serial=payload.serial,
        sha256=payload.sha256,
        oldest_allowed=payload.oldest_allowed,
        expires=payload.expires,
        rollback=payload.rollback,
        before=before.payload.version if before else "",
    )
