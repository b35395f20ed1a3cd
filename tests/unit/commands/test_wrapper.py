"""./inv says what it lacks before it makes anything, and never takes the Python that it is about to throw away."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
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
    (tmp_path / "nox").symlink_to("inv")
    (tmp_path / "requirements.txt").write_text("invoke==0\n")
    (tmp_path / "requirements-gate.txt").write_text("invoke==0\nnox==0\n")
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


# What a host has beside the programs that ./inv names: those that run a script.
ANY_HOST = ("bash", "env", "sh")
NAMED = dict(
    re.findall(r"(?<= )([a-z0-9]+):([a-z-]+)", (ROOT / "inv").read_text().partition("PROGRAMS=(")[2].partition(")")[0])
)


def _only(directory: Path, *names: str) -> Path:
    """Return a folder for PATH that has these of this host's programs and no other."""
    directory.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, name
        (directory / name).symlink_to(found)
    return directory


@pytest.mark.incident(
    "in Amazon Linux's container, which has no util-linux, ./inv ended with 127: flock: command not found"
)
@pytest.mark.parametrize(("program", "package"), NAMED.items())
def test_a_path_without_a_program_that_it_calls_is_a_message(clone: Path, program: str, package: str) -> None:
    path = _only(clone / "path", *ANY_HOST, *(NAMED.keys() - {program}))
    command, environment = [str(clone / "inv"), "--list"], {"PATH": str(path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == (
        f"not on PATH: {program}\n  fix:      apt-get install --yes {package} (Debian, Ubuntu), "
        f"or dnf --assumeyes install {package} (Amazon Linux)\n"
    )


def test_a_path_without_several_programs_names_each_and_each_package_once(clone: Path) -> None:
    ended = subprocess.run(
        [str(clone / "nox")],
        env={"PATH": str(_only(clone / "path", *ANY_HOST, "cat"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert "not on PATH: dirname ln mv " in ended.stderr
    assert "install coreutils util-linux grep sed (Amazon Linux)" in ended.stderr


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


def _wheel(directory: Path, name: str, version: str, contents: Mapping[str, str], needs: str = "") -> str:
    """Make a wheel of its metadata and `contents` by their names in it; return its line of requirements.txt."""
    stem = f"{name}-{version}"
    requires = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **contents,
    }
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
    script = {"program-1.0.data/scripts/inv": "#!python\nprint('program-1.0')\n"}
    program = _wheel(wheels, "program", "1.0", script, needs="library[extra]>=1.0")
    (clone / "requirements.txt").write_text(program + _wheel(wheels, "library", "1.0", {}))
    _wheel(wheels, "library", "1.1", {})
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


# Makes an environment at once, whose program prints what requirements.txt was when it is told to go on.
QUICK_PYTHON = """#!/bin/sh
[ "$1" != -c ] || exec {python} "$@"
case $2 in
  venv) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  pip)
    for requirements; do :; done
    environment=$(dirname "$(dirname "$0")")
    cp "$requirements" "$environment/library" && ! grep broken "$requirements" || exit 1
    ln -sf /bin/sh "$environment/bin/sh"
    printf '%s\\n' "#!$environment/bin/sh" 'echo started' 'read -r line' >"$environment/bin/inv"
    printf '%s\\n' 'cat "$(dirname "$0")/../library"' >>"$environment/bin/inv"
    chmod +x "$environment/bin/inv"
    case $requirements in *gate*) cp "$environment/bin/inv" "$environment/bin/nox" ;; esac ;;
esac
"""


class Clone:
    """A clone whose ./inv makes its environments by QUICK_PYTHON."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.link = directory, directory / ".venv"
        host = directory / "host"
        if not host.exists():
            _python(host, QUICK_PYTHON.format(python=sys.executable))
        # Of this host's programs those that ./inv names, and no other: what it calls besides fails a test.
        only = directory / "only"
        if not only.exists():
            _only(only, *ANY_HOST, *NAMED, "cp", "mkdir", "chmod", "printf")
        self.environment = {"PATH": f"{host}:{only}"}

    def require(self, text: str, lock: str = "requirements.txt") -> None:
        """Let a lock say this."""
        (self.directory / lock).write_text(f"{text}\n")

    def start(self, name: str = "inv") -> subprocess.Popen[str]:
        """Start ./inv or ./nox; return when its program has started."""
        command, pipe = [str(self.directory / name)], subprocess.PIPE
        process = subprocess.Popen(command, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first == "started\n", process.communicate()[1]
        return process

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
        """Let the program go on; return the requirements that its environment is made of, and what ./inv said."""
        output, progress = process.communicate("go\n", timeout=60)
        assert process.returncode == 0, progress
        return output.strip(), progress

    def run(self, name: str = "inv") -> tuple[str, str]:
        """Run ./inv or ./nox, and return what `finish` does."""
        return self.finish(self.start(name))

    def environments(self) -> list[Path]:
        """Return the environments that are there."""
        return sorted(self.directory.glob(".venvs/*"))


@pytest.fixture
def made(clone: Path) -> Clone:
    made = Clone(clone)
    made.require("1.0")
    output, progress = made.run()
    assert output == "1.0"
    assert "making .venv" in progress
    return made


@pytest.mark.incident("another active environment made ./inv remove .venv under a running ./nox: 180 tests failed")
def test_another_active_environment_of_the_same_python_makes_none_anew(clone: Path) -> None:
    other = clone / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(other)], check=True)
    made = Clone(clone)
    made.require("1.0")
    made.run()
    made.environment |= {"VIRTUAL_ENV": str(other), "PATH": f"{other}/bin:/usr/bin:/bin"}
    assert made.run() == ("1.0", "")


@pytest.mark.incident("another active environment made ./inv remove .venv under a running ./nox: 180 tests failed")
def test_a_running_command_keeps_the_environment_that_it_started_in(made: Clone) -> None:
    running = made.start()
    made.require("1.1")
    assert made.run()[0] == "1.1"
    assert len(made.environments()) == 2
    assert made.finish(running)[0] == "1.0"


def test_what_outlives_the_command_that_started_it_keeps_its_environment(made: Clone) -> None:
    command = ["/bin/sh", "-c", "read -r line", f"{made.environments()[0]}/bin/python"]
    remaining = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        made.require("1.1")
        assert made.run()[0] == "1.1"
        assert len(made.environments()) == 2
    finally:
        remaining.communicate(b"\n", timeout=60)


def test_an_environment_that_nothing_runs_in_goes_when_the_next_is_made(made: Clone) -> None:
    made.require("1.1")
    assert made.run()[0] == "1.1"
    assert made.environments() == [made.link.resolve()]


@pytest.mark.incident("on ARM64 no task could run: a tool of the gate had no wheel there")
def test_a_task_needs_nothing_of_the_gates(made: Clone) -> None:
    made.require("broken", "requirements-gate.txt")
    made.require("1.1")
    assert made.run()[0] == "1.1"
    ended = subprocess.run(
        [str(made.directory / "nox")], env=made.environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    assert "pip could not install requirements-gate.txt" in ended.stderr
    assert made.run() == ("1.1", "")


def test_noxs_environment_takes_the_place_of_the_tasks_own_and_they_run_in_it(made: Clone) -> None:
    made.require("gate", "requirements-gate.txt")
    output, progress = made.run("nox")
    assert output == "gate"
    assert "making .venv from requirements-gate.txt" in progress
    assert made.environments() == [made.link.resolve()]
    assert made.run() == ("gate", "")
    assert made.run("nox") == ("gate", "")


def test_a_task_makes_its_own_environment_where_noxs_is_out_of_date(made: Clone) -> None:
    made.require("gate", "requirements-gate.txt")
    made.run("nox")
    made.require("newer", "requirements-gate.txt")
    assert made.run()[0] == "1.0"
    assert made.run("nox")[0] == "newer"


def test_an_environment_that_can_not_be_made_leaves_the_one_before_in_its_place(made: Clone) -> None:
    before = made.link.resolve()
    made.require("broken")
    command = [str(made.directory / "inv")]
    ended = subprocess.run(command, env=made.environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert "pip could not install" in ended.stderr
    assert made.link.resolve() == before
    made.require("1.0")
    assert made.run() == ("1.0", "")


def test_an_environment_whose_interpreter_is_gone_is_made_anew(made: Clone) -> None:
    (made.link / "bin/python").unlink()
    assert "making .venv" in made.run()[1]


def test_an_environment_as_they_were_made_before_is_replaced_when_nothing_runs_in_it(made: Clone) -> None:
    made.link.unlink()
    (made.link / "bin").mkdir(parents=True)
    (made.link / "stamp").write_text("as before\n")
    remaining = subprocess.Popen(["/bin/sh", "-c", "read -r line", f"{made.link}/bin/python"], stdin=subprocess.PIPE)
    try:
        assert made.run() == ("1.0", "")
        assert not made.link.is_symlink()
    finally:
        remaining.communicate(b"\n", timeout=60)
    assert made.run() == ("1.0", "")
    assert made.link.is_symlink()


def test_an_environment_that_a_checkout_links_to_is_used_and_left_alone(made: Clone) -> None:
    checkout = made.directory / "checkout"
    checkout.mkdir()
    for name in ("inv", "requirements.txt", "requirements-gate.txt"):
        shutil.copy2(made.directory / name, checkout / name)
    (checkout / ".venv").symlink_to(made.link)
    made.directory = checkout
    assert made.run() == ("1.0", "")
    assert (checkout / ".venv").is_symlink()
    assert not (checkout / ".venvs").exists()


@pytest.mark.incident("a clone that was renamed could run neither ./inv nor ./nox: 'required file not found', exit 127")
def test_a_clone_that_was_moved_makes_an_environment_of_its_own(tmp_path: Path, made: Clone) -> None:
    # Elsewhere, not by a link: the programs of an environment name their interpreter by its whole path.
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    output, progress = Clone(moved).run()
    assert output == "1.0"
    assert "making .venv" in progress
    assert len(Clone(moved).environments()) == 1
    assert Clone(moved).run() == ("1.0", "")


@pytest.mark.incident("a copied clone ran in the first one's environment, and broke when that was taken away")
def test_a_clone_that_was_copied_makes_an_environment_of_its_own(tmp_path: Path, made: Clone) -> None:
    copied = tmp_path.with_name(f"{tmp_path.name}-copied")
    shutil.copytree(tmp_path, copied, symlinks=True)
    assert "making .venv" in Clone(copied).run()[1]
    assert made.run() == ("1.0", "")
    shutil.rmtree(made.directory / ".venvs")
    assert Clone(copied).run() == ("1.0", "")
