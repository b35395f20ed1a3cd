"""Where machines are emulated the tasks wait longer, which is said; elsewhere nothing is longer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from localcloud.settings import QEMU, Cloud, CloudSettings
from tests.support import ROOT
from tests.support.shell import evaluated
from zmanim_ami.pipeline import settings
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import limits

CLOUD = Cloud(name="default", region="eu-west-1", directory=Path("/nowhere"), index=7)
EMULATED = dataclasses.replace(CLOUD, emulated=True)


@pytest.mark.parametrize(
    ("machines", "accelerator", "emulated"), [("nspawn", "tcg", False), (QEMU, "kvm", False), (QEMU, "tcg", True)]
)
def test_machines_are_emulated_in_qemu_without_kvm_alone(machines: str, accelerator: str, emulated: bool) -> None:
    chosen = CloudSettings((), Path("/nowhere"), name="limits", machines=machines, accelerator=accelerator)
    assert chosen.emulated is emulated


def test_nothing_is_longer_where_machines_run_on_a_real_processor() -> None:
    assert limits.relaxed(CLOUD, Settings()) == ()


def test_each_longer_limit_of_the_tasks_is_a_setting_that_takes_its_value_from_the_environment() -> None:
    longer = limits.relaxed(EMULATED, Settings())
    *settings_of, starts = (each.limit for each in longer)
    assert settings_of == list(limits.EMULATED)
    usual, chosen = Settings(), settings.load(ROOT, limits.variables(longer))
    for each in longer[:-1]:
        assert getattr(usual, each.limit) < getattr(chosen, each.limit)
        assert each.usual == f"{getattr(usual, each.limit)} s"
        assert each.here == f"{getattr(chosen, each.limit)} s"
    assert "TimeoutStartSec" in starts
    assert {each.why for each in longer} == {"the machines' processor is emulated"}


def test_a_limit_that_was_chosen_longer_yet_stays_as_it_was_chosen() -> None:
    longer = limits.relaxed(EMULATED, Settings(boot_timeout=3600))
    assert "boot_timeout" not in {each.limit for each in longer}


def test_a_longer_limit_is_said_with_what_is_usual(capsys: pytest.CaptureFixture[str]) -> None:
    limits.tell(limits.relaxed(EMULATED, Settings()))
    said = capsys.readouterr().err
    assert f"boot_timeout is {limits.EMULATED['boot_timeout']} s, not 300 s" in said


def test_cloud_env_gives_the_limits_that_a_rehearsal_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "running", lambda *_: EMULATED)
    (tmp_path / "pyproject.toml").write_text("")
    code, environ = evaluated(clouds.exports("", tmp_path, tmp_path), {"PATH": "/usr/bin:/bin"})
    assert code == 0
    expected = limits.variables(limits.relaxed(EMULATED, Settings()))
    assert {name: environ[name] for name in expected} == expected
