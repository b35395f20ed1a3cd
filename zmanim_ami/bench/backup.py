"""backup: what 14 nights of a database store, what a backup and a restore cost, and how fast a machine is had back.

The restic is one for this host's own processor: the one that ships is emulated here, and eight times slower. It takes
the shipped one's place on the machine that is measured; the machine of the recovery drill has the shipped one.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from localcloud import control
from localcloud.settings import Cloud
from support.errors import Error
from support.progress import say
from zmanim_ami import toolchain
from zmanim_ami.bench import peaks
from zmanim_ami.bench.figures import Ratio, Series, ratio, repeat
from zmanim_ami.bench.lab import Lab, built_image
from zmanim_ami.pipeline import instance
from zmanim_ami.pipeline.account import public_parameters
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.backup import drill

ENVIRONMENT = "prod"
NIGHTS = 14
MEGABYTES = 200
ROWS = MEGABYTES * 1000
NOTES = (
    f"A table of {ROWS} rows of a kilobyte, {MEGABYTES} MB as pg_dump writes it uncompressed, half of that compressed.",
    f"Stored: {NIGHTS} nights, each of which gives 1 % of the rows new text; counted once, it does not vary.",
    "together: the changed rows are neighbours, as the latest ones are; scattered: every hundredth row.",
    "ours is pg_dump -Z0 in restic; -Fc compresses by itself, before restic sees it; copies are files, one a night.",
    "backup is the whole unit: counting rows, dumping, reading back to the end, roles, Redis, record, retention.",
    "The first backup stores everything; the next one comes after 1 % of the rows changed, and removes the first.",
    "restore is restore.sh --latest beside what is live, compared; pg_restore alone fills the live server.",
    "The restic that is timed is built for this host; the recovery drill's is the shipped one, emulated on x86-64.",
)


def _sql(*statements: str) -> str:
    """Return a line of a script that has PostgreSQL do something as the API's user."""
    commands = " ".join(f'--command="{statement}"' for statement in statements)
    return f"runuser -u zmanim -- psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 {commands} zmanim\n"


_TEXT = "(SELECT string_agg(md5('{salt} ' || id || ' ' || k), ' ') FROM generate_series(1, 30) k)"
# Fills the table; anew where it is there.
FRESH = _sql(
    "DROP TABLE IF EXISTS bench",
    "CREATE TABLE bench (id int PRIMARY KEY, body text)",
    f"INSERT INTO bench SELECT id, {_TEXT.format(salt=0)} FROM generate_series(1, {ROWS}) id",  # noqa: S608 - ours
    "VACUUM ANALYZE bench",
)
_CHANGED = {
    "together": f"id BETWEEN {{night}} * {ROWS // 100} + 1 AND ({{night}} + 1) * {ROWS // 100}",
    "scattered": "id % 100 = {night}",
}
_RESTIC = "RESTIC_PASSWORD=bench RESTIC_CACHE_DIR=/var/tmp/bench/.cache restic --repo /var/tmp/bench/"
_DUMP = "runuser -u zmanim-backup -- pg_dump --host=/run/postgresql --username=zmanim_backup --dbname=zmanim"
WAYS = {
    "ours": "ours",
    "fc": "pg_dump -Fc copies",
    "fc-restic": "pg_dump -Fc in restic",
    "gzip": "gzip copies",
}
# Once is enough for what the order of the rows hardly matters to.
_WAYS_OF = {"together": tuple(WAYS), "scattered": ("ours", "fc")}


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Time a backup and a restore `runs` times, then count what nights store, all on one machine.

    Raises `machine-failed`, and what launching, the recovery drill and building restic raise.
    """
    image_id, _base = built_image(lab)
    restic = toolchain.program(lab.cache, "restic")
    built = image.of_id(lab.clients, image_id)
    with instance.launched(lab.clients, lab.settings, built, lab.poller, instance.Launch(ENVIRONMENT)) as running:
        instance.wait_until_ready(lab.clients, running, lab.settings.boot_timeout, lab.poller)
        shell = _Shell(lab.cloud, running.instance_id)
        _prepare(shell, restic)
        shell.run(FRESH)
        samples = repeat("backup", runs, lambda number: _timed(lab, shell, number) | _drilled(lab, image_id))
        for how in _CHANGED:
            samples[0] |= _stored(shell, how)
    return samples


@dataclass(frozen=True)
class _Shell:
    """A root shell on the machine that is measured: not Run Command, whose polling would be timed along."""

    cloud: Cloud
    instance_id: str

    def run(self, script: str, stdin: bytes = b"") -> str:
        """Run a script and return its stdout. Raises `machine-failed`."""
        command = [*control.shell_command(self.cloud, self.instance_id), "-c", f"set -euo pipefail; cd /\n{script}"]
        ended = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if ended.returncode:
            raise Error(
                "a machine can't be measured",
                code="machine-failed",
                expected=f"exit code 0 of: {script.strip()[:500]}",
                found=ended.stderr.decode(errors="replace")[-1500:],
            )
        return ended.stdout.decode()

    def seconds(self, script: str) -> float:
        """Return how long a script takes."""
        start = time.monotonic()
        self.run(script)
        return time.monotonic() - start


def ratios(measured: tuple[Series, ...]) -> tuple[Ratio, ...]:
    """Compare what is stored with the other ways, the times with their floors, and the extra disk with Redis's file."""
    stored = [
        (f"stored {how}: ours (MB)", f"stored {how}: {WAYS[other]} (MB)", "at most 0.5" if other == "fc" else "")
        for how, names in _WAYS_OF.items()
        for other in names
        if other != "ours"
    ]
    timed = [
        ("first backup", "pg_dump | cat", ""),
        ("next backup", "pg_dump | cat", ""),
        ("restore", "pg_restore alone", ""),
        ("extra disk on /data (MB)", "Redis's file (MB)", "1: nothing else"),
    ]
    return tuple(ratio(measured, slow, fast, goal) for slow, fast, goal in stored + timed)


