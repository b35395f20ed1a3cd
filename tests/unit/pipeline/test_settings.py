from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.pipeline.settings import Settings, explain, help_for, load


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("")
    return tmp_path


def table(root: Path, text: str) -> None:
    (root / "pyproject.toml").write_text(f"[tool.zmanim]\n{text}\n")


def test_without_any_choice_the_defaults_hold_and_say_so(root: Path) -> None:
    assert load(root, {}) == Settings()
    assert {row.origin for row in explain(root, {})} == {"default"}


def test_the_flag_wins_over_the_environment_and_that_over_the_file(root: Path) -> None:
    table(root, 'region = "eu-central-1"')
    environ = {"ZMANIM_REGION": "eu-north-1", "HOME": "/root"}
    assert load(root, {}).region == "eu-central-1"
    assert load(root, environ).region == "eu-north-1"
    assert load(root, environ, {"region": "us-east-1"}).region == "us-east-1"


def test_each_value_says_where_it_was_chosen(root: Path) -> None:
    table(root, 'subnet_id = "subnet-0a1b2c3d"')
    rows = explain(root, {"ZMANIM_BOOT_TIMEOUT": "90"}, {"instance_type": "t4g.medium"})
    origins = {row.name: row.origin for row in rows if row.origin != "default"}
    assert origins == {
        "subnet_id": "[tool.zmanim] in pyproject.toml",
        "boot_timeout": "ZMANIM_BOOT_TIMEOUT",
        "instance_type": "--instance-type",
    }


@pytest.mark.parametrize("empty", ["", None, [], ()])
def test_an_empty_flag_or_variable_counts_as_not_given(root: Path, empty: object) -> None:
    table(root, 'region = "eu-central-1"')
    assert load(root, {"ZMANIM_REGION": ""}, {"region": empty}).region == "eu-central-1"


def test_postgresql_comes_by_one_of_two_routes(root: Path) -> None:
    assert load(root, {"ZMANIM_POSTGRESQL_REPO": "pgdg"}).postgresql_repo == "pgdg"
    with raises("setting-invalid") as caught:
        load(root, {"ZMANIM_POSTGRESQL_REPO": "pgdg17"})
    assert "amazonlinux or pgdg" in caught.value.expected


@pytest.mark.parametrize("repository", ["o/r", "o-1/r.2_x", "o@123456/r@456789"])
def test_a_repository_s_subject_has_its_names_or_its_names_with_their_ids(root: Path, repository: str) -> None:
    subject = f"repo:{repository}:environment:{{environment}}"
    assert load(root, {"ZMANIM_GITHUB_SUBJECT": subject}).github_subject == subject


def test_lists_are_toml_lists_or_comma_separated(root: Path) -> None:
    table(root, 'ami_users = ["111111111111"]')
    assert load(root, {}).ami_users == ("111111111111",)
    assert load(root, {"ZMANIM_AMI_USERS": "111111111111, 222222222222"}).ami_users == ("111111111111", "222222222222")


def test_truths_are_toml_booleans_or_words(root: Path) -> None:
    table(root, "root_encrypted = false")
    assert load(root, {}).root_encrypted is False
    assert load(root, {"ZMANIM_ROOT_ENCRYPTED": "true"}).root_encrypted is True


@pytest.mark.parametrize(
    ("text", "environ", "flags", "found"),
    [
        ("regoin = 'eu-west-1'", {}, {}, "regoin in [tool.zmanim] in pyproject.toml"),
        ("", {"ZMANIM_REGOIN": "eu-west-1"}, {}, "ZMANIM_REGOIN in the environment"),
        ("", {}, {"regoin": "eu-west-1"}, "--regoin in the command line"),
    ],
)
def test_an_unknown_setting_is_refused_by_its_name_wherever_it_stands(
    root: Path, text: str, environ: dict[str, str], flags: dict[str, object], found: str
) -> None:
    table(root, text)
    with raises("setting-unknown") as error:
        load(root, environ, flags)
    assert error.value.found == found
    assert error.value.fix == "did you mean region?"
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        "region = 1",
        'region = "nowhere"',
        'region = ""',
        'boot_timeout = "soon"',
        "boot_timeout = 0",
        "boot_timeout = 1.5",
        "boot_timeout = true",
        "deprecate_days = -1",
        "data_volume_gib = 99999999999",
        'ami_users = ["me"]',
        "ami_users = [1]",
        "ami_users = 1",
        'root_encrypted = "yes"',
        "root_encrypted = 1",
        'source_ami_id = "ami-XYZ"',
        'instance_type = "t3.small"',  # no ARM64
        'parameter_prefix = "zmanim/prod"',
        'parameter_prefix = "/zmanim/prod/"',
        'parameter_prefix = ""',
        'api_dir = " "',
        # A repository's name carries both ids or none, and a role is for one repository.
        'github_subject = "repo:o@1/r:environment:{environment}"',
        'github_subject = "repo:o/*:environment:{environment}"',
        'github_subject = "repo:o/r"',
    ],
)
def test_an_ill_typed_value_is_refused_and_names_its_key_and_origin(root: Path, text: str) -> None:
    table(root, text)
    with raises("setting-invalid") as error:
        load(root, {})
    assert text.partition(" ")[0] in error.value.summary
    assert "[tool.zmanim] in pyproject.toml" in error.value.found


def test_a_file_that_is_no_toml_is_a_message_and_no_traceback(root: Path) -> None:
    (root / "pyproject.toml").write_text("[tool")
    with raises("setting-invalid"):
        load(root, {})


def test_every_setting_explains_itself() -> None:
    for item in fields(Settings):
        assert len(help_for(item.name)) > 10, item.name


def test_the_projects_own_settings_load() -> None:
    assert load(ROOT, {}).region
