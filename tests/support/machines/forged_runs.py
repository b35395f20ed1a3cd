"""Runs of a backup that nobody has made: what whoever can write a repository may put there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.machines.backup_host import BackupHost
from tests.support.machines.backups import restic_script

# Runs on the machine. In an archive of pg_dump's each text has its length before it: a sign and four bytes.
_SCRIPT = r"""
import datetime, json, secrets, struct, subprocess, sys

old, spec = sys.argv[1], json.loads(sys.argv[2])


def restic(*words, content=None):
    return subprocess.run(["restic", *words], input=content, stdout=subprocess.PIPE, check=True).stdout


def store(part, name, content):
    tags = [word for tag in (f"run:{run}", f"part:{part}", *more) for word in ("--tag", tag)]
    output = restic("backup", "--json", "--quiet", "--host", "zmanim", *tags, "--stdin", "--stdin-filename", name,
                    content=content)
    return json.loads(output.splitlines()[-1])["snapshot_id"]


def edited(archive, before, after):
    start = 0
    while (at := archive.find(before, start)) >= 0:
        for head in range(at - 5, max(0, at - 100000), -1):
            length = struct.unpack_from("<I", archive, head + 1)[0]
            if archive[head] == 0 and head + 5 <= at and at + len(before) <= head + 5 + length < at + 100000:
                text = archive[head + 5 : head + 5 + length].replace(before, after)
                changed = archive[:head] + b"\0" + struct.pack("<I", len(text)) + text
                archive, start = changed + archive[head + 5 + length :], len(changed)
                break
        else:
            start = at + 1
    return archive


record = json.loads(restic("dump", "--tag", f"part:record,run:{old}", "latest", "/record.json"))
run = spec["run"] or f"{datetime.datetime.utcnow():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
more = []
for part in record["databases"]:
    name = f"/{part['name']}.pgdump"
    changes = spec["edits"] if part["name"] == "zmanim" else []
    if changes:
        archive = restic("dump", part["snapshot"], name)
        for before, after in changes:
            changed = edited(archive, before.encode(), after.encode())
            assert changed != archive, before
            archive = changed
        part["snapshot"] = store(f"database={part['name']}", name, archive)
if spec["roles"]:
    record["globals"]["sql"] += spec["roles"]
for path, value in spec["record"].items():
    *way, last = path.split(".")
    place = record
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
record["run"] = run
more = ["system:" + record["system_identifier"]]
store("record", "/record.json", json.dumps(record).encode())
print(run)
"""


def forge(
    host: BackupHost,
    *,
    edits: Sequence[tuple[str, str]] = (),
    roles: str = "",
    record: Mapping[str, Any] | None = None,
    run: str = "",
) -> str:
    """Store a copy of the newest run with changes, and return its id.

    `edits` are texts of zmanim's dump and what takes their places, `roles` is added to the script of roles, `record`
    gives values to fields of the record (by their path, with dots).
    """
    old = host.backups.complete()[0]["run"]
    spec = json.dumps({"edits": list(edits), "roles": roles, "record": record or {}, "run": run})
    script = restic_script("version").replace("restic version", 'exec python3 -W ignore /run/forge.py "$@"')
    host.run(f"cat >/run/forge.py <<'END'\n{_SCRIPT}\nEND\ncat >/run/forge.sh <<'END'\n{script}\nEND")
    quoted = spec.replace("'", "'\\''")
    return host.run(f"bash /run/forge.sh {old} '{quoted}'").strip().splitlines()[-1]


def forget(host: BackupHost, run: str) -> None:
    """Remove a run again: the next test starts from a good one."""
    snapshots = json.loads(host.backups.restic(f"snapshots --json --tag 'run:{run}'"))
    host.backups.restic(f"forget --quiet {' '.join(snapshot['id'] for snapshot in snapshots)}")