def _prepare(shell: _Shell, restic: Path) -> None:
    """Give the machine the two programs, no backup by its own timer, and 20,000 keys of a kilobyte in Redis."""
    shell.run("cat >/usr/local/bin/restic; chmod 755 /usr/local/bin/restic", restic.read_bytes())
    shell.run("cat >/run/peaks.py", Path(peaks.__file__).read_bytes())
    value = "''.join(hashlib.sha512(b'%d %d' % (n, k)).hexdigest() for k in range(8))"
    keys = f"import hashlib\nfor n in range(20000): print('SET', n, {value})"
    stored = r"""sed -n 's|^REDIS_URL="redis://zmanim:\([^@]*\)@.*|\1|p' /run/zmanim/secrets/api.env"""
    decoded = "python3 -c 'import sys, urllib.parse; print(urllib.parse.unquote(sys.stdin.read().strip()))'"
    shell.run(
        f"""systemctl stop restic-backup.timer
REDISCLI_AUTH=$({stored} | {decoded}); export REDISCLI_AUTH
python3 -c "{keys}" | redis-cli --user zmanim --no-auth-warning >/dev/null
redis-cli --user zmanim --no-auth-warning GET 19999 | grep -q .""",
    )


# ---- What is stored ----


def _stored(shell: _Shell, how: str) -> dict[str, float]:
    """Back up night after night in each way, and return what each has stored after the first and the last (MB)."""
    repositories = "".join(f"{_RESTIC}{name} init --quiet\n" for name in ("ours", "fc-restic"))
    shell.run(f"rm -rf /var/tmp/bench; mkdir -p /var/tmp/bench/fc /var/tmp/bench/gzip\n{repositories}{FRESH}")
    stored: dict[str, float] = {}
    for night in range(NIGHTS):
        if night:
            shell.run(change(how, night))
        shell.run(_night(how, night))
        if night in {0, NIGHTS - 1}:
            when = "" if night else ", first night"
            for name in _WAYS_OF[how]:
                sizes = shell.run(f"find /var/tmp/bench/{name} -type f -printf '%s\\n'")
                stored[f"stored {how}{when}: {WAYS[name]} (MB)"] = sum(map(int, sizes.split())) / 1e6
        say(f"  {how}: night {night + 1} of {NIGHTS}")
    shell.run("rm -rf /var/tmp/bench")
    return stored


