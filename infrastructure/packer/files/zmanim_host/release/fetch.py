"""Fetching what the release channel has, as a user who can change nothing that runs.

It looks at what it fetches with the same rules as the adopter (rules.py), only to save itself a download; the
adopter believes none of it.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from zmanim_host.aws import client
from zmanim_host.aws.client import AwsRefused, Session, instance_credentials
from zmanim_host.aws.imds import connect
from zmanim_host.host import WARNING, HostError, log, write_whole
from zmanim_host.release import bundle, pointer, rules
from zmanim_host.release.pointer import KEYS, Pointer
from zmanim_host.release.rules import Release
from zmanim_host.release.store import CURRENT, Store

# What a channel that does not answer may cost a boot.
SECONDS = 10.0
POINTER = "pointer.json"
BUNDLE = "bundle"

# An object's bytes by its key and the most that is taken; None when there is none.
Get = Callable[[str, int], "bytes | None"]
Result = TypeVar("Result")


def fetch(get: Get, directory: Path, store: Store, environment: str, *, keys: Path = KEYS, now: float) -> str:
    """Fetch the pointer, and the bundle that it names if this machine would adopt it; return what was done, in a line.

    Both are written to `directory` whole or not at all, the pointer only once its signature was checked: a good one
    that is there already is not lost for a bad one. Raises HostError and OSError.
    """
    content = get(pointer.NAME, pointer.LONGEST)
    if content is None:
        (directory / POINTER).unlink(missing_ok=True)
        return f"the channel of {environment} is empty"
    named = pointer.read(content, environment, keys)
    if needs_bundle(named, store, now, pointer.floor(environment, keys)):
        _fetch_bundle(get, directory, named)
    write_whole(directory / POINTER, content)
    return f"the channel of {environment} names {named.version} (serial {named.serial})"


def needs_bundle(named: Pointer, store: Store, now: float, floor: int) -> bool:
    """Return whether this machine would adopt what the pointer names, and has it not; HostError when it may not.

    `floor` is as in rules.check_serial.
    """
    own = store.baked()
    if not pointer.is_release(own.version):
        return False
    state = store.load()
    rules.check_serial(named, state, floor)
    wanted = rules.choose(named, state, running=store.linked(CURRENT) or own, baked=own, now=now)
    return wanted == Release(named.version, named.sha256) and wanted not in store.installed()


def _fetch_bundle(get: Get, directory: Path, named: Pointer) -> None:
    place = directory / BUNDLE
    if place.exists() and hashlib.sha256(place.read_bytes()).hexdigest() == named.sha256:
        return  # left by an adopter that was interrupted
    key = pointer.bundle_name(named.sha256)
    content = get(key, named.size)
    if content is None:
        raise HostError(f"the channel names {named.version}, and its bundle {key} is not there")
    bundle.check_whole(content, sha256=named.sha256, size=named.size)
    write_whole(place, content)


def from_s3(bucket: str, session: Callable[[], Session]) -> Get:
    """Return what reads a bucket; the session is asked for when it is first needed."""
    sessions: list[Session] = []

    def get(key: str, limit: int) -> bytes | None:
        sessions[:] = sessions or [session()]
        content = BytesIO()
        try:
            client.get_object(sessions[0], bucket, key, content, limit=limit, seconds=SECONDS)
        except AwsRefused as refusal:
            if refusal.code == "NoSuchKey":
                return None
            raise
        return content.getvalue()

    return get


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return what `work` returns, if it does within `seconds`.

    In a thread that is left behind: a name server that is silent holds its caller in C, where neither a time limit of
    sockets nor a signal's handler ends it. The process ends soon.

    Raises HostError when it takes longer, and what `work` raises.
    """
    results: list[Result] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise HostError(f"no end after {seconds:.0f} s")
    return results[0]


def command() -> None:
    """Fetch what the release channel has for this environment; whatever is wrong, what runs goes on."""
    environment, region = os.environ.get("ZMANIM_ENVIRONMENT", ""), os.environ.get("AWS_REGION", "")
    if not environment or not region:
        log("this machine does not know its environment: it follows no release channel", WARNING)
        return
    if not (KEYS / f"{environment}.pem").is_file():
        log(f"this image has no key for the release channel of {environment}: it follows none")
        return
    directory, bucket = Path(os.environ["STATE_DIRECTORY"]), os.environ.get("RELEASES_BUCKET", "")
    if not bucket:
        log(
            f"the release channel is not followed: /zmanim/{environment}/releases-bucket has not said where it is",
            WARNING,
        )
        return
    get = from_s3(bucket, lambda: Session(region, instance_credentials(connect(wait=3))))
    try:
        log(within(SECONDS, lambda: fetch(get, directory, Store(), environment, now=time.time())))
    except (HostError, OSError) as error:
        # No failure of the unit: a machine without its channel is not ill. What runs is the adopter's to say.
        log(f"the release channel is not followed now: {error}", WARNING)
