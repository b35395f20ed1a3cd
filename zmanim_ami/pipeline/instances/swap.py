"""instance.swap: a new instance of another version takes an instance's data volume, and then its address.

The order keeps what clients see short, and what can't be undone last: whatever may take long comes before the API
stops, and the address moves only once the new one serves. Until then no client has written to it, so any failure is
taken back (going_back.py); from then on nothing goes back by itself. Cut short anywhere, the same command finishes it
or takes it back, by what the volume's tag says (journal.py).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from support.errors import BadInput, Error
from support.progress import say, step
from zmanim_ami.pipeline import aws, instance, launching, run_command, volumes
from zmanim_ami.pipeline.backup import remote
from zmanim_ami.pipeline.instances import addresses, going_back, health, journal, rules, target
from zmanim_ami.pipeline.instances.journal import Entry, Journal
from zmanim_ami.pipeline.instances.target import Target
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import TagTypeDef

# The image waits 90 s of its boot for a volume (storage/volume.py there): what comes later comes too late.
VOLUME_SECONDS: Final = 80.0
QUIET: Final = "systemctl stop zmanim-api.service\n"
_QUIET_SECONDS = 60.0
_AGAIN = "run it again: it does what is missing, and takes nothing back"


@dataclass(frozen=True)
class Swapped:
    """A swap that came to its end. `old` is stopped, and protected from being terminated until somebody ends it.

    `snapshot` is the volume as `old` left it, `addresses` are those that moved. `downtime` is in seconds from when the
    API of `old` was stopped until clients reached the new one, None of a swap that another command had begun.
    """

    instance_id: str
    version: str
    old: str
    volume: str
    snapshot: str
    addresses: tuple[str, ...]
    downtime: float | None


@dataclass(frozen=True)
class Swap:
    """A swap under way, and what it is made with."""

    clients: aws.Clients
    settings: Settings
    poller: aws.Poller
    log: Journal

    def forward(self, chosen: Target) -> float:
        """Bring the volume from the old instance to a new one that serves; return the clock when the API stopped.

        Raises `volume-too-late`, launching's, volumes', instance's and run_command's errors, aws's.
        """
        log, clients, poller = self.log, self.clients, self.poller
        old, volume = log.entry.old, log.volume
        launched = poller.clock()
        with log.step("launch"):
            order = target.order(chosen, log.entry.token)
            new = launching.run_instance(clients, order, poller, fix=f"{old} serves as before")
            say(f"launched {new}, which waits for {volume}")
            log.note(new=new)
        stopped = poller.clock()
        with log.step("quiet"):
            say(f"the API of {old} stops: from now on nobody is served")
            run_command.run_script(clients, old, QUIET, _QUIET_SECONDS, poller)
        with log.step("stop"):
            volumes.stop(clients, old, poller)
        _check_in_time(poller.clock() - launched, volume, log.entry)
        with log.step("snapshot"):
            log.note(snapshot=_begin_snapshot(clients, volume, log.entry))
        with log.step("detach"):
            volumes.detach(clients, volume, old, poller)
        _check_in_time(poller.clock() - launched, volume, log.entry)
        with log.step("attach"):
            volumes.attach(clients, volume, new, poller)
            say(f"{volume} is attached to {new}")
        with log.step("ready"):
            self._wait_until_ready(instance.Machine(new, launched))
        return stopped

    def _wait_until_ready(self, machine: instance.Machine) -> None:
        limit = self.settings.boot_timeout
        rules.wait_until_ready(self.clients, machine, limit, self.poller)
        health.check(self.clients, machine.instance_id, limit, self.poller)

    def finish(self, *, since: float | None) -> Swapped:
        """Move the addresses, which is what can't be undone, and end the swap. Raises `swap-unfinished`."""
        log, clients = self.log, self.clients
        entry = log.entry
        moved: list[str] = []
        try:
            with log.step("address"):
                for address in addresses.of(clients, entry.old):
                    addresses.move(clients, address, entry.new)
                    moved.append(address.public_ip)
            downtime = None if since is None else round(self.poller.clock() - since, 1)
            with log.step("protect"):
                _protect(clients, entry)
            log.clear()
        except Error as error:
            raise Error(
                f"{entry.new} is ready, and the swap is not at its end: {error.summary}",
                code="swap-unfinished",
                expected="the addresses to move, and the old instance to be protected",
                found=f"{error.found}; moved: {', '.join(moved) or 'no address'}",
                fix=_AGAIN,
            ) from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{entry.new} is ready, and the swap is not at its end: {_AGAIN}") from None
        if downtime is not None:
            say(f"nobody was served for {downtime} s")
        return Swapped(entry.new, entry.to, entry.old, log.volume, entry.snapshot, tuple(moved), downtime)

    def take_back(self, reason: str) -> Error:
        """Let the old instance serve again, and return the error `swap-taken-back`. Raises `swap-not-taken-back`."""
        entry = self.log.entry
        say(f"taking the swap back: {reason}")
        try:
            volume = going_back.go_back(self.clients, self.settings, self.poller, self.log)
        except Error as error:
            raise Error(
                f"{entry.old} does not serve again yet: {error.summary}",
                code="swap-not-taken-back",
                expected=f"the swap to be taken back, because of this at the step {entry.step}: {reason}",
                found=error.found,
                fix="run it again: it goes on taking it back",
            ) from error
        kept = (
            "" if volume == self.log.volume else f", from {volume}: {entry.to} had changed what is on {self.log.volume}"
        )
        return Error(
            f"{entry.old} serves again{kept}, and was not swapped for {entry.to}",
            code="swap-taken-back",
            expected="every step to succeed",
            found=f"at the step {entry.step}: {reason}",
            fix="remove the cause, then run it again",
        )


