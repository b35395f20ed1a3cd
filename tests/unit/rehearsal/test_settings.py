"""Of what kind this machine's clouds are is chosen where a release's settings are, and is none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.settings import NSPAWN, QEMU
from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.pipeline import settings as release_settings
from zmanim_ami.rehearsal import cloud
from zmanim_ami.rehearsal.settings import OTHERS, MachineSettings, explain, load


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.zmanim]\nmachines = 'qemu'\nregion = 'eu-central-1'\n")
    return tmp_path


def test_without_any_choice_machines_are_containers_on_the_host_s_kernel() -> None:
    assert load(ROOT, {}) == MachineSettings() == MachineSettings(NSPAWN, "auto", "arm64")


def test_the_flag_wins_over_the_environment_and_that_over_the_file(root: Path) -> None:
    assert load(root, {"ZMANIM_REGION": "eu-west-1"}).machines == QEMU
    assert load(root, {"ZMANIM_MACHINES": NSPAWN}).machines == NSPAWN
    assert load(root, {"ZMANIM_MACHINES": NSPAWN}, {"machines": QEMU, "accel": ""}).machines == QEMU
    origins = {row.name: row.origin for row in explain(root, {"ZMANIM_ACCEL": "tcg"})}
    assert origins == {
        "machines": "[tool.zmanim] in pyproject.toml",
        "accel": "ZMANIM_ACCEL",
        "programs": "default",
        "cache_mb": "default",
    }


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"ZMANIM_MACHINES": "vmware"}, "nspawn or qemu"),
        ({"ZMANIM_ACCEL": "hvf"}, "auto or kvm or tcg"),
        ({"ZMANIM_PROGRAMS": "x86_64"}, "arm64 or amd64"),
    ],
)
def test_another_word_is_bad_input_and_is_told_which_there_are(environ: dict[str, str], expected: str) -> None:
    with raises("setting-invalid", match=expected) as caught:
        load(ROOT, environ)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("machines", "egress"), [(NSPAWN, False), (QEMU, True)], ids=["on the host's kernel", "genuine artifacts"]
)
def test_programs_that_do_not_ship_are_for_emulated_machines_and_the_mirror_alone(machines: str, egress: bool) -> None:
    chosen = MachineSettings(machines, programs="amd64")
    with raises("programs-unfit", match="--machines qemu") as caught:
        cloud.check_programs(chosen, egress=egress)
    assert caught.value.exit_code == 2
    cloud.check_programs(MachineSettings(machines), egress=egress)
    cloud.check_programs(MachineSettings(QEMU, programs="amd64"))


def test_who_reads_a_release_s_settings_leaves_them_alone_when_told_of_them(root: Path) -> None:
    environ = {"ZMANIM_ACCEL": "tcg"}
    assert release_settings.load(root, environ, others=OTHERS).region == "eu-central-1"
    with raises("setting-unknown"):
        release_settings.load(root, environ)


def test_a_mistyped_name_is_refused_by_whoever_reads(root: Path) -> None:
    for read in (load, lambda *given: release_settings.load(*given, others=OTHERS)):
        with raises("setting-unknown", match="machines"):
            read(root, {"ZMANIM_MACHINE": "qemu"})


def _inv(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "invoke", *arguments]
    environment = {"PATH": "/usr/bin:/bin", **environ}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_inv_settings_shows_them_and_who_chose_them() -> None:
    shown = _inv("settings", ZMANIM_MACHINES="qemu").stdout
    assert [line for line in shown.splitlines() if "ZMANIM_MACHINES" in line and "qemu" in line]


@pytest.mark.parametrize("words", [("doctor",), ("cloud.up", "--name", "unit-refused")])
def test_a_task_refuses_another_kind_before_it_does_anything(words: tuple[str, ...]) -> None:
    ended = _inv(*words, "--machines", "vmware")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "nspawn or qemu" in ended.stderr
