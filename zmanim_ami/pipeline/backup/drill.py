"""recovery-drill: from nothing but an image and the bucket to a machine that serves, timed from RunInstances.

In the account it launches one instance with an empty data volume in the environment whose backups are restored; both go
away again. It reads those backups and writes none: it never adopts them, and its timers are stopped first.
"""

from __future__ import annotations

from dataclasses import dataclass

from support.errors import Error
from support.progress import say, step
from zmanim_ami.pipeline import aws, instance, run_command
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.backup import remote
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version

SCRIPT = """\
set -eu
systemctl stop restic-backup.timer backup-drill.timer zmanim-api.service
/opt/zmanim/restore.sh --latest --replace --yes --json >/run/zmanim/recovery.json
systemctl start zmanim-api.service restic-backup.timer backup-drill.timer
systemctl restart zmanim-ready.service
cat /run/zmanim/recovery.json
"""


@dataclass(frozen=True)
class Recovery:
    """A passed drill: seconds from RunInstances until the empty machine was ready, and until the restored one served.

    `age` is how old the restored data was when the restore began: what would have been lost, in seconds.
    """

    ami_id: str
    run: str
    empty_seconds: float
    restore_seconds: float
    healthy_seconds: float
    age: float
    rows: int
    keys: int


def recovery_drill(
    clients: aws.Clients,
    settings: Settings,
    *,
    poller: aws.Poller,
    environment: str = "prod",
    version: Version | None = None,
    ami_id: str = "",
    dry: bool = False,
) -> Recovery | Plan:
    """Launch an instance of the image in `environment` with an empty volume, restore the newest run; it has to serve.

    Raises image's and instance's errors, remote.AnswerUnreadable, `not-recovered`. KeyboardInterrupt comes through
    after the instance has been terminated.
    """
    ami = image.find(clients, version, ami_id)
    if dry:
        return _plan(settings, ami.ami_id, environment)
    with (
        step(f"recovery drill with {ami.ami_id} in {environment}"),
        instance.launched(clients, settings, ami, poller, instance.Launch(environment)) as running,
    ):
        ready = instance.wait_until_ready(clients, running, settings.boot_timeout, poller)
        if ready.report.get("ok") is not True:
            raise Error(
                f"{running.instance_id} is not ready even while it is empty",
                code="not-recovered",
                expected="a good ready line",
                found=instance.tail(instance.console(clients, running.instance_id)),
                fix=f"./inv verify-ami --ami-id {ami.ami_id} says more",
            )
        say(f"empty and ready {ready.seconds:.1f} s after its launch: restoring")
        text = run_command.run_script(clients, running.instance_id, SCRIPT, remote.LONG_SECONDS, poller)
        healthy = round(poller.clock() - running.launched, 3)
        restored = remote.read_restored(text)
    say(f"run {restored.run} serves {healthy:.1f} s after RunInstances")
    return Recovery(
        ami_id=ami.ami_id,
        run=restored.run,
        empty_seconds=ready.seconds,
        restore_seconds=restored.seconds,
        healthy_seconds=healthy,
        age=restored.age,
        rows=restored.rows,
        keys=restored.keys,
    )


def _plan(settings: Settings, ami_id: str, environment: str) -> Plan:
    return Plan(
        (
            Step(
                "launch",
                f"{settings.verify_instance_type} from {ami_id}",
                f"in {environment}, with an empty data volume of {settings.data_volume_gib} GiB; both are deleted",
            ),
            Step("restore", f"the newest backup of {environment}", "read only: nothing is written to its bucket"),
            Step("ask", "whether it serves", "timed from RunInstances"),
        )
    )