def swap(
    clients: aws.Clients,
    settings: Settings,
    *,
    to: Version,
    poller: aws.Poller,
    environment: str = "prod",
    instance_id: str = "",
    new_address: bool = False,
    dry: bool = False,
) -> Swapped | Plan:
    """Put an instance of version `to` in the place of the environment's, or first end what was cut short before.

    `new_address` is the word that an address which can't move may be another one afterwards.

    Raises `swap-refused` with every check that failed, `swap-taken-back` when a step failed and the old instance serves
    again, `swap-begun` when another version's is not at its end, `swap-taken-over` when another command goes on with
    it, `swap-not-taken-back` and `swap-unfinished` when running it again has to go on; remote's, image's, state's and
    journal's errors, aws's errors. KeyboardInterrupt comes through after going back.
    """
    for unfinished in journal.find(clients, environment):
        return _go_on(Swap(clients, settings, poller, unfinished), to, dry=dry)
    old = remote.instance(clients, environment, instance_id)
    chosen = target.look(clients, settings, poller, environment=environment, old=old, to=to, new_address=new_address)
    if dry:
        return _plan(chosen)
    failed = [each for each in chosen.checks if not each.ok]
    if failed:
        raise BadInput(
            f"{old} can't be swapped for {to}",
            code="swap-refused",
            expected="; ".join(f"{each.name}: {each.expected}" for each in failed),
            found="; ".join(f"{each.name}: {each.found}" for each in failed),
            fix="nothing was changed; --dry shows what would be done",
        )
    with step(f"a backup of {old}"):
        remote.make(clients, old, poller)
    for begun in journal.find(clients, environment):
        raise _begun(begun.entry, "nothing of this one was begun but its backup")
    entry = Entry(environment, str(to), old, uuid.uuid4().hex[:16], chosen.state.database)
    under_way = Swap(clients, settings, poller, Journal(clients, chosen.volume, entry))
    try:
        since = under_way.forward(chosen)
    except Error as error:
        raise under_way.take_back(f"{error.summary} ({error.found})") from error
    except KeyboardInterrupt:
        try:
            end = under_way.take_back("interrupted").summary
        except KeyboardInterrupt:
            end = "interrupted while the swap was taken back: run it again, which goes on with that"
        raise KeyboardInterrupt(end) from None
    return under_way.finish(since=since)


def _begun(entry: Entry, why: str) -> BadInput:
    return BadInput(
        f"a swap of {entry.old} for {entry.to} is not at its end (step {entry.step})",
        code="swap-begun",
        expected=f"--to {entry.to}, which finishes it or takes it back; or no other swap",
        found=why,
        fix=f"./inv instance.swap --environment {entry.environment} --to {entry.to}",
    )


