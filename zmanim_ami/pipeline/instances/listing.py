"""instance.list: every instance of an environment, what it runs, how it does, and how far it is behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.errors import Error
from support.version_order import version_key
from zmanim_ami.pipeline import aws, instance, run_command
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.instances import rules, state
from zmanim_ami.pipeline.instances.state import State
from zmanim_ami.pipeline.publish import parameters, record
from zmanim_ami.pipeline.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef


@dataclass(frozen=True)
class Listed:
    """An instance. `version` is its image's, `release` its API's.

    `ready` is None where it can't be asked, and `why` says what is wrong, or why nobody knows. `last_backup` and
    `last_drill` are ISO times of the newest complete backup and of the newest that was restored as it was recorded,
    empty for none or where that is not known. `behind` counts the published versions that are newer than its own.
    """

    instance_id: str
    state: str
    type: str
    version: str
    release: str
    ready: bool | None
    why: str
    last_backup: str
    last_drill: str
    disk_used_percent: int | None
    behind: int | None
    published: str


def listed(clients: aws.Clients, settings: Settings, environment: str, poller: aws.Poller) -> list[Listed]:
    """Return the environment's instances that are not terminated, the oldest first.

    One that does not answer is in it, with the reason. Raises record's and aws's errors.
    """
    with aws.translate_errors(f"looking for instances of {environment}"):
        filters = {f"tag:{instance.ENVIRONMENT_TAG}": [environment], "instance-state-name": aws.ALIVE}
        found = sorted(aws.instances(clients, filters), key=lambda each: str(each.get("LaunchTime", "")))
    versions = {each.ami_id: each.version for each in image.own(clients)}
    pointer = parameters.read(clients, settings.parameter_prefix).version
    published = pointer.value if pointer else ""
    once = list(record.read_all(clients, settings.parameter_prefix))
    # All are asked before the first is waited for.
    asked = {each["InstanceId"]: _ask(clients, each, poller) for each in found}
    return [
        _listed(
            each,
            _told(clients, asked[each["InstanceId"]], poller),
            version=versions.get(each["ImageId"], ""),
            published=published,
            once=once,
        )
        for each in found
    ]


def _ask(clients: aws.Clients, item: InstanceTypeDef, poller: aws.Poller) -> run_command.Command | str:
    if item["State"]["Name"] != "running":
        swapped = {each.get("Key", ""): each.get("Value", "") for each in item.get("Tags", [])}.get(
            instance.SWAPPED_TAG, ""
        )
        return f"it was swapped for {swapped}, and is kept until somebody ends it" if swapped else "it does not run"
    try:
        return state.ask(clients, item["InstanceId"], poller, backups=True)
    except Error as error:
        return error.summary


def _told(clients: aws.Clients, asked: run_command.Command | str, poller: aws.Poller) -> State | str:
    if isinstance(asked, str):
        return asked
    try:
        return state.told(clients, asked, poller)
    except Error as error:
        return f"{error.summary} ({error.found})" if error.found else error.summary


def _listed(item: InstanceTypeDef, told: State | str, *, version: str, published: str, once: list[str]) -> Listed:
    newer = [each for each in once if version_key(version) < version_key(each) <= version_key(published)]
    backups = [each for each in told.backups or () if each.state == "complete"] if isinstance(told, State) else []
    ready, why = _ready(told)
    return Listed(
        instance_id=item["InstanceId"],
        state=item["State"]["Name"],
        type=item["InstanceType"],
        version=version,
        release=told.release if isinstance(told, State) else "",
        ready=ready,
        why=why,
        last_backup=max((each.time for each in backups), default=""),
        last_drill=max((each.proven for each in backups), default=""),
        disk_used_percent=told.used_percent if isinstance(told, State) else None,
        behind=len(newer) if version else None,
        published=published,
    )


def _ready(told: State | str) -> tuple[bool | None, str]:
    """Return whether an instance serves, and why not: as of the last minute, else as of its boot."""
    if isinstance(told, str):
        return None, told
    unread = "its backups can't be read yet, or not at all (./inv backup.list)" if told.backups is None else ""
    boot: Mapping[str, object] = told.ready or {}
    if told.serving is None and told.ready is None:
        return False, "it has not come to the end of its boot"
    if told.serving is not None:
        failed: Mapping[str, str] = told.serving.get("failed", {})
        good = told.serving.get("serves") is True
    else:
        failed, good = rules.failed_checks(boot), boot.get("ok") is True
    reasons = [f"{name}: {why}" for name, why in failed.items()]
    return good, "; ".join([*reasons, *([unread] if unread else [])])
