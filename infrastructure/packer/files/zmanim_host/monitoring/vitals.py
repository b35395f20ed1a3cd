"""The metrics of a machine that is well, sent every minute: alarms go off when they stop (docs/on-aws.md).

Ready      1, and only while the machine serves. What does not serve says nothing, like a machine that is gone.
DiskFree   the percent that are free of the fuller one of / and /data; nothing without a data volume.
MailRefused  1 as long as SES refuses what this machine mails: of a mail that nobody can get nobody hears by mail.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from zmanim_host import notices
from zmanim_host.aws import metrics
from zmanim_host.aws.client import Session, instance_credentials
from zmanim_host.aws.imds import connect
from zmanim_host.aws.metrics import Metric
from zmanim_host.host import WARNING, HostError, log, required_variables
from zmanim_host.monitoring import serving
from zmanim_host.storage.data_layout import DATA

ROOT = Path("/")


def free_percent(path: Path) -> float:
    """Return how much of a file system is free for whoever is not root, as df counts it, in percent."""
    usage = os.statvfs(path)
    used = usage.f_blocks - usage.f_bfree
    return 100.0 * usage.f_bavail / max(used + usage.f_bavail, 1)


def disk_free(data: Path = DATA, root: Path = ROOT, free: Callable[[Path], float] = free_percent) -> float | None:
    """Return the free percent of the fuller of both disks, None without a data volume."""
    return min(free(root), free(data)) if data.is_mount() else None


def vitals(serves: bool | None, disk: float | None, *, mail_refused: bool) -> list[Metric]:
    """Return what is to be sent: the good news that there is, and the one that nobody would hear otherwise."""
    found = []
    if serves:
        found.append(Metric("Ready", 1, "Count", resolution=1))
    if disk is not None:
        found.append(Metric("DiskFree", round(disk, 1), "Percent"))
    if mail_refused:
        found.append(Metric("MailRefused", 1, "Count"))
    return found


def send(environment: str, found: Sequence[Metric], session: Callable[[], Session]) -> None:
    """Send metrics; that they can't be sent is logged, and told by the alarm that their absence is."""
    try:
        if found:
            metrics.send(session(), environment, found)
    except HostError as error:
        log(f"the metrics {', '.join(metric.name for metric in found)} could not be sent: {error}", WARNING)


def command() -> None:
    """Send the metrics of a machine that is well."""
    environment, region = required_variables(os.environ, "ZMANIM_ENVIRONMENT", "AWS_REGION")
    found = vitals(serving.read(), disk_free(), mail_refused=notices.refused() is not None)
    send(environment, found, lambda: Session(region, instance_credentials(connect(wait=3))))
