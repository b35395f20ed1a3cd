"""What Go's vulnerability database knows of the API, and that a database nobody could ask is never a clean one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.errors import Error, HostLacks
from tests.support.images.govulncheck import answer, entry
from tests.support.images.inventories import API, inventory
from zmanim_ami.pipeline.advisories import findings, golang
from zmanim_ami.pipeline.advisories.golang import UNREACHABLE

PGX = "github.com/jackc/pgx/v5"
FOUND = findings.Findings(
    (findings.Open("ALAS-1", "low", ("openssl 1 < 2",)),),
    ("redis (rpm)", "restic (2 Go modules)", "zmanim-api (2 Go modules)"),
)


def look(*entries: dict[str, Any], content: dict[str, Any] | None = None) -> findings.Findings:
    return golang.add(FOUND, content or inventory(), "zmanim-api", lambda _: answer(*entries))


def api(**changes: Any) -> dict[str, Any]:
    """An inventory whose API was built otherwise."""
    programs = inventory()["go"]
    return inventory(go={**programs, API: {**programs[API], **changes}})


def open_now(*entries: dict[str, Any], content: dict[str, Any] | None = None) -> list[str]:
    return [text for each in look(*entries, content=content).open if each.id != "ALAS-1" for text in each.packages]


def test_the_api_is_covered_and_what_is_open_for_it_is_named_with_the_version_that_mends_it() -> None:
    found = look(entry("GO-2", PGX, "5.9.0"), entry("GO-1", "stdlib", "1.26.9"))
    assert [(each.id, each.severity) for each in found.open] == [
        ("ALAS-1", "low"),
        ("GO-1", "unknown"),
        ("GO-2", "unknown"),
    ]
    assert found.open[1].packages == ("stdlib go1.26.8 < go1.26.9",)
    assert found.open[2].packages == (f"{PGX} v5.8.0 < v5.9.0",)
    assert found.not_covered == ("redis (rpm)", "restic (2 Go modules)")


def test_every_module_of_the_api_and_go_s_library_are_asked_about_and_nothing_of_restic() -> None:
    asked = list[str]()

    def ask(modules: Sequence[str]) -> str:
        asked.extend(modules)
        return answer()

    found = golang.add(FOUND, api(go="go1.26.8 X:nodwarf5"), "zmanim-api", ask)
    assert asked == [f"{PGX}@v5.8.0", "golang.org/x/sync@v0.17.0", "stdlib@go1.26.8"]
    assert found.open == FOUND.open


@pytest.mark.parametrize(
    "known",
    [
        entry("GO-1", PGX, "5.8.0"),
        entry("GO-1", PGX, "5.10.1", introduced="5.9.0"),
        entry("GO-1", "golang.org/x/net", "99.0.0"),
        entry("GO-1", "stdlib", "1.27.1", introduced="1.27.0-0"),
    ],
)
def test_what_is_mended_came_later_or_is_no_module_of_ours_is_not_open(known: dict[str, Any]) -> None:
    assert open_now(known) == []


def test_a_vulnerability_that_nothing_mends_is_open_and_so_is_the_first_version_that_has_one() -> None:
    assert open_now(entry("GO-1", PGX)) == [f"{PGX} v5.8.0 (no fixed version)"]
    known = entry("GO-1", "stdlib", "1.26.1", introduced="1.26.0-0")
    assert open_now(known, content=api(go="go1.26.0")) == ["stdlib go1.26.0 < go1.26.1"]


@pytest.mark.incident("a database that nobody could ask counted as one that knows nothing")
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys; sys.exit('Get \"https://vuln.go.dev/index/modules.json.gz\": no such host')", UNREACHABLE),
        ("print('')", "govulncheck's answer can't be read"),
        ("print('<html>')", "govulncheck's answer can't be read"),
        ('print(\'{"config": {}} {"osv": {"id": "GO-1"}}\')', "govulncheck's answer can't be read"),
        ('print(\'{"config": {}} {"os\')', "govulncheck's answer can't be read"),
    ],
)
def test_where_nobody_can_tell_the_api_is_not_covered_and_never_clean(tmp_path: Path, script: str, why: str) -> None:
    program = tmp_path / "govulncheck"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    found = golang.add(FOUND, inventory(), "zmanim-api", golang.govulncheck(lambda: program))
    assert found.open == FOUND.open
    assert found.not_covered == ("redis (rpm)", "restic (2 Go modules)", f"zmanim-api ({why})")


def test_a_host_without_govulncheck_and_a_module_without_a_version_leave_the_api_uncovered() -> None:
    def program() -> Path:
        raise HostLacks("no Go", code="no-go")

    ask = golang.govulncheck(program)
    assert golang.add(FOUND, inventory(), "zmanim-api", ask).not_covered[-1] == "zmanim-api (govulncheck can't be had)"
    modules = {"zmanim/replaced": "(devel)"}
    assert look(content=api(modules=modules)).not_covered[-1].startswith("zmanim-api (a module without a version")


def test_another_fault_is_no_answer_of_the_database_s() -> None:
    def ask(modules: Sequence[str]) -> str:
        raise Error("something else", code="other")

    with pytest.raises(Error, match="something else"):
        golang.add(FOUND, inventory(), "zmanim-api", ask)


def test_govulncheck_is_given_no_key_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    program = tmp_path / "govulncheck"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([dict(os.environ), sys.argv]))\n")
    program.chmod(0o755)
    said = golang.govulncheck(lambda: program, "file:///db")(["a@v1.0.0"])
    assert "proxy.example" in said
    assert "s3cret" not in said
    assert "HOME" not in said
    assert '"-mode=query", "-json", "-db=file:///db", "a@v1.0.0"' in said


def test_an_image_without_the_api_has_nothing_to_ask_about() -> None:
    assert look(content=inventory(go={})) == FOUND
