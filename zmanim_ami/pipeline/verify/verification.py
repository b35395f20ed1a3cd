"""verify-ami: boot instances of an image as production does, look whether they serve, and say so on the image.

In the account it launches three instances with two data volumes (life.py says what for), which all go away again,
signs and keeps the report of a passed verification (attestation.py), and writes the image's tag `zmanim:verified`, or
takes it away when a check fails. An image that is verified already is verified again: whoever asks wants to know, and
it costs minutes and cents.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.errors import Error
from support.files import write_atomically
from support.progress import say, step
from zmanim_ami.pipeline import attestation, aws, instance, run_command, volumes
from zmanim_ami.pipeline.account.requirements import VERIFY
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify import leftover_volumes, life
from zmanim_ami.pipeline.verify.inspection import (
    SCRIPT,
    Answers,
    Check,
    answer_checks,
    read_answers,
    ready_checks,
    remarks,
)
from zmanim_ami.pipeline.version import Version, parse


class NotVerified(Error):
    """The image boots, and something is not as it has to be."""


@dataclass(frozen=True)
class VerifyResult:
    """A passed verification. `report` is the file, `report_sha256` its digest and the image's tag from now on.

    `health` is the JSON that /health gave, `boot` {"running_seconds", "healthy_seconds"} counted from RunInstances.
    """

    ami_id: str
    version: str
    report: Path
    report_sha256: str
    health: Mapping[str, object]
    boot: Mapping[str, float]
    versions: Mapping[str, str]


def verify_ami(
    clients: aws.Clients,
    settings: Settings,
    *,
    root: Path,
    poller: aws.Poller,
    version: Version | None = None,
    ami_id: str = "",
    dry: bool = False,
) -> VerifyResult | Plan:
    """Verify this account's image of `version`, or the one called `ami_id`, and tag it.

    Writes build/verify/AMI.json below `root` whatever comes of it, once there is such an image: of an error before the
    checks, or a run that is cut off, it holds that as the one check, which failed.

    Raises image's errors, `image-not-available`, instance's errors, NotVerified with every check that failed.
    KeyboardInterrupt comes through after the instances have been terminated.
    """
    ami = image.find(clients, version, ami_id)
    if dry:
        return _plan(settings, ami, [*_leftovers(clients, ami), *_free_volumes(clients)])
    # What a run that is killed leaves to read; each end of another kind writes over it.
    _write_report(root, ami, None, [Check("the verification", False, "to come to its end", "it was cut off")], None)
    try:
        leftovers = _leftovers(clients, ami)
        if leftovers:
            say(f"an earlier verification left {', '.join(leftovers)} running: terminating")
            instance.terminate(clients, leftovers)
        volumes.delete(clients, _free_volumes(clients))
        launch = instance.Launch(repository=secrets.token_hex(16))
        with (
            step(f"verify {ami.ami_id} ({ami.version})"),
            instance.launched(clients, settings, ami, poller, launch) as first,
            instance.launched(clients, settings, ami, poller, launch) as second,
        ):
            steps = life.Life(clients, settings, ami, poller, first, second)
            return _verified(clients, settings, ami, steps, root=root, poller=poller)
    except NotVerified:
        raise  # its report is written
    except Error as error:
        # Whoever reads the report, or a summary of it, learns as much as is known: of which image, and what went wrong.
        _write_report(root, ami, None, [Check(error.summary, False, error.expected, error.found)], None)
        if isinstance(error, instance.NotReady):
            withdraw(clients, ami)
        raise


def _free_volumes(clients: aws.Clients) -> list[str]:
    return leftover_volumes.leftovers(clients, datetime.now(UTC))


def _leftovers(clients: aws.Clients, ami: image.Image) -> list[str]:
    if ami.state != "available":
        raise Error(
            f"{ami.ami_id} can't be launched",
            code="image-not-available",
            expected="state available",
            found=ami.state,
            fix="wait, or rebuild",
        )
    return instance.leftovers(clients, ami.ami_id, datetime.now(UTC))


def _verified(
    clients: aws.Clients,
    settings: Settings,
    ami: image.Image,
    steps: life.Life,
    *,
    root: Path,
    poller: aws.Poller,
) -> VerifyResult:
    running = steps.first
    wanted = parse(ami.version)  # image.find has compared it with the name
    ready = instance.wait_until_ready(clients, running, settings.boot_timeout, poller)
    word = "ready" if ready.report.get("ok") is True else "not ready"
    say(f"{running.instance_id} says {word} {ready.seconds:.1f} s after its launch")
    for remark in remarks(ready.report):
        say(remark)
    checks = [*ready_checks(ready.report, wanted, VERIFY), life.in_time(ready, settings.ready_seconds)]
    steps.lived.instance_type = settings.verify_instance_type
    steps.step("first boot", running.launched, ok=all(check.ok for check in checks))
    answers: Answers | None = None
    if all(check.ok for check in checks):
        began = poller.clock()
        answers = read_answers(
            run_command.run_script(clients, running.instance_id, SCRIPT.read_text(), settings.command_timeout, poller)
        )
        checks += answer_checks(answers, ready.report, wanted, bundle_sha256(root, ami, answers.manifest))
        steps.step("inspection", began, ok=all(check.ok for check in checks))
        checks += steps.checks() if all(check.ok for check in checks) else ()
    report = _write_report(root, ami, ready, checks, answers, lived=steps.lived)
    if answers is None or not all(check.ok for check in checks):
        withdraw(clients, ami)
        raise _not_verified(clients, ami, running, checks, report)
    digest = attestation.keep(clients, ami, report.read_bytes())
    with aws.translate_errors(f"tagging {ami.ami_id}"):
        clients.ec2.create_tags(Resources=[ami.ami_id], Tags=[{"Key": image.VERIFIED_TAG, "Value": digest}])
    _settle(clients, ami.ami_id, digest)
    say(f"{ami.ami_id} is verified: {len(checks)} checks, {image.VERIFIED_TAG}={digest[:16]}…")
    return VerifyResult(
        ami_id=ami.ami_id,
        version=ami.version,
        report=report,
        report_sha256=digest,
        health=answers.health,
        boot=_boot(ready),
        versions=answers.versions,
    )


def bundle_sha256(root: Path, ami: image.Image, installed: Mapping[str, object]) -> str | None:
    """Return the digest of the binary in this clone's bundle of the image's version.

    None when there is no bundle here, or it was built from another commit: then it says nothing about this image.
    """
    try:
        manifest = json.loads((root / "build" / "bundle" / ami.version / "manifest.json").read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("commit") != installed.get("commit"):
        return None
    return str(manifest.get("sha256", ""))


def withdraw(clients: aws.Clients, ami: image.Image) -> None:
    """Take the tag of an earlier verification away: an image that fails now is not to be published."""
    if image.VERIFIED_TAG in ami.tags:
        say(f"{ami.ami_id} was verified once: taking {image.VERIFIED_TAG} away")
        with aws.translate_errors(f"taking {image.VERIFIED_TAG} from {ami.ami_id}"):
            clients.ec2.delete_tags(Resources=[ami.ami_id], Tags=[{"Key": image.VERIFIED_TAG}])
        _settle(clients, ami.ami_id, None)


def _settle(clients: aws.Clients, ami_id: str, digest: str | None) -> None:
    """Wait until the tag is seen as it was written: publish-ssm believes what it sees."""
    clients.written.settled(
        f"{image.VERIFIED_TAG} on {ami_id}",
        lambda: image.of_id(clients, ami_id).tags.get(image.VERIFIED_TAG) == digest,
    )


def _plan(settings: Settings, ami: image.Image, leftovers: list[str]) -> Plan:
    return Plan(
        (
            *(Step("terminate", instance_id, "left by an earlier verification") for instance_id in leftovers),
            Step(
                "launch",
                f"{settings.verify_instance_type} from {ami.ami_id}",
                f"with a data volume of {settings.data_volume_gib} GiB; both are deleted in the end",
            ),
            Step("launch", "another one just so", "it is rebooted, and the first one's backup is restored on it"),
            Step("run", "a script by Systems Manager", "which program runs, what /health says, what listens"),
            Step("launch", "a third one without a volume", "it gets the first one's, as in a swap"),
            Step("keep", "the report", f"signed, in the bucket for releases of {VERIFY}, when every check passes"),
            Step("tag", ami.ami_id, f"{image.VERIFIED_TAG}, when every check passes"),
        )
    )


def _write_report(
    root: Path,
    ami: image.Image,
    ready: instance.Ready | None,
    checks: list[Check],
    answers: Answers | None,
    *,
    lived: life.Lived | None = None,
) -> Path:
    report = {
        "ami_id": ami.ami_id,
        "version": ami.version,
        "commit": ami.tags.get("zmanim:commit", ""),
        "tree_digest": ami.tags.get("zmanim:tree-digest", ""),
        "ok": answers is not None and all(check.ok for check in checks),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "boot": _boot(ready) if ready else {},
        "checks": [asdict(check) for check in checks],
        "ready": ready.report if ready else {},
        "health": answers.health if answers else {},
        "versions": answers.versions if answers else {},
        "packages": answers.packages if answers else {},
        **asdict(lived or life.Lived()),
    }
    path = root / "build" / "verify" / f"{ami.ami_id}.json"
    write_atomically(path, json.dumps(report, indent=2, sort_keys=True) + "\n")
    return path


def _boot(ready: instance.Ready) -> Mapping[str, float]:
    return {"running_seconds": ready.running_seconds, "healthy_seconds": ready.seconds}


def _not_verified(
    clients: aws.Clients, ami: image.Image, running: instance.Machine, checks: list[Check], report: Path
) -> NotVerified:
    failed = [f"    {check.name}: expected {check.expected}, found {check.found}" for check in checks if not check.ok]
    return NotVerified(
        f"{ami.ami_id} ({ami.version}) is not verified",
        expected=f"{len(checks)} checks to pass",
        found="\n".join(
            [
                f"{len(failed)} failed",
                *failed,
                "the console's last lines:",
                instance.tail(instance.console(clients, running.instance_id)),
            ]
        ),
        fix=f"correct it and build again; the whole report: {report}",
    )
