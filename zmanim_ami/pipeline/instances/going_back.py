"""A swap that does not come to its end is taken back: the old instance serves again, with what it had.

That is its volume; or, where the new image has changed the database on it (migrations, an extension, a PostgreSQL), one
made from the snapshot that was begun before the new instance had it. No client has written since, so nothing is lost.
Every step looks at what is, so that it can be cut short and made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import botocore.exceptions

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws, instance, volumes
from zmanim_ami.pipeline.instances import health, journal, state
from zmanim_ami.pipeline.instances.journal import Entry, Journal
from zmanim_ami.pipeline.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

# On the volume that was made from the snapshot, and on the one that the new image had changed.
RESTORED_TAG, ASIDE_TAG = "zmanim:swap-restored", "zmanim:set-aside"
# A snapshot's first one of a volume holds all of it.
_SNAPSHOT_SECONDS = 6 * 3600.0
_START_SECONDS = 300.0
# For a new instance to stop; the old one is not to wait for one that hangs.
_PATIENCE_SECONDS = 60.0
# What a volume is made like another one by; of the others CreateVolume refuses Iops and Throughput.
_FIELDS = ("Size", "VolumeType", "Encrypted", "KmsKeyId", "AvailabilityZone")
_FIELDS_OF_TYPE = {"gp3": ("Iops", "Throughput"), "io1": ("Iops",), "io2": ("Iops",)}


def go_back(clients: aws.Clients, settings: Settings, poller: aws.Poller, log: Journal) -> str:
    """Let the old instance of a swap serve again, end the new one, and return the old one's volume.

    Raises instance.NotReady, `volume-not-moved`, `swap-not-taken-back`, run_command.CommandNotRun, aws's errors; made
    again it goes on.
    """
    entry, new = log.entry, _new_one(clients, log.entry)
    has_it = new is not None and _has(clients, log, new["InstanceId"])
    if not entry.back:
        log.note(back=_decide(clients, entry, new, has_it=has_it, poller=poller))
    if log.entry.back == "same":
        volume = log.volume
        if new and has_it:
            volumes.take(clients, volume, new["InstanceId"], poller)
        _serve(clients, settings, volume, entry.old, poller)
    else:
        volume = _from_snapshot(clients, log, poller)
        if new and has_it:
            _take_if_it_stops(clients, log.volume, new["InstanceId"], poller)
        _serve(clients, settings, volume, entry.old, poller)
    if new:
        instance.terminate(clients, [new["InstanceId"]])
    if volume != log.volume:
        say(f"{log.volume}, which {entry.to} had changed, is set aside")
        with aws.translate_errors(f"tagging {log.volume}"):
            clients.ec2.create_tags(Resources=[log.volume], Tags=[{"Key": ASIDE_TAG, "Value": entry.token}])
    log.clear()
    return volume


def _take_if_it_stops(clients: aws.Clients, volume: str, new: str, poller: aws.Poller) -> None:
    # Two machines on one kernel, as on the local cloud, can't have a file system and its copy mounted at once.
    try:
        volumes.take(clients, volume, new, poller, seconds=_PATIENCE_SECONDS)
    except instance.NotReady as error:
        say(f"{error.summary}: it keeps {volume} until it is terminated")


def _decide(
    clients: aws.Clients, entry: Entry, new: InstanceTypeDef | None, *, has_it: bool, poller: aws.Poller
) -> str:
    """Return what to go back to: a volume that the new instance never had, or did not change, is as it was."""
    if has_it and new:
        return "snapshot" if _has_changed(clients, new, entry, poller) else "same"
    # An instance that is gone may have had it.
    return "snapshot" if entry.has_begun("attach") and new is None else "same"


def _new_one(clients: aws.Clients, entry: Entry) -> InstanceTypeDef | None:
    """Return the instance that was launched, if it is there: by its tag where the launch's answer was lost."""
    which = {"instance-id": [entry.new]} if entry.new else {f"tag:{journal.TAG}": [entry.token]}

    def look() -> list[InstanceTypeDef]:
        return aws.instances(clients, {**which, "instance-state-name": aws.ALIVE})

    with aws.translate_errors("looking for the new instance"):
        if entry.step == "launch" and not entry.new:
            clients.written.settled("an instance that may have been launched", lambda: bool(look()))
        found = look()
    return found[0] if found else None


def _has(clients: aws.Clients, log: Journal, instance_id: str) -> bool:
    """Whether the new instance has the volume, once what was asked for last is seen."""

    def owned() -> bool:
        return instance_id in volumes.owners(clients, log.volume)

    if (log.entry.step, log.entry.done) == ("attach", "no"):
        return clients.written.settled(f"{log.volume} on {instance_id}", owned)
    return owned()


def _has_changed(clients: aws.Clients, new: InstanceTypeDef, entry: Entry, poller: aws.Poller) -> bool:
    """Whether the database on the volume is not as the old instance left it; yes where nobody can say."""
    if not entry.database or new["State"]["Name"] != "running":
        return True
    try:
        told = state.told(clients, state.ask(clients, new["InstanceId"], poller), poller)
    except Error as error:
        say(f"{new['InstanceId']} does not say whether it has changed the database ({error.summary})")
        return True
    return told.database != entry.database


