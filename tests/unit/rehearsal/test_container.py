"""A base is made in a container of the pinned release, and nothing of that stays, whatever happens.

docker is a program that stands in for it: it answers as docker does, and says how it was called.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from invoke.program import Program

import tasks
from tests.support import ROOT
from tests.support.errors import raises
from tests.support.programs import arguments, on_path
from zmanim_ami.rehearsal import container
from zmanim_ami.rehearsal.base import NEEDED
from zmanim_ami.rehearsal.container import REPOSITORY

RELEASE = "2023.12.20260930"
# Knows the second image of the release; `run` and `export` end as the files of that name say.
DOCKER = r"""
case $1 in
  pull)
    case $3 in
      *.20260930.1 | own:image) echo "$3" ;;
      *) echo "Error response from daemon: manifest for $3 not found: manifest unknown" >&2; exit 1 ;;
    esac ;;
  run)
    touch "${HERE}/container-$3"
    if [ -e "${HERE}/slow" ]; then touch "${HERE}/running"; sleep 30; fi
    if [ -e "${HERE}/run-fails" ]; then echo "Error: Unable to find a match: cloud-init" >&2; exit 1; fi ;;
  export)
    printf 'a root file' >"$3"
    if [ -e "${HERE}/export-fails" ]; then echo "no space left on device" >&2; exit 1; fi
    printf ' system' >>"$3" ;;
  image) echo '["public.ecr.aws/amazonlinux/amazonlinux@sha256:abc"]' ;;
  rm)
    if [ ! -e "${HERE}/container-$4" ]; then echo "Error: No such container: $4" >&2; exit 1; fi
    rm "${HERE}/container-$4" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "infrastructure/packer").mkdir(parents=True)
    (tmp_path / "infrastructure/packer/versions.json").write_text(json.dumps({"base": {"release": RELEASE}}))
    return on_path(tmp_path, monkeypatch, {"docker": DOCKER})


def remaining(docker: Path) -> list[str]:
    """What stays of a run: containers, and files in the folder of the result."""
    made = docker / "out"
    return sorted(path.name for path in [*docker.glob("container-*"), *(made.iterdir() if made.exists() else [])])


@pytest.mark.parametrize("name", ["base.tar", "base.tar.gz"])
def test_the_base_is_made_of_the_pinned_release_with_all_that_a_rehearsal_asks_for(docker: Path, name: str) -> None:
    file = docker / "out" / name
    made = container.make(docker, file)
    content = gzip.decompress(file.read_bytes()) if name.endswith("gz") else file.read_bytes()
    assert content == b"a root file system"
    assert made.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (made.image, made.digest, made.release) == (f"{REPOSITORY}:{RELEASE}.1", "sha256:abc", RELEASE)
    assert remaining(docker) == [name]
    (run,) = [call for call in arguments(docker, "docker") if call[0] == "run"]
    *_, release, packages, paths = run
    assert release == RELEASE
    assert set(packages.split()) == set(NEEDED.values())
    assert paths.split() == list(NEEDED)
    assert run[3] == made.image


def test_the_images_of_a_release_are_tried_by_their_number_and_one_that_is_given_is_taken(docker: Path) -> None:
    container.make(docker, docker / "out/base.tar")
    container.make(docker, docker / "out/base.tar", "own:image")
    pulled = [call[2] for call in arguments(docker, "docker") if call[0] == "pull"]
    assert pulled == [f"{REPOSITORY}:{RELEASE}.0", f"{REPOSITORY}:{RELEASE}.1", "own:image"]