def _go_on(swap: Swap, to: Version, *, dry: bool) -> Swapped | Plan:
    """Finish what was cut short once the new instance served, else take it back. Raises as `swap` does."""
    entry = swap.log.entry
    if entry.to != str(to):
        raise _begun(entry, f"--to {to}")
    serves = entry.has_begun("address") or (entry.step, entry.done) == ("ready", "yes")
    say(f"a swap of {entry.old} for {entry.to} was cut short at the step {entry.step}")
    if dry:
        end = (
            Step("finish", f"the swap for {entry.new}", "it serves, and may have the addresses already")
            if serves
            else Step("take back", f"the swap of {entry.old}", "no client has reached another one")
        )
        return Plan((end,))
    if not serves:
        raise swap.take_back("it was cut short")
    try:
        health.check(swap.clients, entry.new, swap.settings.boot_timeout, swap.poller)
    except Error as error:
        reason = f"{error.summary} ({error.found})"
        if not entry.has_begun("address"):
            raise swap.take_back(reason) from error
        raise Error(
            f"{entry.new} does not serve, and clients may reach it already",
            code="swap-unfinished",
            expected="an API that answers",
            found=reason,
            fix=f"see why (./inv instance.list); {entry.old} is stopped, and has not the volume {swap.log.volume}",
        ) from error
    return swap.finish(since=None)


def _begin_snapshot(clients: aws.Clients, volume: str, entry: Entry) -> str:
    tags: list[TagTypeDef] = [
        {"Key": "Name", "Value": f"zmanim-{entry.environment} before {entry.to}"},
        {"Key": journal.TAG, "Value": entry.token},
        {"Key": instance.ENVIRONMENT_TAG, "Value": entry.environment},
    ]
    with aws.translate_errors(f"beginning a snapshot of {volume}"):
        # Begun, not waited for: it holds what the volume holds now, whatever is written to that meanwhile.
        return clients.ec2.create_snapshot(
            VolumeId=volume,
            Description=f"as {entry.old} left it",
            TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}],
        )["SnapshotId"]


def _check_in_time(waited: float, volume: str, entry: Entry) -> None:
    if waited > VOLUME_SECONDS:
        raise Error(
            f"{volume} is free too late for {entry.new}",
            code="volume-too-late",
            expected=f"within {VOLUME_SECONDS:.0f} s of its launch: its boot waits 90 s for a volume",
            found=f"after {waited:.0f} s",
            fix=f"why does {entry.old} stop so slowly?",
        )


def _protect(clients: aws.Clients, entry: Entry) -> None:
    with aws.translate_errors(f"protecting {entry.old}"):
        clients.ec2.modify_instance_attribute(InstanceId=entry.old, DisableApiTermination={"Value": True})
        clients.ec2.create_tags(Resources=[entry.old], Tags=[{"Key": instance.SWAPPED_TAG, "Value": entry.new}])
        clients.ec2.delete_tags(Resources=[entry.new], Tags=[{"Key": journal.TAG}])
    say(f"{entry.old} stays, stopped and protected, until you end it")


def _plan(chosen: Target) -> Plan:
    old, new = chosen.old["InstanceId"], f"an instance of {chosen.ami.version}"
    checks = [
        Step("check", each.name, f"{'ok' if each.ok else 'REFUSED'}: {each.found} (expected {each.expected})")
        for each in chosen.checks
    ]
    moving = ", ".join(each.public_ip for each in chosen.addresses) or "nothing: there is no Elastic IP address"
    return Plan(
        (
            *checks,
            Step("back up", old, "before anything else"),
            Step(
                "launch", f"{new} ({chosen.old['InstanceType']} of {chosen.ami.ami_id})", f"waits for {chosen.volume}"
            ),
            Step("stop", f"the API of {old}, then {old}", "never by force; from here on nobody is served"),
            Step("snapshot", chosen.volume, "begun, so that there is a way back from whatever the new image changes"),
            Step("move", f"{chosen.volume} to the new one", "never by force; until here all is taken back if it fails"),
            Step("wait", "until it is ready and healthy", "asked by Run Command"),
            Step("move", moving, "from here on nothing goes back by itself"),
            Step("protect", old, "it stays, stopped, until somebody ends it"),
        )
    )
