"""image.retire: nothing stays for ever, and nothing that is needed goes. What may go is decided in rules.py.

The plan has one row for each image, with one reason; an image's copies are its own and go with it, before it. Before
each change all that the plan was made from is looked at once more. Cut short anywhere and run again it ends in the same
state: an image is found as long as it is there, and says itself how far it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.images import account as accounts
from zmanim_ami.pipeline.images import rules, usage
from zmanim_ami.pipeline.images.account import Account, Family
from zmanim_ami.pipeline.settings import Settings

# AWS refuses a date that has passed, and rounds to the minute.
_SOON = timedelta(minutes=2)
# Of a snapshot that another image has as well, AWS says `skipped`, and it stays.
_GONE = {"success", "skipped"}


@dataclass(frozen=True)
class Row:
    """One image, what is to be done with it, and why: keep, wait, later, or a step (deprecate, disable, deregister)."""

    version: str
    ami_id: str
    region: str
    state: str
    action: str
    reason: str
    family: Family = field(repr=False, compare=False)


@dataclass(frozen=True)
class Retirement:
    """Where images are and how they go. `clients` are of the images' own region, `clock` gives the time (UTC)."""

    clients: aws.Clients
    elsewhere: Sequence[aws.Clients]
    settings: Settings
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def regions(self) -> Mapping[str, aws.Clients]:
        """The clients of every region, by its name."""
        return {each.region: each for each in (*self.elsewhere, self.clients)}

    def plan(self) -> list[Row]:
        """Return a row for each image of ours; changes nothing. Raises aws's and record's errors."""
        account, now = self._look(), self.clock()
        open_ones = [each for each in account.families if not rules.kept(account, each, self.settings, now)]
        used = self._usage(open_ones)
        rows, steps = [], 0
        for family in reversed(account.families):  # the oldest first
            known = rules.Known(_users(family, used), ())
            verdict = rules.decide(account, family, known, self.settings, now)
            if verdict.action in rules.STEPS and steps >= self.settings.retire_limit:
                verdict = rules.Verdict(rules.LATER, f"after the {self.settings.retire_limit} of this time")
            elif verdict.action in rules.STEPS:
                known = rules.Known(known.users, tuple(self._shared(family)))
                verdict = rules.decide(account, family, known, self.settings, now)
                steps += verdict.action in rules.STEPS
            rows.append(_row(family, verdict))
        return rows

    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """Make the steps of a plan, each after another look; return them as they were made.

        Raises `snapshots-left`, aws's errors: what was done stays done.
        """
        done = []
        for row in rows:
            if row.action not in rules.STEPS:
                continue
            again = self._again(row)
            if again is None or again.action != row.action:
                why = again.reason if again else "it is gone"
                say(f"{row.ami_id} ({row.version}) stays: since the plan was made it is so that {why}")
                continue
            say(f"{row.action} {row.ami_id} ({row.version}): {row.reason}")
            {rules.DEPRECATE: self._deprecate, rules.DISABLE: self._disable, rules.DEREGISTER: self._deregister}[
                row.action
            ](again.family)
            done.append(again)
        return done

    def _look(self) -> Account:
        return accounts.look(self.clients, self.elsewhere, self.settings.parameter_prefix)

    def _usage(self, families: Sequence[Family]) -> dict[str, usage.Usage]:
        prefix = self.settings.parameter_prefix
        return {
            region: usage.look(
                clients,
                [each.members[region].ami_id for each in families if region in each.members],
                prefix,
            )
            for region, clients in self.regions.items()
        }

    def _shared(self, family: Family) -> Iterator[str]:
        """Yield whom an image, its copies and their snapshots are shared with."""
        for region, each in family.members.items():
            ec2, shared = self.regions[region].ec2, list[Mapping[str, object]]()
            with aws.translate_errors(f"asking whom {each.ami_id} is shared with"):
                if each.state != "disabled":  # then nobody has a right to it any more
                    shared += ec2.describe_image_attribute(ImageId=each.ami_id, Attribute="launchPermission").get(
                        "LaunchPermissions", []
                    )
                for snapshot in each.snapshots:
                    shared += ec2.describe_snapshot_attribute(
                        SnapshotId=snapshot, Attribute="createVolumePermission"
                    ).get("CreateVolumePermissions", [])
            for one in shared:
                yield "everybody" if one.get("Group") == "all" else str(next(iter(one.values()), "somebody"))

    def _again(self, row: Row) -> Row | None:
        """Return the row that an image has now; None when it is gone."""
        account = self._look()
        for family in account.families:
            if family.ami.ami_id == row.ami_id:
                known = rules.Known(_users(family, self._usage([family])), tuple(self._shared(family)))
                return _row(family, rules.decide(account, family, known, self.settings, self.clock()))
        return None

    def _deprecate(self, family: Family) -> None:
        self._note(family, "deprecated")
        for region, each in family.members.items():
            with aws.translate_errors(f"deprecating {each.ami_id}"):
                soon = self.clock() + _SOON
                self.regions[region].ec2.enable_image_deprecation(ImageId=each.ami_id, DeprecateAt=soon)

    def _disable(self, family: Family) -> None:
        self._note(family, "disabling")
        for region, each in family.members.items():
            if each.state != "disabled":
                with aws.translate_errors(f"disabling {each.ami_id}"):
                    self.regions[region].ec2.disable_image(ImageId=each.ami_id)
        self._note(family, "disabled")

    def _deregister(self, family: Family) -> None:
        for region, each in family.members.items():
            self._deregister_one(self.regions[region], each)

    def _deregister_one(self, clients: aws.Clients, ami: image.Image) -> None:
        with aws.translate_errors(f"deregistering {ami.ami_id}"), aws.ignoring(".NotFound", ".Unavailable"):
            if ami.protected:
                clients.ec2.disable_image_deregistration_protection(ImageId=ami.ami_id)
            answer = clients.ec2.deregister_image(ImageId=ami.ami_id, DeleteAssociatedSnapshots=True)
            left = [each for each in answer.get("DeleteSnapshotResults", []) if each.get("ReturnCode") not in _GONE]
            if left:
                raise Error(
                    f"{ami.ami_id} is gone, and snapshots of it are not",
                    code="snapshots-left",
                    expected="every snapshot deleted with its image",
                    found=", ".join(f"{each.get('SnapshotId')}: {each.get('ReturnCode')}" for each in left),
                    fix="./inv sweep --older-than 30 takes what no image needs any more",
                )

    def _note(self, family: Family, done: str) -> None:
        clients = self.regions[family.region]
        with aws.translate_errors(f"noting on {family.ami.ami_id} that it is {done}"):
            clients.ec2.create_tags(
                Resources=[family.ami.ami_id],
                Tags=[{"Key": rules.RETIRING_TAG, "Value": rules.step_tag(done, self.clock())}],
            )


def _users(family: Family, used: Mapping[str, usage.Usage]) -> tuple[str, ...]:
    return tuple(user for region, each in family.members.items() for user in used[region].of(each.ami_id))


def _row(family: Family, verdict: rules.Verdict) -> Row:
    ami = family.ami
    return Row(ami.version, ami.ami_id, family.region, ami.state, verdict.action, verdict.reason, family)