def test_a_release_that_has_no_image_is_told_and_any_other_failure_is_not_taken_for_that(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (docker / "infrastructure/packer/versions.json").write_text(json.dumps({"base": {"release": "2023.1.20230101"}}))
    with raises("no-such-release", match="of release 2023"):
        container.make(docker, docker / "out/base.tar")
    with raises("docker-failed", match="not found"):
        container.make(docker, docker / "out/base.tar", "not:there")
    broken = "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock' >&2; exit 1"
    on_path(docker / "broken", monkeypatch, {"docker": broken})
    with raises("docker-failed", match="Cannot connect"):
        container.make(docker, docker / "out/base.tar")


@pytest.mark.parametrize(("fails", "words"), [("run-fails", "Unable to find a match"), ("export-fails", "no space")])
def test_a_failure_is_told_in_dockers_words_and_leaves_neither_container_nor_file(
    docker: Path, fails: str, words: str
) -> None:
    (docker / fails).touch()
    with raises("docker-failed", match=words):
        container.make(docker, docker / "out/base.tar.gz")
    assert remaining(docker) == []


def test_a_package_that_the_release_lacks_is_named_with_where_its_name_stands(docker: Path) -> None:
    (docker / "run-fails").touch()
    with raises("docker-failed") as error:
        container.make(docker, docker / "out/base.tar.gz")
    assert "has no cloud-init: correct its name in zmanim_ami/rehearsal/base.py" in error.value.fix


def test_a_base_that_is_there_stays_when_a_new_one_fails(docker: Path) -> None:
    (docker / "out").mkdir()
    (docker / "out/base.tar").write_text("the last one")
    (docker / "export-fails").touch()
    with raises("docker-failed"):
        container.make(docker, docker / "out/base.tar")
    assert (docker / "out/base.tar").read_text() == "the last one"


def test_an_interrupted_run_removes_its_container(docker: Path) -> None:
    (docker / "slow").touch()
    script = f"""
    from pathlib import Path
    from zmanim_ami.rehearsal import container
    from support.process import interrupt_on_termination
    interrupt_on_termination()
    container.make(Path({str(docker)!r}), Path({str(docker / "out/base.tar")!r}))
    """
    root = ROOT
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with child:
        deadline = time.monotonic() + 30
        while not (docker / "running").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [name for name in remaining(docker) if name.startswith("container-")]
        child.send_signal(signal.SIGINT)
        assert child.wait(30) != 0
    assert remaining(docker) == []


def test_a_host_without_docker_hears_what_to_do(
    docker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(docker / "nothing"))
    with raises("docker-missing") as caught:
        container.make(docker, docker / "out/base.tar")
    assert "docker.io" in caught.value.fix
    assert caught.value.exit_code == 3


def test_a_file_that_is_no_archive_by_its_name_is_refused_before_docker_is_asked(docker: Path) -> None:
    with raises("no-file"):
        container.make(docker, docker / "out/base.zip")
    assert arguments(docker, "docker") == []


def test_the_script_refuses_an_image_of_another_release_and_a_package_that_brought_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path, monkeypatch, {"rpm": f"printf {RELEASE}", "dnf": "exit 0"})

    def run(release: str, path: str) -> subprocess.CompletedProcess[str]:
        # Without its last lines, which clean the container's own file system up.
        script = container._SCRIPT.partition("dnf --quiet clean")[0]
        return subprocess.run(
            ["bash", "-euc", script, "bash", release, "systemd sudo", path], capture_output=True, text=True, check=False
        )

    assert run(RELEASE, "bin/sh etc").returncode == 0
    (install,) = arguments(tmp_path, "dnf")
    assert install[-3:] == ["install", "systemd", "sudo"]
    assert f"--releasever={RELEASE}" in install
    other = run("2023.1.20230101", "bin/sh")
    assert other.returncode == 1
    assert f"of release {RELEASE}, not of 2023.1.20230101" in other.stderr
    missing = run(RELEASE, "bin/sh no/such/file")
    assert missing.returncode == 1
    assert "no /no/such/file" in missing.stderr


def test_the_task_prints_what_it_made(
    docker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(root: Path, file: Path, image: str) -> container.BaseFile:
        return container.BaseFile(str(file), "s", image or "i", "d", RELEASE)

    monkeypatch.setattr(container, "make", make)
    Program(namespace=tasks.namespace).run(["inv", "base-image", "--file", "b.tar.gz", "--json"], exit=False)
    assert json.loads(capsys.readouterr().out)["file"] == "b.tar.gz"
