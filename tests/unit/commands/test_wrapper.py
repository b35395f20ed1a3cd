"""./inv says what it lacks before it makes anything, and never takes the Python that it is about to throw away."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT

OLD_PYTHON = "#!/bin/sh\nexit 1\n"
# Answers the version check, has no ensurepip, and notes that it was asked.
NO_VENV = '#!/bin/sh\necho asked >>"$(dirname "$0")/asked"\ncase $2 in *ensurepip*) exit 1 ;; esac\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "inv").write_bytes((ROOT / "inv").read_bytes())
    (tmp_path / "inv").chmod(0o755)
    (tmp_path / "requirements.txt").write_text("invoke==0\n")
    return tmp_path


def _python(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True)
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return directory


def _inv(clone: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    search = ":".join([*map(str, path), "/usr/bin", "/bin"])
    return subprocess.run(
        [str(clone / "inv"), "--list"], env={"PATH": search}, capture_output=True, text=True, check=False
    )


def test_without_a_new_enough_python_it_says_which_package_to_install(clone: Path) -> None:
    ended = _inv(clone, _python(clone / "host", OLD_PYTHON))
    assert ended.returncode == 3
    assert "3.11" in ended.stderr
    assert "apt-get install python3" in ended.stderr
    assert ended.stdout == ""


def test_without_python3_venv_it_says_that_in_clear_words(clone: Path) -> None:
    ended = _inv(clone, _python(clone / "host", NO_VENV))
    assert ended.returncode == 3
    assert "python3-venv" in ended.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.incident("with an activated .venv, a changed requirements.txt left neither an old nor a new environment")
def test_the_python_of_its_own_environment_is_not_what_it_is_made_from(clone: Path) -> None:
    own, host = _python(clone / ".venv/bin", NO_VENV), _python(clone / "host", NO_VENV)
    assert _inv(clone, own, host).returncode == 3
    assert (host / "asked").exists()
    assert not (own / "asked").exists()


def _wheel(directory: Path, name: str, version: str, needs: str = "", script: str = "") -> str:
    """Make a wheel with nothing in it but its metadata and at most one script; return its line of requirements.txt."""
    stem = f"{name}-{version}"
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{stem}.data/scripts/{script}"] = f"#!python\nprint('{stem}')\n"
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        record = ""
        for inside, text in files.items():
            entry = zipfile.ZipInfo(inside)
            entry.external_attr = 0o100755 << 16  # a regular file that can be run
            wheel.writestr(entry, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{inside},sha256={digest},{len(text)}\n"
        wheel.writestr(f"{stem}.dist-info/RECORD", f"{record}{stem}.dist-info/RECORD,,\n")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.mark.incident("from the day of a new release of coverage on, no fresh clone could make its environment")
def test_a_newer_release_of_what_is_pinned_changes_nothing(clone: Path) -> None:
    wheels = clone / "wheels"
    wheels.mkdir()
    program = _wheel(wheels, "program", "1.0", needs="library[extra]>=1.0", script="inv")
    (clone / "requirements.txt").write_text(program + _wheel(wheels, "library", "1.0"))
    _wheel(wheels, "library", "1.1")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(clone),
        "INV_PYTHON": sys.executable,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    ended = subprocess.run([str(clone / "inv")], env=environment, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("program-1.0\n", 0), ended.stderr
    assert [path.name for path in clone.glob(".venv/lib/*/site-packages/library-*")] == ["library-1.0.dist-info"]