def _night(how: str, night: int) -> str:
    """Return the script of one night."""
    backup = "backup --quiet --host bench --stdin-filename dump"
    scripts = {
        "ours": f"{_RESTIC}ours {backup} --stdin-from-command -- {_DUMP} --format=custom --compress=0",
        "fc": f"{_DUMP} --format=custom >fc/{night}",
        "fc-restic": f"{_RESTIC}fc-restic {backup} --stdin <fc/{night}",
        "gzip": f"{_DUMP} --format=plain | gzip >gzip/{night}",
    }
    return "\n".join(["cd /var/tmp/bench", *(scripts[way] for way in _WAYS_OF[how])])


def change(how: str, night: int) -> str:
    """Return the script that gives a hundredth of the rows new text."""
    where = _CHANGED[how].format(night=night)
    update = f"UPDATE bench SET body = {_TEXT.format(salt=night)} WHERE {where}"  # noqa: S608 - our own words
    return _sql(update, "VACUUM bench")


# ---- What it takes ----


def _timed(lab: Lab, shell: _Shell, number: int) -> dict[str, float]:
    """Time two backups into an empty repository, a restore, and the floor of each."""
    _clear(lab)
    shell.run("rm -rf /var/cache/restic/* /var/cache/restic-restore")
    first = _backup(shell)
    shell.run(change("together", NIGHTS + number))
    following = _backup(shell)
    floor = shell.seconds(f"{_DUMP} --format=custom --compress=0 | cat >/dev/null")
    restored = json.loads(shell.run("/opt/zmanim/restore.sh --latest --json").splitlines()[-1])
    shell.run(f"{_DUMP} -Fc -Z0 --table=bench >/var/tmp/dump; runuser -u postgres -- createdb floor")
    alone = shell.seconds("runuser -u postgres -- pg_restore --no-owner --exit-on-error --dbname=floor </var/tmp/dump")
    shell.run("runuser -u postgres -- dropdb floor; rm /var/tmp/dump")
    # From the backup's own log: its file is gone when it ends.
    logged = shell.run("journalctl --unit=restic-backup --output=cat --grep='^redis: ' --lines=1")
    return {
        "first backup": first["seconds"],
        "next backup": following["seconds"],
        "pg_dump | cat": floor,
        "restore": restored["seconds"],
        "pg_restore alone": alone,
        "memory (MB)": first["memory"] / 1e6,
        "Redis's file (MB)": int(logged.split()[1]) / 1e6,
        "extra disk on /data (MB)": first["disk"] / 1e6,
        "unfinished packs in /tmp (MB)": first["unfinished"] / 1e6,
        "restic's cache (MB)": first["cache"] / 1e6,
    }


def _backup(shell: _Shell) -> dict[str, float]:
    return dict(json.loads(shell.run("python3 /run/peaks.py restic-backup.service /data/backup /var/cache/restic")))


def _drilled(lab: Lab, image_id: str) -> dict[str, float]:
    drilled = drill.recovery_drill(
        lab.clients, lab.settings, poller=lab.poller, environment=ENVIRONMENT, ami_id=image_id
    )
    if not isinstance(drilled, drill.Recovery):  # a plan is what it returns with dry=True
        return {}
    return {
        "recovery drill: empty and ready": drilled.empty_seconds,
        "recovery drill: restore": drilled.restore_seconds,
        "recovery drill: serves": drilled.healthy_seconds,
    }


def _clear(lab: Lab) -> None:
    """Remove the repository, and that there was one: the next backup stores everything again."""
    bucket = public_parameters.bucket(lab.clients, ENVIRONMENT, "backups")
    marker = public_parameters.parameter(ENVIRONMENT, public_parameters.MARKER)
    lab.clients.ssm.delete_parameters(Names=[marker])
    for page in lab.clients.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
            lab.clients.s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
