"""What tests of backups share: data of every kind, a machine's backups, and the mails that the account has sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for

UNIT = "restic-backup.service"
_SEED = """
CREATE TABLE places (id int PRIMARY KEY, name text, at geometry(Point, 4326), near vector(3), noted timestamptz);
INSERT INTO places SELECT n, 'place ' || n || E'\\t"|\\\\', ST_SetSRID(ST_MakePoint(n % 180, n % 90), 4326),
  ARRAY[n, n % 7, 1]::vector, timestamptz '2026-01-01 00:00+00' + n * interval '1 hour' FROM generate_series(1, 300) n;
CREATE INDEX ON places USING gist (at);
CREATE INDEX ON places USING hnsw (near vector_l2_ops);
"""
# What the API's role can make, and take everybody's rights to: a backup has to read it all the same.
_CLOSED = """
SELECT lo_from_bytea(4711, 'a large object'); REVOKE ALL ON LARGE OBJECT 4711 FROM PUBLIC;
CREATE SCHEMA closed;
CREATE TYPE closed.word AS ENUM ('a', 'b'); CREATE SEQUENCE closed.numbers;
CREATE TABLE closed.rows (n int DEFAULT nextval('closed.numbers'), word closed.word);
INSERT INTO closed.rows (word) VALUES ('a'), ('b');
ALTER TABLE closed.rows ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY nobody ON closed.rows USING (false);
CREATE MATERIALIZED VIEW closed.view AS SELECT 1 AS n;
CREATE FUNCTION closed.one() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE ALL ON closed.rows, closed.view FROM PUBLIC, zmanim; REVOKE ALL ON SEQUENCE closed.numbers FROM PUBLIC, zmanim;
REVOKE ALL ON TYPE closed.word FROM PUBLIC, zmanim;
REVOKE ALL ON FUNCTION closed.one() FROM PUBLIC, zmanim; REVOKE ALL ON SCHEMA closed FROM PUBLIC;
"""
# Everything that a restore has to bring back, as text: two machines with the same data print the same.
STATE = r"""cd /
ask() { runuser -u postgres -- psql --no-psqlrc -Atqc "$2" "$1"; }
ask zmanim "SELECT md5(string_agg(p::text, ',' ORDER BY id)) FROM places p"
ask zmanim "SELECT count(*), sum(ST_X(at)), sum(near <-> '[1,2,3]') FROM places"
ask zmanim "SELECT md5(string_agg(c::text, ',' ORDER BY c::text)) FROM cities c"
ask zmanim "SELECT indexdef FROM pg_indexes WHERE tablename = 'places' ORDER BY 1"
ask zmanim "SELECT jobname, schedule, command, username, active FROM cron.job ORDER BY 1"
ask zmanim "SELECT oid, lo_get(oid), lomowner::regrole, coalesce(lomacl, acldefault('L', lomowner))
            FROM pg_largeobject_metadata"
ask zmanim "SELECT (SELECT string_agg(r::text, ',' ORDER BY n) FROM closed.rows r), (SELECT n FROM closed.view)"
ask zmanim "SELECT relname, relacl, relrowsecurity FROM pg_class WHERE relnamespace = 'closed'::regnamespace ORDER BY 1"
ask zmanim "SELECT extname FROM pg_extension ORDER BY 1"
ask zmanim "SELECT defaclacl, relacl FROM pg_class LEFT JOIN pg_default_acl ON false WHERE relname = 'places'"
ask second "SELECT string_agg(t::text, ',' ORDER BY t::text) FROM things t"
ask postgres "SELECT rolname, rolsuper, rolcanlogin, rolbypassrls FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
ask postgres "SELECT datname, datcollate, datlocprovider, pg_get_userbyid(datdba) FROM pg_database ORDER BY 1"
ask postgres "SELECT r.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid
              JOIN pg_roles m ON m.oid = a.member ORDER BY 1, 2"
