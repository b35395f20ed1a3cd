"""Every seeded defect, by what it is about; LESSONS are the incidents that must never happen again."""

from __future__ import annotations

from collections.abc import Mapping

from tests.gate import table_changed, table_image, table_tree, table_units
from tests.gate.seeds import Row

LESSONS: Mapping[str, str] = {
    "never built": "the image was never built before it was called done",
    "not in the repositories": "PostGIS, restic and Redis 7 are not in the base's repositories",
    "persistence switched off": "Redis's unit could not write to its data, so persistence was switched off",
    "shipped disabled": "every unit shipped disabled",
    "secrets in logs": "a boot script printed secrets into logs that were shipped away",
    "unescaped secrets": "a / in a secret broke sed, SQL and addresses",
    "changeme": "errors of Parameter Store were taken for a missing secret, and restic got the password changeme",
    "init or true": "restic init || true hid every error",
    "truncated snapshots": "pg_dump | restic --stdin kept truncated snapshots",
    "retention by host name": "retention was grouped by a host name that changes with every image",
    "no mail": "a failed prune or check exited 0, so there was no mail",
    "wrong snapshot": "the documented restore read the wrong snapshot",
    "postmaster.pid": "the boot script deleted a live postmaster.pid",
    "code as root": "what the API's user can write ran as root, and reset a clone to main at every start",
    "id by grep": "the workflow's grep for the image's id never matched, so nothing was published",
    "old images first": "old images were deleted before the new one had booted",
    "tuned for another machine": "a tuning for 4 GiB ran on a machine of 2",
    "volume lost by hand": "the data volume was lost by hand",
}

ROWS: tuple[Row, ...] = (*table_image.ROWS, *table_units.ROWS, *table_tree.ROWS, *table_changed.ROWS)
