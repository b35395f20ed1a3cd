"""What a report keeps of a machine beside its checks: collected whole, bounded, and never a reason to fail."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.programs import on_path
from tests.support.stages.verification import CHART, Stage, fact_parts, good_facts, staged
from zmanim_ami.pipeline.verify import facts
from zmanim_ami.pipeline.verify.verification import NotVerified, VerifyResult

SCRIPT = Path(facts.__file__).with_name("facts.sh")
# What an instance has that a test's host has not: each says a little, as the real one does.
MACHINE = {
    "systemctl": "echo degraded; exit 1",
    "systemd-analyze": """
case $1 in
time) echo "Startup finished in 1.071s (userspace)." ;;
blame) echo "  2.5s cloud-init.service" ;;
critical-chain) echo "zmanim-ready.service @6.1s" ;;
security) echo '[{"unit":"redis.service","exposure":"1.3","predicate":"OK","happy":"x"}]' ;;
plot) cat "${HERE}/plot" ;;
esac""",
    "runuser": """echo '[{"name":"work_mem","value":"16MB","source":"/etc/zmanim/postgresql.conf"}]'""",
    "redis-cli": 'test "${REDISCLI_AUTH}" = "a password" && printf "maxmemory_policy:allkeys-lru\\r\\n"',
    "ss": """echo '0 0 10.0.0.7:40000 10.0.0.2:443 users:(("agent",pid=9,fd=3))'