PW=$(sed -n 's|^REDIS_URL="redis://zmanim:\([^@]*\)@.*|\1|p' /run/zmanim/secrets/api.env)
printf 'GET lasting\nLRANGE list 0 -1\nGET passing\n' | REDISCLI_AUTH=$PW redis-cli --user zmanim --no-auth-warning
"""


@dataclass(frozen=True)
class Backups:
    """A machine's backups."""

    images: ImageLab
    machine: str

    def listed(self) -> list[dict[str, Any]]:
        """Return every run, the newest first."""
        listed: list[dict[str, Any]] = json.loads(self.images.run(self.machine, "/opt/zmanim/restore.sh --list --json"))
        return listed

    def complete(self) -> list[dict[str, Any]]:
        """Return the runs that --latest could pick, the newest first; none where there is no repository."""
        output = self.images.try_run(self.machine, "/opt/zmanim/restore.sh --list --json")
        if output["Status"] != "Success":
            assert "there is no repository" in output["StandardErrorContent"], output
            return []
        return [run for run in json.loads(output["StandardOutputContent"]) if run["state"] == "complete"]

    def record(self, run: str) -> dict[str, Any]:
        """Return a run's completion record."""
        result: dict[str, Any] = json.loads(self.restic(f"dump --tag part:record,run:{run} latest /record.json"))
        return result

    def restic(self, words: str) -> str:
        """Run restic as the machine's backup does."""
        return self.images.run(self.machine, restic_script(words))

    def start(self) -> bool:
        """Start the unit and wait for its end; return whether that was a good one."""
        self.begin()
        return self.wait()

    def begin(self) -> None:
        """Start the unit, and return as soon as it has begun."""
        which = f"systemctl show --property=InvocationID --value {UNIT}"
        before = self.images.run(self.machine, which)
        # Not in the foreground: a command of the agent's has a shorter patience than a backup.
        self.images.run(self.machine, f"systemctl start --no-block {UNIT}")
        wait_for(lambda: self.images.run(self.machine, which) != before, 30, f"{UNIT}'s beginning")

    def wait(self) -> bool:
        """Wait for the unit's end; return whether that was a good one."""
        script = f"systemctl show --property=ActiveState --value {UNIT}"
        wait_for(lambda: self.images.run(self.machine, script) in {"inactive", "failed"}, 300, f"{UNIT}'s end")
        return self.result() == "success" and "failed" not in self.images.run(self.machine, script)

    def result(self) -> str:
        """Return how the unit ended, or `running`."""
        state = self.images.run(
            self.machine, f"systemctl show --property=ActiveState --property=Result --value {UNIT}"
        ).split()
        ended = (word for word in state if word not in {"inactive", "failed"})
        return "running" if "activating" in state else next(ended)

    def journal(self) -> str:
        """Return what the unit has said in its last run."""
        # By its start, not by its invocation: a line that journald gets to when its process has ended lacks that.
        command = f"systemctl show --timestamp=us+utc --property=InactiveExitTimestamp --value {UNIT}"
        script = f'began=$({command}); journalctl --no-pager --output=cat --unit={UNIT} --since="${{began:-today}}"'
        return self.images.run(self.machine, script)

    def succeed(self) -> str:
        """Make a backup, which must end well; return its id."""
        assert self.start(), self.journal()
        return str(self.complete()[0]["run"])

    def fail(self) -> str:
        """Try to make a backup, which must fail; return what it said."""
        assert not self.start(), self.journal()
        return self.journal()


def restic_script(words: str) -> str:
    """Return a script that runs restic with the machine's own settings."""
    return (
        "set -o allexport; . /run/zmanim/environment; . /run/zmanim/account; . /etc/restic/backup.conf;"
        " RESTIC_PASSWORD_FILE=/run/zmanim/secrets/backup/restic-password RESTIC_CACHE_DIR=/var/cache/restic-restore;"
        " path=$BACKUP_PATH; [ $ZMANIM_ENVIRONMENT != verify ] || path=$path/$ZMANIM_REPOSITORY;"
        " RESTIC_REPOSITORY=s3:https://s3.$AWS_REGION.amazonaws.com/$BACKUPS_BUCKET/$path;"
        f" restic {words}"
    )


def seed(images: ImageLab, machine: str) -> None:
    """Put rows, geometries, vectors, a second database, a role, a job, keys and an expiry on a machine."""
    images.query(machine, _SEED)
    images.query(machine, _CLOSED)
    images.query(machine, "CREATE ROLE readers; CREATE ROLE reader LOGIN; GRANT readers TO reader", role="postgres")
    images.query(machine, "CREATE DATABASE second OWNER zmanim", role="postgres")
    images.query(
        machine,
        "CREATE TABLE things (n int); INSERT INTO things SELECT generate_series(1, 7); GRANT ALL ON things TO reader",
        role="postgres",
        database="second",
    )
    images.query(machine, "GRANT SELECT ON places TO reader; SELECT cron.schedule('yearly', '0 0 1 1 *', 'SELECT 1')")
    images.redis(machine, "SET lasting value", "RPUSH list a b c", "SET passing value EX 5000")


def expect_one_mail_of_a_boot(images: ImageLab, machine: str, words: str) -> None:
    """A machine that does not serve has sent one mail about that, with these words in it."""

    def sent() -> list[dict[str, Any]]:
        about = (mail for mail in mails(images) if mail["subject"].endswith(": zmanim-ready.service failed"))
        return [mail for mail in about if machine in mail["body"]]

    wait_for(sent, 90, "a mail about a boot that failed")
    assert [words in mail["body"] for mail in sent()] == [True], sent()


def mails(images: ImageLab) -> list[dict[str, Any]]:
    """Return every mail that the cloud's SES has taken, the oldest first."""
    account = images.cloud.directory / "mails.jsonl"
    return [json.loads(line) for line in account.read_text().splitlines()] if account.exists() else []
