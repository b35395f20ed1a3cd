"""The command that restores: what it keeps, proves, puts off, and what is over when it is."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import ROOT
from tests.support.backup_parts import AT, RECORD, VERSIONS, StoringRepository
from tests.support.programs import SANDBOX, arguments, on_path
from tests.unit.host.backup.test_restore import run
from zmanim_host import limits
from zmanim_host.backup import restore, steps
from zmanim_host.backup.record import CompletionRecord, to_json
from zmanim_host.backup.restic import Repository
from zmanim_host.backup.restore import Filled, Restore
from zmanim_host.backup.retention import Run
from zmanim_host.backup.scratch import Scratch
from zmanim_host.host import HostError, locked
from zmanim_host.storage import swap


@dataclass(frozen=True)
class DryRestore(Restore):
    """A restore that only writes down where it restores to."""

    done: list[str] = field(default_factory=list)
    fails: BaseException | None = None
    compares: bool = True

    def fill(self, record: CompletionRecord, place: Scratch, finish: object = None) -> Filled:
        self.done.append(f"fill {place.directory.name}")
        if self.fails:
            raise self.fails
        return Filled(7, schema_compared=self.compares)


@pytest.fixture
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DryRestore:
    on_path(tmp_path / "programs", monkeypatch, {**VERSIONS, **SANDBOX, "aws": ""})
    (tmp_path / "data/backup").mkdir(parents=True)
    repository = StoringRepository(known=[run("whole", 0)])
    repository.content["/record.json"] = to_json(RECORD).encode()
    return DryRestore(repository, tmp_path / "data", pwd.getpwuid(os.getuid()).pw_name, lambda: AT + timedelta(hours=2))


def options(*words: str) -> argparse.Namespace:
    return restore.parser().parse_args(words)


def test_a_drill_restores_beside_what_is_live_and_leaves_nothing(
    restored: DryRestore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What a killed one left is no obstacle.
    (restored.data / "restore").mkdir()
    (restored.data / "restore/half").write_text("")
    restored.run(options("--latest", "--drill", "--json"))
    assert restored.done == ["fill restore"]
    limit = ["set-property", "--runtime", "zmanim-scratch.slice", "MemoryMax=40%"]
    assert limit in arguments(tmp_path / "programs", "systemctl"), "all that touches it together, not each program"
    (sent,) = arguments(tmp_path / "programs", "aws")
    metrics = json.loads(sent[sent.index("--metric-data") + 1])
    assert [metric["MetricName"] for metric in metrics] == ["RestoreDrillSeconds", "RestoreDrillDataAge"]
    assert (round(metrics[0]["Value"]), metrics[1]["Value"]) == (0, 7200)
    assert [path.name for path in restored.data.iterdir()] == ["backup"]
    result = json.loads(capsys.readouterr().out)
    assert (result["run"], result["rows"], result["keys"], result["age"]) == ("whole", 3, 7, 7200)


@pytest.mark.incident("a drill that systemd had ended left half a restore beside the live data")
@pytest.mark.parametrize("where", ["", "here"])
@pytest.mark.parametrize("ending", [HostError("is not what its record says"), SystemExit(143), KeyboardInterrupt()])
def test_half_a_restore_goes_away_whatever_ended_it(
    restored: DryRestore, tmp_path: Path, ending: BaseException, where: str
) -> None:
    words = ["--into-scratch", str(tmp_path / where)] if where else ["--drill"]
    with pytest.raises(type(ending)):
        replace(restored, fails=ending).run(options("--latest", *words))
    assert arguments(tmp_path / "programs", "aws") == []
    assert [path.name for path in restored.data.iterdir()] == ["backup"]
    assert not (tmp_path / "here").exists()


@pytest.mark.incident("a schema that can't be loaded again was a complete run every night")
def test_the_newest_run_is_proven_once_and_again_when_something_is_new(restored: DryRestore) -> None:
    marked: list[str] = []
    words = options("--latest", "--drill", "--if-due")
    proving = replace(restored, mark=lambda record: marked.append(record.run))
    proving.prove(words, 60)
    assert (marked, restored.done) == (["whole"], ["fill restore"])
    assert isinstance(restored.repository, StoringRepository)
    restored.repository.known[0] = replace(restored.repository.known[0], proven=AT)
    proving.prove(words, 60)
    assert (marked, restored.done) == (["whole"], ["fill restore"])
    restored.repository.known[0] = replace(restored.repository.known[0], proven=None)
    with pytest.raises(HostError, match="function lower_name"):
        replace(proving, fails=HostError("function lower_name(text) does not exist")).prove(words, 60)
    assert marked == ["whole"]


def test_whether_a_run_has_to_be_proven_is_one_listing_of_the_repository(
    restored: DryRestore, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[object] = []
    known = [replace(run("whole", 0), proven=AT), run("adopted", -1, record=None, adoption=True)]

    def runs(repository: Repository) -> list[Run]:
        listed.append(repository)
        return known

    monkeypatch.setattr(StoringRepository, "runs", runs)
    assert restored.why_due() == ""
    assert len(listed) == 1
    # Whoever wrote a record beside an adoption has made no run that could be restored.
    known[0] = replace(known[0], adoption=True)
    with pytest.raises(HostError, match="whole is an adoption"):
        restored.why_due()


@pytest.mark.incident("a run whose schema was not compared, as its PostgreSQL is another, was marked as proven")
def test_a_run_of_another_postgresql_is_restored_and_not_marked(restored: DryRestore) -> None:
    marked: list[str] = []
    proving = replace(restored, mark=lambda record: marked.append(record.run), compares=False)
    proving.run(options("--latest", "--drill"))
    assert (marked, restored.done) == ([], ["fill restore"])


@pytest.mark.incident("after a backup that told of a run from the future nothing was proven any longer")
def test_a_proof_may_follow_every_end_of_a_backup() -> None:
    files = ROOT / "infrastructure/packer/files"
    lines = (files / "restic-backup.service").read_text().splitlines()
    assert {"OnSuccess=backup-proof.service", "OnFailure=backup-notify@%n.service backup-proof.service"} <= set(lines)
    proof = (files / "backup-proof.service").read_text()
    assert f"\nConditionPathExists={steps.WORK / steps.COMPLETE}\n" in proof, "but none that has made no whole run"


@pytest.mark.incident("a forged record ended a restore with a traceback and no word of what was wrong")
@pytest.mark.parametrize("error", [IndexError("list index out of range"), KeyError("postgresql"), ValueError("x")])
def test_a_run_that_can_not_be_understood_is_refused_by_name(restored: DryRestore, error: Exception) -> None:
    with pytest.raises(HostError, match="the run whole can't be understood"):
        replace(restored, fails=error).run(options("--latest"))
    assert [path.name for path in restored.data.iterdir()] == ["backup"]


def test_a_proof_without_room_or_time_is_put_off_and_told(
    restored: DryRestore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Endless(DryRestore):
        def fill(self, record: CompletionRecord, place: Scratch, finish: object = None) -> Filled:
            time.sleep(60)
            return Filled(0, schema_compared=True)

    words = options("--latest", "--drill", "--if-due")
    replace(restored, fails=limits.PutOff("/data has 3 MiB free")).prove(words, 60)
    Endless(restored.repository, restored.data, restored.user, restored.now).prove(words, 1)
    output = capsys.readouterr().err
    assert "that is put off: /data has 3 MiB free" in output
    assert "that is put off: it is not done after 1 s" in output
    sent = arguments(tmp_path / "programs", "aws")
    assert ["ProofPutOff" in " ".join(call) for call in sent] == [True, True]
    assert [path.name for path in restored.data.iterdir()] == ["backup"]


def test_only_what_is_to_be_kept_is_kept(restored: DryRestore, tmp_path: Path) -> None:
    restored.run(options("--latest", "--into-scratch", str(tmp_path / "here")))
    assert (tmp_path / "here").is_dir()
    assert restored.done == ["fill here"]


def test_only_replace_exchanges(restored: DryRestore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is filled is exchanged with what is live, and that is where this ends: initdb has no cluster to sync.
    systemctl = "case $* in *ControlGroup*) ;; *) echo ActiveState=inactive ;; esac"
    here = on_path(tmp_path / "more", monkeypatch, {"systemctl": systemctl, "initdb": "exit 1"})
    with pytest.raises(HostError, match="exit code 1"):
        restored.run(options("--run", "whole", "--replace", "--yes"))
    assert restored.done == ["fill restore"]
    assert arguments(here, "initdb") == [["--sync-only", f"--pgdata={restored.data}/restore/postgres"]]


@pytest.mark.incident("a drill removed what an exchange that was cut short would have needed to be undone")
def test_nothing_is_restored_or_removed_beside_an_exchange_that_was_cut_short(
    restored: DryRestore, capsys: pytest.CaptureFixture[str]
) -> None:
    (restored.data / "postgres").mkdir()
    (restored.data / "restore").mkdir()
    swap.begin(restored.data, "r")
    with pytest.raises(HostError, match="for run r was cut short"):
        restored.run(options("--latest", "--drill"))
    restore.clean(restored.data)
    assert "for run r was cut short" in capsys.readouterr().err
    assert (restored.data / "restore").is_dir()
    assert restored.done == []
    swap.end(restored.data)
    restore.clean(restored.data)
    assert not (restored.data / "restore").exists()


@pytest.mark.incident("the end of an ssh session killed a restore with nothing undone")
@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_a_restore_ends_by_any_signal_as_by_an_error_and_by_no_second_one(tmp_path: Path, name: str) -> None:
    program = (
        "import os, signal\n"
        "from zmanim_host.backup import restore\n"
        "restore.handle_signals()\n"
        "try:\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "finally:\n"
        "    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):\n"
        "        os.kill(os.getpid(), number)\n"
        f"    open({str(tmp_path / 'undone')!r}, 'w').close()\n"
    )
    files = ROOT / "infrastructure/packer/files"
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(files)}, check=False)
    assert done.returncode == 128 + getattr(signal, name)
    assert (tmp_path / "undone").exists()


def test_two_restores_at_once_are_refused(restored: DryRestore) -> None:
    with locked(restored.data / "backup"), pytest.raises(HostError, match="another backup or restore is running"):
        restored.run(options("--latest"))
    assert restored.done == []
    # And the lock is gone with its holder.
    restored.run(options("--latest"))
    assert restored.done == ["fill restore"]


def test_a_restore_may_take_twice_its_dumps_its_redis_and_an_empty_cluster() -> None:
    assert restore.needed_room(RECORD) == 2 * 10 + 7 + restore.ROOM


def test_a_restore_that_takes_more_room_than_its_record_says_is_put_off(restored: DryRestore, tmp_path: Path) -> None:
    class Slow(DryRestore):
        def fill(self, record: CompletionRecord, place: Scratch, finish: object = None) -> Filled:
            for _ in range(600):
                time.sleep(0.1)
                if ["stop", "zmanim-scratch.slice"] in arguments(tmp_path / "programs", "systemctl")[1:]:
                    raise HostError("loading zmanim: exit code 143")
            return Filled(0, schema_compared=True)

    volumes = iter([SimpleNamespace(free=1 << 40, total=1 << 40)])
    slow = Slow(
        restored.repository,
        restored.data,
        restored.user,
        restored.now,
        usage=lambda _: next(volumes, SimpleNamespace(free=1, total=1 << 40)),
    )
    with pytest.raises(limits.PutOff, match="took more than it should"):
        slow.run(options("--latest", "--drill"))


def test_restic_runs_as_the_backup_s_user_with_the_password_in_its_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    (tmp_path / "password").write_text("secret\n")
    program = 'echo "${RESTIC_PASSWORD} ${RESTIC_PASSWORD_FILE}" >"${HERE}/given"; id -un >"${HERE}/user"; echo hello'
    here = on_path(tmp_path / "programs", monkeypatch, {"restic": program})
    monkeypatch.setenv("RESTIC_PASSWORD_FILE", str(tmp_path / "password"))
    repo = replace(restore.as_backup_user(StoringRepository(), os.environ), user=me)
    read: list[bytes] = []
    restic = Repository(repo.environment, repo.region, repo.bucket, repo.location, (), me, repo.password)
    restic.read_into("--option", "/file", lambda stream: read.append(stream.read()))
    assert read == [b"hello\n"]
    assert (here / "given").read_text() == "secret \n"
    assert (here / "user").read_text() == f"{me}\n"
    (call,) = arguments(here, "restic")
    assert call == ["dump", "--no-lock", "--", "--option", "/file"], "no record can name an option of restic's"
    assert "secret" not in repr(repo)
