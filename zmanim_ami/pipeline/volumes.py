"""An instance's data volume that goes to another one: taken from one that is stopped, attached to one that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws, instance

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import VolumeStateType

# AWS takes a minute or two for a shutdown; stopping it by force is the last that a volume should see.
_STOP_SECONDS = 600.0
_MOVE_SECONDS = 120.0


def take(
    clients: aws.Clients, volume: str, instance_id: str, poller: aws.Poller, *, seconds: float = _STOP_SECONDS
) -> None:
    """Stop an instance, as a shutdown of its own does, within `seconds`, and take a volume from it.

    Raises instance.NotReady when the instance does not stop, `volume-not-moved`, aws's errors.
    """
    say(f"stopping {instance_id} for its volume {volume}")
    stop(clients, instance_id, poller, seconds=seconds)
    detach(clients, volume, instance_id, poller)


def stop(clients: aws.Clients, instance_id: str, poller: aws.Poller, *, seconds: float = _STOP_SECONDS) -> None:
    """Stop an instance, never by force. Raises instance.NotReady when it does not stop, aws's errors."""
    with aws.translate_errors(f"stopping {instance_id}"):
        clients.ec2.stop_instances(InstanceIds=[instance_id])
    wait_for_stop(clients, instance_id, poller, seconds=seconds)


def detach(clients: aws.Clients, volume: str, instance_id: str, poller: aws.Poller) -> None:
    """Take a volume from an instance that is stopped, never by force. Raises `volume-not-moved`, aws's errors."""
    with aws.translate_errors(f"detaching {volume}"):
        clients.ec2.detach_volume(VolumeId=volume, InstanceId=instance_id, Device=instance.DATA_DEVICE)
    wait_for(clients, volume, "available", poller)


def attach(clients: aws.Clients, volume: str, instance_id: str, poller: aws.Poller) -> None:
    """Attach a volume to an instance as soon as that runs. Raises `volume-not-moved`, aws's errors."""

    def attached() -> bool | None:
        # What EC2 says while the instance is pending, and, of one just launched, while this part does not know it.
        answer = aws.unless_refused(
            lambda: clients.ec2.attach_volume(VolumeId=volume, InstanceId=instance_id, Device=instance.DATA_DEVICE),
            *("IncorrectState", "IncorrectInstanceState", "InvalidInstanceID.NotFound"),
        )
        return True if answer else None

    with aws.translate_errors(f"attaching {volume} to {instance_id}"):
        poller.wait_for(attached, _MOVE_SECONDS, lambda: _not_moved(volume, "attached", "its instance not running"))


def delete(clients: aws.Clients, volumes: list[str]) -> None:
    """Delete volumes; one that is gone already is no error."""
    for volume in volumes:
        with aws.translate_errors(f"deleting {volume}"), aws.ignoring("InvalidVolume.NotFound"):
            clients.ec2.delete_volume(VolumeId=volume)
        say(f"deleted {volume}")


def of(clients: aws.Clients, instance_id: str) -> str:
    """Return the data volume of an instance. Raises `volume-not-moved` when it has none, aws's errors."""
    with aws.translate_errors(f"looking for the volume of {instance_id}"):
        found = aws.instances(clients, {"instance-id": [instance_id]})
    mapped = {each["DeviceName"]: each["Ebs"]["VolumeId"] for item in found for each in item["BlockDeviceMappings"]}
    if instance.DATA_DEVICE not in mapped:
        raise Error(
            f"{instance_id} has no data volume",
            code="volume-not-moved",
            expected=f"one at {instance.DATA_DEVICE}",
            found=", ".join(mapped) or "none",
        )
    return mapped[instance.DATA_DEVICE]


def wait_for_stop(
    clients: aws.Clients, instance_id: str, poller: aws.Poller, *, seconds: float = _STOP_SECONDS
) -> None:
    """Wait until an instance that stops is stopped. Raises instance.NotReady when it does not, aws's errors."""

    def stopped() -> bool | None:
        (found,) = aws.instances(clients, {"instance-id": [instance_id]})
        return True if found["State"]["Name"] == "stopped" else None

    with aws.translate_errors(f"waiting for {instance_id} to stop"):
        poller.wait_for(
            stopped,
            seconds,
            lambda: instance.NotReady(
                f"{instance_id} does not stop",
                expected=f"stopped within {seconds:.0f} s",
                found="the console's last lines:\n" + instance.tail(instance.console(clients, instance_id)),
            ),
        )


def wait_for(clients: aws.Clients, volume: str, state: VolumeStateType, poller: aws.Poller) -> None:
    """Wait until a volume is in that state. Raises `volume-not-moved`, aws's errors."""
    found: list[str] = []

    def reached() -> bool | None:
        found.append(clients.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"])
        return True if found[-1] == state else None

    with aws.translate_errors(f"waiting for {volume}"):
        poller.wait_for(reached, _MOVE_SECONDS, lambda: _not_moved(volume, state, found[-1]))


def wait_for_owner(clients: aws.Clients, volume: str, instance_id: str, poller: aws.Poller) -> None:
    """Wait until an instance has a volume. Raises `volume-not-moved`, aws's errors."""
    poller.wait_for(
        lambda: instance_id in owners(clients, volume) or None,
        _MOVE_SECONDS,
        lambda: _not_moved(volume, f"attached to {instance_id}", "still on its way"),
    )


def owners(clients: aws.Clients, volume: str) -> list[str]:
    """Return the instances that have a volume, not those that it is on its way to or from. Raises aws's errors."""
    with aws.translate_errors(f"looking at {volume}"):
        (shown,) = clients.ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    return [each["InstanceId"] for each in shown["Attachments"] if each.get("State") == "attached"]


def _not_moved(volume: str, expected: str, found: str) -> Error:
    return Error(
        f"{volume} does not move to another instance",
        code="volume-not-moved",
        expected=f"{expected} within {_MOVE_SECONDS:.0f} s",
        found=found,
        fix="run it again: what is half done is found by it",
    )
