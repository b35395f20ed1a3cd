"""A task builds the tools that it uses, and no other: each is minutes of compiling where it is not there yet."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

import tasks
from localcloud.settings import Cloud
from support.errors import Error
from tests.support import ROOT
from tests.support.toolchain.fake_go import FakeGo, fake_go
from zmanim_ami.bench import lab
from zmanim_ami.commands import host as host_commands
from zmanim_ami.pipeline.ami.builder import BuildTools
from zmanim_ami.pipeline.version import parse
from zmanim_ami.rehearsal import cloud, run, standin
from zmanim_ami.rehearsal.host import Host

PACKER = ["packer", "packer-plugin-amazon"]
# Where a tool is asked for, as the function that does it, and which tasks get there.
ASKED_FOR = {
    ("commands/image.py", "validate"): ["validate"],
    ("commands/host.py", "tools_env"): ["tools.env"],
    ("pipeline/ami/builder.py", "_environment"): ["build-ami"],
    ("rehearsal/cloud.py", "prepare"): ["rehearse", "cloud.up", "bench"],
    ("rehearsal/cloud.py", "_restic"): ["rehearse", "cloud.up", "bench"],
    ("bench/backup.py", "measure"): ["bench"],  # restic for this host, which only --only backup times
    ("commands/images.py", "advisories"): ["image.advisories"],  # govulncheck, once there is something to ask it
    ("gate/code/go.py", "check"): [],
    ("gate/image/packer.py", "_by_packer"): [],
}


class Enough(Error):
    """What was to be built is built."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    """A user's cache that is empty, in a host that has what it needs."""
    site = fake_go(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    def built(*_arguments: object) -> Path:
        for name in ("root", "mirror"):
            (tmp_path / "standin" / name).mkdir(parents=True, exist_ok=True)
        return tmp_path / "standin"

    for name in ("build_tree", "build"):
        monkeypatch.setattr(standin, name, built)
    monkeypatch.setattr(cloud, "rehearsed_versions", lambda production, *_: production)
    monkeypatch.setattr(cloud, "VERSIONS_FILE", tmp_path / "versions.json")
    monkeypatch.setattr(Host, "require", lambda *_arguments, **_options: None)
    return replace(site, cache=tmp_path / "xdg" / "zmanim-ami")


def _stop(*_arguments: object, **_options: object) -> Any:
    raise Enough("enough")


def _task(name: str, **arguments: object) -> None:
    body: Callable[..., None] = tasks.namespace[name].body
    with suppress(Exit):  # as _stop has it
        body(Context(), **arguments)


def test_validate_builds_packer_and_its_plugin(site: FakeGo) -> None:
    _task("validate")
    assert site.builds() == PACKER


def test_tools_env_builds_packer_and_its_plugin(
    site: FakeGo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host_commands, "bundle", lambda *_: None)
    _task("tools.env")
    assert site.builds() == PACKER
    assert "PACKER_PLUGIN_PATH" in capsys.readouterr().out


def test_build_ami_builds_packer_and_its_plugin_once_it_needs_them(site: FakeGo, tmp_path: Path) -> None:
    builder = BuildTools(ROOT, site.cache, {"PATH": "/usr/bin:/bin"}, lambda _version: tmp_path)
    builder.versions()
    builder.bundle(parse("v1.2.3"))
    assert site.builds() == []
    builder.validate({})
    assert site.builds() == PACKER


def test_rehearse_builds_packer_its_plugin_and_the_restic_that_ships(
    site: FakeGo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "started_cloud", _stop)
    monkeypatch.setattr(run, "RESULT", site.cache.parent / "result.json")
    _task("rehearse", version="v1.2.3", json=False, machines="", accel="", programs="", cache_mb="")
    assert site.builds() == [*PACKER, "restic"]


def test_cloud_up_builds_restic_alone(site: FakeGo, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Cloud("default", "eu-west-1", site.state, 7)
    monkeypatch.setattr(cloud, "start", lambda *_arguments, **_options: started)
    _task("cloud.up", machines="", accel="", programs="", cache_mb="")
    assert site.builds() == ["restic"]


def test_a_benchmark_s_cloud_builds_what_a_rehearsal_does(site: FakeGo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "start", _stop)
    with pytest.raises(Enough), lab.lab(ROOT, site.cache, site.state):
        pass
    assert site.builds() == [*PACKER, "restic"]


def test_no_other_task_asks_for_a_tool() -> None:
    assert dict.fromkeys(_asking()) == dict.fromkeys(ASKED_FOR)
    named = {task for tasks_there in ASKED_FOR.values() for task in tasks_there}
    assert named <= set(tasks.namespace.task_names)


def _asking() -> Iterator[tuple[str, str]]:
    """Every function of ours that names toolchain.tools or toolchain.program."""
    package = ROOT / "zmanim_ami"
    for path in sorted(package.rglob("*.py")):
        if not path.is_relative_to(package / "toolchain"):
            for function in ast.walk(ast.parse(path.read_text())):
                if isinstance(function, ast.FunctionDef) and any(map(_names_a_tool, ast.walk(function))):
                    yield str(path.relative_to(package)), function.name


def _names_a_tool(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in {"tools", "program"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "toolchain"
    )