echo '0 0 127.0.0.1:6379 127.0.0.1:50000 users:(("redis",pid=1,fd=3))'""",
    "find": "echo redis.service",
}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as prepared:
        yield prepared


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """Return what prints a part of the facts about a machine whose programs and files are in a folder."""
    on_path(tmp_path, monkeypatch, MACHINE)
    (tmp_path / "plot").write_text(CHART)
    (tmp_path / "redis.conf").write_text("dir /data/redis\nmaxmemory 1gb\n")
    (tmp_path / "redis-password").write_text("a password\n")
    places = {
        "/run/zmanim-facts": f"{tmp_path}/facts",
        "/etc/zmanim/redis.conf /run/zmanim/redis.conf": f"{tmp_path}/redis.conf",
        "/run/zmanim/secrets/ready/redis-password": f"{tmp_path}/redis-password",
    }

    def ask(part: int) -> str:
        text = facts.script(part)
        for there, here in places.items():
            assert there in text
            text = text.replace(there, here)
        return subprocess.run(["sh", "-c", text], check=True, capture_output=True, text=True).stdout

    return ask


def collected(machine: Callable[[int], str]) -> dict[str, object]:
    return facts.read([machine(part) for part in range(1, facts.PARTS + 1)])


def test_a_machine_says_all_of_it_in_parts_that_run_command_shows_whole(machine: Callable[[int], str]) -> None:
    found = collected(machine)
    assert found["notes"] == []
    assert found["time"] == "Startup finished in 1.071s (userspace)."
    assert found["blame"] == [{"unit": "cloud-init.service", "seconds": 2.5}]
    assert found["exposure"] == [{"unit": "redis.service", "exposure": 1.3, "word": "OK", "own": True}]
    assert found["postgresql"] == [{"name": "work_mem", "value": "16MB", "source": "/etc/zmanim/postgresql.conf"}]
    assert found["redis"] == [
        {"name": "maxmemory_policy", "value": "allkeys-lru", "source": "INFO"},
        {"name": "dir", "value": "/data/redis", "source": "redis.conf"},
        {"name": "maxmemory", "value": "1gb", "source": "redis.conf"},
    ]
    assert found["connections"] == [{"from": "10.0.0.7:40000", "to": "10.0.0.2:443", "program": "agent"}]
    assert found["chart"] == CHART


def _noise(count: int) -> str:
    """Text that hardly compresses, as a chart of that many bytes."""
    return f"<svg>{random.Random(count).randbytes(count // 2).hex()}</svg>\n"


@pytest.mark.parametrize(
    ("plot", "note"),
    [(_noise(310_000), "too-long"), (_noise(200_000), "does not fit into 3 answers"), ("no picture\n", "no SVG")],
    ids=["larger than a page may be", "larger than the answers are", "not a picture"],
)
def test_a_chart_that_does_not_fit_is_left_out_with_the_reason_and_the_rest_is_there(
    machine: Callable[[int], str], tmp_path: Path, plot: str, note: str
) -> None:
    (tmp_path / "plot").write_text(plot)
    answers = [machine(part) for part in range(1, facts.PARTS + 1)]
    assert max(map(len, answers)) < 24_000
    found = facts.read(answers)
    assert found["chart"] == ""
    assert [note in each for each in found["notes"]] == [True], found["notes"]
    assert found["postgresql"]


def test_a_chart_of_many_units_comes_in_several_parts(machine: Callable[[int], str], tmp_path: Path) -> None:
    (tmp_path / "plot").write_text(_noise(60_000))
    answers = [machine(part) for part in range(1, facts.PARTS + 1)]
    assert answers[1].split()[3] != "end"
    assert facts.read(answers)["chart"] == _noise(60_000)


def test_what_can_not_be_had_is_told_with_its_programs_words(
    machine: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path / "broken", monkeypatch, {"runuser": "echo the server is gone >&2; exit 2", "ss": "exit 1"})
    found = collected(machine)
    assert found["notes"] == ["postgresql: failed: the server is gone", "connections: failed"]
    assert found["postgresql"] == []
    assert found["chart"] == CHART


def test_no_password_of_a_store_is_in_it(machine: Callable[[int], str], tmp_path: Path) -> None:
    (tmp_path / "redis.conf").write_text(
        "requirepass hunter2\nuser x on >hunter2\nmasterauth hunter2\n# hunter2\nport 1\n"
    )
    found = collected(machine)
    assert "hunter2" not in str(found)
    assert "a password" not in str(found)
    assert {"name": "port", "value": "1", "source": "redis.conf"} in found["redis"]  # type: ignore[operator]


def test_a_verification_keeps_them_with_its_steps_and_the_figures_of_backup_and_restore(stage: Stage) -> None:
    assert isinstance(stage.verify(), VerifyResult)
    report = stage.report()
    assert report["facts"]["chart"] == CHART
    assert report["facts"]["exposure"] == [{"unit": "sshd.service", "exposure": 9.6, "word": "UNSAFE", "own": False}]
    assert report["facts"]["blame"][0] == {"unit": "cloud-init.service", "seconds": 62.5}
    assert report["backup"] == {"run": "20261124T030212Z-0a1b2c", "bytes": 48213, "seconds": 4}
    assert report["restore"]["rows"] == 19
    assert report["instance_type"] == "m7g.medium"
    steps = ["first boot", "inspection", "reboot", "backup", "swap", "restore"]
    assert [step["name"] for step in report["steps"]] == steps
    assert all(step["ok"] and step["seconds"] >= 0 <= step["at"] for step in report["steps"])


def test_the_boot_is_charted_before_the_backup_is_in_it(stage: Stage) -> None:
    stage.verify()
    (script,) = (each for each in stage.scripts if "systemctl start restic-backup.service" in each)
    written, waits, backed_up = (
        script.index(words) for words in ("INSERT INTO", facts.WAIT.splitlines()[1], "systemctl start")
    )
    assert written < waits < backed_up
    assert "boot-is-known" in SCRIPT.read_text().partition("systemd-analyze plot")[2].partition("collect >>")[0]


@pytest.mark.incident("a page for people must be no reason for an image to fail")
def test_an_image_is_verified_when_nothing_of_it_could_be_had(stage: Stage) -> None:
    stage.facts_status = "Failed"
    assert isinstance(stage.verify(), VerifyResult)
    (note,) = stage.report()["facts"]["notes"]
    assert "ended: Failed" in note
    assert stage.report()["facts"]["chart"] == ""


def test_an_image_that_fails_later_keeps_what_was_collected_and_where_it_failed(stage: Stage) -> None:
    stage.backup_status = "Failed"
    with pytest.raises(NotVerified):
        stage.verify()
    assert stage.report()["facts"]["chart"] == CHART
    assert [(step["name"], step["ok"]) for step in stage.report()["steps"]][-2:] == [
        ("reboot", True),
        ("backup", False),
    ]


def test_an_image_that_was_never_asked_says_so(stage: Stage) -> None:
    assert stage.ready is not None
    stage.ready["ok"] = False
    with pytest.raises(NotVerified):
        stage.verify()
    assert stage.report()["facts"]["notes"] == ["they were not asked for"]
    assert [step["name"] for step in stage.report()["steps"]] == ["first boot"]


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["", "", ""],
        ["parts 1\npart AAAA\nend\n"] * 3,
        ["parts 9\npart \nend\n"] * 3,
        ["parts x\npart \nend\n"] * 3,
        [each.replace("end\n", "") for each in fact_parts(good_facts())],
        [fact_parts(good_facts())[0], "parts 2\npart \nend\n", "parts 2\npart \nend\n"],
    ],
    ids=["none", "empty", "no gzip", "too many", "no number", "cut off", "a part is missing"],
)
def test_an_answer_that_is_cut_off_or_is_none_gives_no_facts_and_the_reason(texts: list[str]) -> None:
    found = facts.read(texts)
    assert found == facts.nothing(found["notes"][0])
    assert "can't be read" in found["notes"][0]


@given(st.lists(st.text(), max_size=4))
def test_no_answer_whatever_it_is_ends_a_verification(texts: list[str]) -> None:
    assert facts.read(texts)["notes"]


@given(st.dictionaries(st.sampled_from(sorted(good_facts())), st.text(st.characters(codec="utf-8"))))
def test_no_fact_whatever_it_says_ends_a_verification(said: dict[str, str]) -> None:
    known = {name: ("known", text) for name, text in said.items()}
    assert facts.read(fact_parts({**good_facts(), **known}, 20_000)).keys() == facts.nothing().keys()
