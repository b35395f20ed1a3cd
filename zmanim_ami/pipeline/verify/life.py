"""What an image has to stand after its first boot: a reboot, its volume on the next machine, its backup on another.

Three instances take part. The first one's backup is restored on the second, which has an empty volume of its own and
was rebooted before; the third one is launched without a volume and waits for the first one's. The first two share a
repository for their backups, by a random id that both launches carry as a tag: nobody else's backup is in it.

What people read of a machine (facts.py) is collected on the first one, before its backup and beside the reboot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws, instance, run_command, volumes
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.backup import remote
from zmanim_ami.pipeline.run_command import CommandNotRun
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify import facts, leftover_volumes, trial
from zmanim_ami.pipeline.verify.inspection import Check

_FIRST, _SECOND = "first", "second"
# What says something about the image; what AWS refuses says something about the account, and is an error.
_FAILURES = (instance.NotReady, CommandNotRun, remote.AnswerUnreadable)


# The last words of a backup in its unit's journal (zmanim_host/backup/steps.py): what it made, for the report.
_TELL_SIZE = (
    "journalctl --unit restic-backup.service --no-pager --output cat --lines 200 | grep ' is complete: ' | tail -n 1\n"
)
_SIZE = re.compile(r"run (\S+) is complete: (\d+) bytes in (\d+) s")


class _Differs(Error):
    """What was written is not what was found."""


@dataclass(frozen=True)
class Step:
    """A part of a verification: when it began, and how long until it was seen to be done, in seconds.

    `at` counts from the first instance's launch. Steps overlap: one runs beside another, or is seen late because of it.
    """

    name: str
    at: float
    seconds: float
    ok: bool


@dataclass
class Lived:
    """What a report has of a life so far: `backup` and `restore` are figures, `facts` as facts.py has them."""

    instance_type: str = ""
    steps: list[Step] = field(default_factory=list)
    backup: Mapping[str, object] = field(default_factory=dict)
    restore: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=lambda: facts.nothing("they were not asked for"))


@dataclass(frozen=True)
class Life:
    """Two running instances of an image, both ready for the first time or about to be; `lived` is filled on the way."""

    clients: aws.Clients
    settings: Settings
    ami: image.Image
    poller: aws.Poller
    first: instance.Machine
    second: instance.Machine
    lived: Lived = field(default_factory=Lived)

    def checks(self) -> list[Check]:
        """Return the steps' outcomes, down to the first that failed. Raises aws's errors.

        What can run beside something else does: the backup beside the reboot, the restore beside the swap.
        """
        done: list[Check] = []
        with closing(self._steps()) as steps:
            for check in steps:
                done.append(check)
                if not check.ok:
                    break
        return done

    def step(self, name: str, began: float, *, ok: bool) -> None:
        """Write down a part that is over; `began` is the poller's clock."""
        now = self.poller.clock()
        self.lived.steps.append(Step(name, round(began - self.first.launched, 1), round(now - began, 1), ok))

    def _steps(self) -> Generator[Check]:
        collected = [self._ask(facts.script(part)) for part in range(1, facts.PARTS + 1)]
        began = self.poller.clock()
        backup = self._start(self.first, trial.write(_FIRST) + facts.WAIT + remote.BACK_UP + _TELL_SIZE)
        made = [self._check("reboot", f"ready again, with {trial.EXPECTED}", self._reboot)]
        if made[0].ok:
            made.append(self._check("backup", "a backup", lambda: self._made(backup), began))
        # Of an image that failed, too; and now, for the first one is stopped next.
        self._collect(collected)
        yield from made
        began = self.poller.clock()
        restore = self._start(self.second, remote.REPLACE % "--latest")
        volume = volumes.of(self.clients, self.first.instance_id)
        with leftover_volumes.deleted_at_end(self.clients, volume, self.first.instance_id, self.poller):
            expected = f"ready with the first one's volume, and {trial.EXPECTED}"
            yield self._check("swap", expected, lambda: self._swap(volume))
            expected = f"the backup on another machine: {trial.EXPECTED}"
            yield self._check("restore", expected, lambda: self._restored(restore), began)

    def _check(self, name: str, expected: str, step: Callable[[], str], began: float | None = None) -> Check:
        began = self.poller.clock() if began is None else began
        try:
            ok, found = True, step()
        except _FAILURES as error:
            ok, found = False, f"{error.summary}: {error.found}"
        except _Differs as error:
            ok, found = False, error.summary
        self.step(name, began, ok=ok)
        if ok:
            say(f"{name}: {found}")
        return Check(name, ok, expected, found)

    def _ask(self, script: str) -> run_command.Command:
        return run_command.start(
            self.clients, self.first.instance_id, script, self.settings.command_timeout, self.poller
        )

    def _collect(self, commands: Sequence[run_command.Command]) -> None:
        """Take down what was collected. It is for people: an image is verified without it, and the report says so."""
        try:
            self.lived.facts = facts.read([self._finish(command) for command in commands])
        except CommandNotRun as error:
            self.lived.facts = facts.nothing(f"{error.summary}: {error.found}")

    def _reboot(self) -> str:
        before = self._ready(self.second)
        self._run(self.second, trial.write(_SECOND))
        again = instance.reboot(self.clients, self.second, self.poller)
        after = self._ready(again, after=str(before.report.get("boot")))
        self._compare(self.second, _SECOND)
        return f"ready {_seconds(after)} s after its kernel's start"

    def _made(self, backup: run_command.Command) -> str:
        made = _SIZE.search(self._finish(backup))
        if made is None:
            return "made, beside the reboot"
        self.lived.backup = {"run": made[1], "bytes": int(made[2]), "seconds": int(made[3])}
        return f"made, beside the reboot: {made[2]} bytes in {made[3]} s"

    def _swap(self, volume: str) -> str:
        volumes.take(self.clients, volume, self.first.instance_id, self.poller)
        launch = instance.Launch(data_volume=False)
        with instance.launched(self.clients, self.settings, self.ami, self.poller, launch) as third:
            volumes.attach(self.clients, volume, third.instance_id, self.poller)
            ready = self._ready(third)
            self._compare(third, _FIRST)
        return f"ready {_seconds(ready)} s after its kernel's start"

    def _restored(self, restore: run_command.Command) -> str:
        restored = remote.read_restored(self._finish(restore))
        self.lived.restore = asdict(restored)
        self._compare(self.second, _FIRST)
        return f"{restored.rows} rows and {restored.keys} keys in {restored.seconds} s"

    def _ready(self, machine: instance.Machine, after: str = "") -> instance.Ready:
        timeout = self.settings.boot_timeout
        ready = instance.wait_until_ready(self.clients, machine, timeout, self.poller, after=after)
        if ready.report.get("ok") is not True:
            raise _Differs(f"{machine.instance_id} says that it is not ready: {ready.report.get('checks')}")
        timely = in_time(ready, self.settings.ready_seconds)
        if not timely.ok:
            raise _Differs(f"{machine.instance_id} was ready {timely.found}, not {timely.expected}")
        return ready

    def _compare(self, machine: instance.Machine, word: str) -> None:
        wrong = trial.differences(self._run(machine, trial.read()), word)
        if wrong:
            raise _Differs(f"on {machine.instance_id}: {wrong}")

    def _run(self, machine: instance.Machine, script: str) -> str:
        return run_command.run_script(
            self.clients, machine.instance_id, script, self.settings.command_timeout, self.poller
        )

    def _start(self, machine: instance.Machine, script: str) -> run_command.Command:
        return run_command.start(self.clients, machine.instance_id, script, self.settings.backup_timeout, self.poller)

    def _finish(self, command: run_command.Command) -> str:
        return run_command.finish(self.clients, command, self.poller)


def in_time(ready: instance.Ready, limit: int) -> Check:
    """Return whether a boot was done within `limit` seconds, as the instance itself counts: a console comes late."""
    seconds = _seconds(ready)
    good = isinstance(seconds, int | float) and seconds <= limit
    expected = f"within {limit} s of its kernel's start (the setting ready_seconds)"
    return Check("ready: in time", good, expected, f"{seconds} s after it")


def _seconds(ready: instance.Ready) -> object:
    return ready.report.get("seconds")
