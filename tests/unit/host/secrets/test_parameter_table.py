"""One table of parameters: what else names them agrees with it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import ROOT
from zmanim_ami.pipeline.account import requirements
from zmanim_host.secrets.parameters import API_VARIABLES, BACKUP, DRILL, PARAMETERS, PROOF, REQUIRED, Need
from zmanim_host.secrets.secret_files import api_environment, files
from zmanim_host.systemd import API, REDIS

FILES = ROOT / "infrastructure" / "packer" / "files"
VALUES = {known.name: f"value-of-{known.name}" for known in PARAMETERS}


def template_lines() -> dict[str, str]:
    lines = (FILES / "config.env.template").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


def test_the_page_has_the_table() -> None:
    rows = [
        f"| `{known.name}` | {known.need.value} | {', '.join(known.units)} |"
        f" {f'`{known.variable}`' if known.variable else HOW[known.name]} |"
        for known in PARAMETERS
    ]
    page = (ROOT / "docs" / "secrets.md").read_text()
    assert [line for line in page.splitlines() if line in rows] == rows, "docs/secrets.md needs:\n" + "\n".join(rows)
    listed = [line for line in page.splitlines() if line.startswith("| `") and ".service" in line]
    assert listed == rows, "and no other parameter"


HOW = {"redis-password": "`REDIS_URL`; a hash for Redis", "restic-password": "a file"}


def test_account_apply_makes_every_parameter_that_is_needed_and_no_other() -> None:
    assert set(requirements.SECRETS) == {known.name for known in PARAMETERS if known.need is not Need.NOTHING}


def test_the_units_of_the_table_are_those_that_take_a_file_of_secrets() -> None:
    taking = {path.name for path in FILES.glob("*.service") if "=/run/zmanim/secrets/" in taken(path)}
    assert {unit for known in PARAMETERS for unit in known.units} == taking == {API, REDIS, BACKUP, DRILL, PROOF}


def taken(unit: Path) -> str:
    """Return the unit's lines that hand something over, without the credentials' own names."""
    lines = [line for line in unit.read_text().splitlines() if line.startswith(("EnvironmentFile=", "LoadCredential="))]
    return "\n".join(re.sub(r"=[^/]*:", "=", line) for line in lines)


def test_each_unit_is_given_what_the_table_says_and_nothing_else() -> None:
    made = files(VALUES, backup="b", ready="r")
    for known in PARAMETERS:
        having = {name for name, content in made.items() if VALUES[known.name] in content}
        wanted = {API: "api.env", BACKUP: f"backup/{known.name}"}
        # Redis's own file has a hash of its password.
        assert having == {wanted[unit] for unit in known.units if unit in wanted}, known.name


def test_a_required_parameter_is_one_without_which_the_services_have_nothing_to_run_with() -> None:
    assert set(REQUIRED) == {"redis-password", "jwt-secret"}


def test_the_template_names_exactly_what_the_api_is_given() -> None:
    assert set(template_lines()) == set(api_environment(VALUES))


def test_the_template_says_from_which_parameter_each_value_comes() -> None:
    placeholders = {known.variable: f"__{known.name}__" for known in API_VARIABLES}
    lines = template_lines()
    assert {name: value for name, value in lines.items() if name in placeholders} == placeholders
    assert "__redis-password__" in lines["REDIS_URL"]


def test_the_template_says_which_are_required() -> None:
    template = (FILES / "config.env.template").read_text()
    required, optional = template.partition("# Optional")[::2]
    for parameter in PARAMETERS:
        if API in parameter.units:
            where = required if parameter.need is Need.ALL else optional
            assert f"__{parameter.name}__" in where, parameter.name
