"""The template and the shipped files keep what the requirements say, as a reader of the effective settings sees it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.support import ROOT
from zmanim_ami.pipeline.shipped import server_settings, unit_files

PACKER = ROOT / "infrastructure/packer"
FILES = PACKER / "files"
UNITS = sorted(path for path in FILES.iterdir() if path.suffix in {".service", ".timer", ".mount", ".target", ".path"})


def effective(path: Path) -> dict[str, list[str]]:
    """Every setting with its values in their order: the last one wins, comments do not count."""
    settings = {name: [value.text for value in values] for name, values in server_settings.effective(path).items()}
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert sum(map(len, settings.values())) == len(lines), "a line that is no setting"
    return settings


def test_the_versions_file_keeps_its_schema() -> None:
    schema = json.loads((PACKER / "versions.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads((PACKER / "versions.json").read_text()), schema)


@pytest.mark.parametrize("broken", ["latest", "7.2", "sha256"])
def test_the_schema_refuses_what_is_not_pinned(broken: str) -> None:
    versions = json.loads((PACKER / "versions.json").read_text())
    if broken == "sha256":
        del versions["artifacts"]["redis"]["sha256"]
    elif broken == "latest":
        versions["artifacts"]["redis"]["version"] = "latest"
    else:
        versions["base"]["release"] = "latest"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(versions, json.loads((PACKER / "versions.schema.json").read_text()))


def test_postgresql_has_the_values_for_4_gib_and_its_data_on_the_volume() -> None:
    settings = {name: values[-1] for name, values in effective(FILES / "postgresql.conf").items()}
    assert settings["shared_buffers"] == "1GB"
    assert settings["effective_cache_size"] == "3GB"
    assert settings["work_mem"] == "16MB"
    assert settings["data_directory"] == "/data/postgres"
    assert settings["listen_addresses"] == ""
    assert settings["include"] == "/run/zmanim/postgresql.conf"


def test_postgresql_lets_nobody_in_but_by_the_local_socket_as_who_they_are() -> None:
    rows = [line.split() for line in (FILES / "pg_hba.conf").read_text().splitlines() if line and line[0] != "#"]
    assert rows
    assert all(row[0] == "local" and row[3] == "peer" for row in rows)


def test_no_role_of_ours_is_a_superuser() -> None:
    roles = dict(re.findall(r"^ALTER ROLE (\w+) (?!SET )(.*);$", (FILES / "database.sql").read_text(), re.MULTILINE))
    assert roles.keys() == {"zmanim", "zmanim_backup"}
    for rights in roles.values():
        assert {"NOSUPERUSER", "NOCREATEDB", "NOCREATEROLE", "NOREPLICATION"} <= set(rights.split())


@pytest.mark.incident("the first large object failed every backup from then on")
def test_the_backup_s_role_may_read_large_objects() -> None:
    # pg_read_all_data does not cover them, and PostgreSQL has no right that does.
    assert "ALTER ROLE zmanim_backup SET lo_compat_privileges = on;" in (FILES / "database.sql").read_text()


def test_redis_persists_within_its_memory_on_the_volume() -> None:
    settings = effective(FILES / "redis.conf")
    assert settings["appendonly"][-1] == "yes"
    assert settings["save"] == ["900 1", "300 10", "60 10000"]
    assert settings["maxmemory"][-1] == "1gb"
    assert settings["maxmemory-policy"][-1] == "allkeys-lru"
    assert settings["dir"][-1] == "/data/redis"
    assert settings["bind"][-1] == "127.0.0.1"


def test_every_log_of_ours_is_in_the_journal_and_the_journal_is_bounded() -> None:
    bounds = sections(FILES / "zmanim-journald.conf")["Journal"]
    assert {"SystemMaxUse", "RuntimeMaxUse", "RateLimitBurst"} <= set(bounds)
    postgresql = effective(FILES / "postgresql.conf")
    assert (postgresql["log_destination"][-1], postgresql["logging_collector"][-1]) == ("stderr", "off")
    assert effective(FILES / "redis.conf")["logfile"][-1] == ""
    for path in FILES.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert "/var/log" not in path.read_text(), path.name
    for path in UNITS:
        assert not {"StandardOutput", "StandardError"} & set(sections(path).get("Service", {})), path.name


@pytest.mark.incident("a slow statement was logged with all its bound values, to the journal and CloudWatch")
def test_no_value_of_a_statement_is_logged() -> None:
    settings = effective(FILES / "postgresql.conf")
    assert settings["log_parameter_max_length"][-1] == "0"
    assert settings["log_parameter_max_length_on_error"][-1] == "0"
    # Terse: a DETAIL has the row that is in the way, or the value that is wrong.
    assert settings["log_error_verbosity"][-1] == "terse"


@pytest.mark.incident("a recovery that took longer than ten minutes was killed, and began again for ever")
def test_nothing_ends_a_store_s_recovery() -> None:
    for name in ("postgresql.service", "redis.service"):
        assert sections(FILES / name)["Service"]["TimeoutStartSec"] == ["infinity"]


def test_the_included_settings_come_last_so_that_they_win() -> None:
    for name in ("postgresql.conf", "redis.conf"):
        last = [line for line in (FILES / name).read_text().splitlines() if line and line[0] != "#"][-1]
        assert last.startswith("include")
        assert "/run/zmanim/" in last


def sections(path: Path) -> dict[str, dict[str, list[str]]]:
    """A unit file by section and key; a key that is given twice keeps both values."""
    settings: dict[str, dict[str, list[str]]] = {}
    for each in unit_files.read(ROOT, path.relative_to(ROOT)).directives:
        settings.setdefault(each.section, {}).setdefault(each.name, []).append(each.value)
    return settings


@pytest.mark.incident("every unit shipped disabled")
def test_every_unit_that_can_be_enabled_is_in_the_preset() -> None:
    lines = (FILES / "zmanim.preset").read_text().splitlines()
    enabled = {line.split()[1] for line in lines if line.startswith("enable ")}
    ours = {path.name for path in UNITS if "Install" in sections(path)}
    assert ours <= enabled
    packaged = {"chronyd.service", "sshd.service", "amazon-ssm-agent.service", "amazon-cloudwatch-agent.service"}
    assert enabled - ours == packaged


@pytest.mark.incident(
    "a unit was left out of a boot at random: its path unit came before basic.target and after the volume"
)
@pytest.mark.parametrize(
    "path", [path for path in UNITS if path.suffix in {".path", ".timer"}], ids=lambda path: path.name
)
def test_what_comes_before_basic_target_waits_for_nothing_that_comes_after_it(path: Path) -> None:
    unit = sections(path)["Unit"]
    assert not {"After", "BindsTo", "Requires"} & set(unit) or unit["DefaultDependencies"] == ["no"]


@pytest.mark.incident("services started on the root disk while /data was missing")
@pytest.mark.parametrize("name", ["postgresql.service", "redis.service", "zmanim-data-layout.service"])
def test_what_writes_to_the_volume_is_bound_to_its_mount(name: str) -> None:
    unit = sections(FILES / name)["Unit"]
    assert unit["BindsTo"] == ["data.mount"]
    assert "data.mount" in " ".join(unit["After"])


@pytest.mark.incident("the packaged unit's ProtectSystem=strict lacked /data/redis in ReadWritePaths")
@pytest.mark.parametrize(("name", "path"), [("postgresql.service", "/data/postgres"), ("redis.service", "/data/redis")])
def test_a_sandboxed_database_may_write_where_its_data_is(name: str, path: str) -> None:
    service = sections(FILES / name)["Service"]
    assert service["ProtectSystem"] == ["strict"]
    assert path in service["ReadWritePaths"]


def test_the_ready_line_waits_for_everything_and_needs_nothing() -> None:
    unit = sections(FILES / "zmanim-ready.service")["Unit"]
    assert not {"Requires", "BindsTo", "Requisite", "PartOf"} & set(unit)
    waits = set(" ".join(unit["After"]).split())
    # A unit may say it itself: its Before= is the same to systemd.
    before = {path.name: " ".join(sections(path)["Unit"].get("Before", [])).split() for path in UNITS}
    waits |= {name for name, others in before.items() if "zmanim-ready.service" in others}
    ours = {path.name for path in UNITS if path.suffix in {".service", ".mount"} and "Install" in sections(path)}
    assert ours - {"zmanim-ready.service"} <= waits


def test_huge_pages_are_set_before_the_servers_and_only_where_they_can_be() -> None:
    unit = sections(FILES / "zmanim-huge-pages.service")
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    assert unit["Unit"]["ConditionPathIsReadWrite"] == [str(setting)]
    assert unit["Unit"]["Before"] == ["postgresql.service redis.service"]
    assert f"echo madvise >{setting}" in unit["Service"]["ExecStart"][0]
    # Its sandbox leaves it what it is there for.
    assert unit["Service"]["ProtectKernelTunables"] == ["no"]


@pytest.mark.incident("a hung backup stays 'activating' and is the silent end of backups")
def test_every_oneshot_has_a_time_limit() -> None:
    for path in UNITS:
        service = sections(path).get("Service", {})
        if service.get("Type") == ["oneshot"] and path.name != "zmanim-memory.service":
            assert "TimeoutStartSec" in service, path.name


@pytest.mark.parametrize("name", ["postgresql", "redis", "zmanim-api"])
def test_what_serves_is_started_again_for_as_long_as_it_takes(name: str) -> None:
    unit = sections(FILES / f"{name}.service")
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert unit["Service"]["Restart"][0] in {"always", "on-failure"}


@pytest.mark.parametrize("name", ["zmanim-release-fetch", "zmanim-release", "zmanim-migrate"])
def test_every_start_of_the_api_runs_this_again_and_however_often(name: str) -> None:
    api, unit = sections(FILES / "zmanim-api.service")["Unit"], sections(FILES / f"{name}.service")
    assert f"{name}.service" in " ".join(api["After"]).split()
    assert f"{name}.service" in " ".join(api["Wants"] + api["Requires"]).split()
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert "RemainAfterExit" not in unit["Service"]


def test_only_the_units_that_need_a_secret_are_given_one() -> None:
    secrets = re.compile(r"^(?!InaccessiblePaths=)[^\n]*/run/zmanim/secrets", re.MULTILINE)
    takers = {path.name for path in UNITS if secrets.search(path.read_text())}
    backups = {"restic-backup.service", "backup-drill.service", "backup-proof.service"}
    assert takers == {"redis.service", "zmanim-api.service", *backups}


@pytest.mark.parametrize("name", ["postgresql", "redis", "zmanim-migrate", "zmanim-api", "restic-backup"])
def test_what_stamps_times_starts_after_the_clock_is_looked_after_and_does_not_need_it(name: str) -> None:
    unit = sections(FILES / f"{name}.service")["Unit"]
    assert "chronyd.service" in " ".join(unit["After"]).split()
    assert not [key for key, values in unit.items() if key != "After" and "chronyd" in " ".join(values)]


@pytest.mark.incident("one snapshot dated in the future outlived and hid all that followed")
@pytest.mark.parametrize(
    ("chronyc", "refuses"),
    [
        ("echo 'Leap status     : Not synchronised'", True),
        ("echo 'Leap status     : Normal'", False),
        ("exit 1", False),
    ],
)
def test_nothing_is_backed_up_by_a_clock_that_is_known_to_be_wrong(tmp_path: Path, chronyc: str, refuses: bool) -> None:
    (tmp_path / "chronyc").write_text(f"#!/bin/sh\n{chronyc}\n")
    (tmp_path / "chronyc").chmod(0o755)
    names = ("ZMANIM_ENVIRONMENT", "AWS_REGION", "INSTANCE_ID", "BACKUP_PATH")
    environment = dict.fromkeys(names, "x") | {"CREDENTIALS_DIRECTORY": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin"}
    done = subprocess.run([FILES / "backup.sh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    # Without its secrets it ends at the next step, if not here.
    assert ("the clock is not synchronised" if refuses else "restic-password is missing") in done.stderr


@pytest.mark.parametrize(
    "script", sorted([*PACKER.glob("scripts/*.sh"), *PACKER.glob("files/*.sh")]), ids=lambda p: p.name
)
def test_every_script_says_what_it_takes_and_stops_at_an_error(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "# Input:" in text
    sourced = "Sourced" in text.split("set -o")[0].split("\n\n")[0]
    assert sourced or ("\nset -o errexit -o nounset -o pipefail\n" in text and text.rstrip().endswith('main "$@"'))
    assert not re.search(r"\|\| (true|:)(\s|$)", text), "a hidden failure"


@pytest.mark.incident("pgvector compiled for the builder's own CPU breaks on another Graviton")
def test_nothing_is_compiled_for_the_builders_own_cpu() -> None:
    assert 'OPTFLAGS=""' in (PACKER / "scripts/specs/pgvector.spec").read_text()


@pytest.mark.incident("pg_dump | restic --stdin kept truncated snapshots")
def test_backup_sh_names_pg_dump_and_redis_and_pipes_neither() -> None:
    text = (FILES / "backup.sh").read_text()
    assert re.search(r"step database .* -- \\\n\s+pg_dump --format=custom --compress=0 ", text)
    assert "redis-cli -s /run/redis/redis.sock --user backup" in text
    assert not re.search(r"(pg_dump|pg_dumpall|redis-cli)[^\n]*\|", text)


@pytest.mark.incident("a missed night is not made up for on a machine of a new image, which has no stamp")
def test_a_backup_follows_a_boot_and_the_image_has_no_stamp() -> None:
    timer = sections(FILES / "restic-backup.timer")["Timer"]
    assert timer["OnCalendar"] == ["*-*-* 03:00:00 UTC"]
    assert (timer["RandomizedDelaySec"], timer["Persistent"]) == (["5min"], ["true"])
    assert "OnBootSec" in timer


@pytest.mark.incident("a failing notice must not notify about itself")
def test_what_fails_is_mailed_about_but_for_the_mail() -> None:
    for name in ("restic-backup.service", "backup-drill.service", "zmanim-ready.service"):
        assert "backup-notify@%n.service" in sections(FILES / name)["Unit"]["OnFailure"][0].split()
    for path in FILES.glob("backup-notify*.service"):
        assert "OnFailure" not in path.read_text().replace("an OnFailure= of", "")
    # A machine that has no environment has nobody to mail to, and one more failed unit would hide the reason.
    notice = sections(FILES / "backup-notify@.service")["Unit"]
    assert notice["ConditionPathExists"] == ["/run/zmanim/environment"]


@pytest.mark.incident("the API's process could write into zmanim-ready's psql, which might ask for the instance's role")
def test_no_process_writes_into_another_of_its_own_user() -> None:
    # "-": a kernel without Yama has no such setting. elfutils' own file (10-default-yama-scope.conf) comes before 60-….
    assert "-kernel.yama.ptrace_scope = 2" in (FILES / "zmanim-sysctl.conf").read_text().splitlines()


@pytest.mark.incident("a filter that was refused after the boot was seen by nobody")
def test_filters_are_looked_for_again_and_again_and_a_missing_one_is_mailed_about() -> None:
    by_name = {unit.name: unit for unit in unit_files.units(ROOT)}
    assert "zmanim-recovering.timer" in unit_files.enabled_units(ROOT)
    assert "zmanim-filters.service" in by_name["zmanim-recovering.service"].words("Wants")
    assert by_name["zmanim-filters.service"].words("OnFailure") == ["backup-notify@%n.service"]


@pytest.mark.parametrize("unit", sorted(FILES.glob("*.service")), ids=lambda unit: unit.name)
def test_a_directory_that_a_unit_makes_says_its_mode(unit: Path) -> None:
    """The incident: CacheDirectory= made a 0700 directory 0755, and gave a restored server a way in."""
    lines = unit.read_text().splitlines()
    made = {line.partition("=")[0] for line in lines if re.match(r"(State|Cache|Runtime|Logs)Directory=", line)}
    assert {f"{name}Mode" for name in made} <= {line.partition("=")[0] for line in lines}