def _restored(clients: aws.Clients, entry: Entry) -> str:
    """Return the volume that was made from the snapshot, empty for none."""
    with aws.translate_errors("looking for the volume of the snapshot"):
        found = clients.ec2.describe_volumes(Filters=[{"Name": f"tag:{RESTORED_TAG}", "Values": [entry.token]}])
    return found["Volumes"][0]["VolumeId"] if found["Volumes"] else ""


def _from_snapshot(clients: aws.Clients, log: Journal, poller: aws.Poller) -> str:
    """Make a volume like the old one of the snapshot, once that is complete, unless it is made; return it."""
    entry, said = log.entry, [""]
    if made_before := _restored(clients, entry):
        return made_before

    def complete() -> bool | None:
        (shown,) = clients.ec2.describe_snapshots(SnapshotIds=[entry.snapshot])["Snapshots"]
        if shown.get("Progress", "") != said[-1]:
            said.append(shown.get("Progress", ""))
            say(f"{entry.snapshot}: {said[-1] or shown.get('State')}")
        if shown.get("State") == "error":
            raise late()
        return True if shown.get("State") == "completed" else None

    def late() -> Error:
        return Error(
            f"{entry.snapshot} is not complete",
            code="swap-not-taken-back",
            expected=f"within {_SNAPSHOT_SECONDS:.0f} s, and no error",
            found=said[-1] or "no progress",
            fix="run it again: it goes on waiting; if the snapshot failed, the backup of before is the way back",
        )

    say(f"{log.volume} may be changed by {entry.to}: waiting for {entry.snapshot}, of before")
    with aws.translate_errors(f"making a volume of {entry.snapshot}"):
        poller.wait_for(complete, _SNAPSHOT_SECONDS, late)
        (before,) = clients.ec2.describe_volumes(VolumeIds=[log.volume])["Volumes"]
        wanted = (*_FIELDS, *_FIELDS_OF_TYPE.get(before["VolumeType"], ()))
        like: Any = {name: before[name] for name in wanted if before.get(name)}  # type: ignore[literal-required]
        not_its = ("aws:", journal.TAG, RESTORED_TAG, ASIDE_TAG)
        tags = [each for each in before.get("Tags", []) if not each.get("Key", "").startswith(not_its)]
        made = clients.ec2.create_volume(
            SnapshotId=entry.snapshot,
            ClientToken=f"zmanim-{entry.token}",
            TagSpecifications=[
                {"ResourceType": "volume", "Tags": [*tags, {"Key": RESTORED_TAG, "Value": entry.token}]}
            ],
            **like,
        )["VolumeId"]
    volumes.wait_for(clients, made, "available", poller)
    return made


def _serve(clients: aws.Clients, settings: Settings, volume: str, old: str, poller: aws.Poller) -> None:
    """Have the old instance run with a volume, and its API answer."""
    (shown,) = _described(clients, old)
    if shown["State"]["Name"] == "running" and old not in volumes.owners(clients, volume):
        say(f"{old} runs without {volume}: it is stopped for that")
        volumes.stop(clients, old, poller)
        (shown,) = _described(clients, old)
    if shown["State"]["Name"] in {"stopping", "stopped"}:
        volumes.wait_for_stop(clients, old, poller)
        if old not in volumes.owners(clients, volume):
            volumes.wait_for(clients, volume, "available", poller)
            volumes.attach(clients, volume, old, poller)
            volumes.wait_for_owner(clients, volume, old, poller)
        _start(clients, old, poller)
        say(f"started {old} with {volume}")
    health.check(clients, old, settings.boot_timeout, poller)
    say(f"{old} serves again")


def _start(clients: aws.Clients, old: str, poller: aws.Poller) -> None:
    """Start an instance; what it ran on may have been given to somebody else meanwhile, and is waited for."""
    refused = [""]

    def runs() -> bool | None:
        state = _described(clients, old)[0]["State"]["Name"]
        if state in {"pending", "running"}:
            return state == "running" or None
        try:
            clients.ec2.start_instances(InstanceIds=[old])
        except botocore.exceptions.ClientError as error:
            if not aws.error_code(error).startswith("Insufficient"):
                raise
            if str(error) != refused[-1]:
                refused.append(str(error))
                say(f"waiting for capacity: {error}")
        return None

    def late() -> Error:
        return instance.NotReady(
            f"{old} does not start",
            expected=f"running within {_START_SECONDS:.0f} s",
            found=refused[-1] or "its console may say why",
            fix="run it again: it goes on; another instance of its type that ends may make room",
        )

    with aws.translate_errors(f"starting {old}"):
        poller.wait_for(runs, _START_SECONDS, late)


def _described(clients: aws.Clients, instance_id: str) -> list[InstanceTypeDef]:
    with aws.translate_errors(f"looking at {instance_id}"):
        return aws.instances(clients, {"instance-id": [instance_id]})
