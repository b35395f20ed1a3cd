"""What `cloud.env` prints serves the tasks, and a person who starts Packer by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localcloud.settings import Cloud
from tests.support import ROOT
from tests.support.shell import evaluated
from zmanim_ami.commands.host import BY_HAND
from zmanim_ami.gate.image.packer import declared
from zmanim_ami.pipeline import settings
from zmanim_ami.rehearsal.cloud import environment, exports_of

CLOUD = Cloud(name="default", region="eu-west-1", directory=Path("/var/lib/localcloud/default"), index=7)


def test_a_shell_that_evaluates_cloud_env_has_the_environment_that_a_rehearsal_gives_its_tasks(tmp_path: Path) -> None:
    versions_file = tmp_path / "with space and 'quote'" / "versions.json"
    base = {"PATH": os.environ["PATH"], "AWS_PROFILE": "production"}
    assert evaluated(exports_of(CLOUD, versions_file, base), base) == (0, environment(CLOUD, versions_file, base))


def test_packer_by_hand_reads_the_rehearsed_versions(tmp_path: Path) -> None:
    """The incident: `packer build .` after cloud.env wanted artifacts from sites that no machine there reaches."""
    changed = environment(CLOUD, tmp_path / "versions.json", {})
    assert changed["PKR_VAR_versions_file"] == changed["ZMANIM_VERSIONS_FILE"] == str(tmp_path / "versions.json")


def test_who_may_reach_a_builder_is_asked_of_the_cloud_and_told_to_packer_by_hand(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    changed = environment(CLOUD, tmp_path / "versions.json", {"ZMANIM_SSH_SOURCE": "https://elsewhere.example"})
    assert settings.load(tmp_path, changed).ssh_source == f"{CLOUD.endpoint}/.checkip"
    assert changed["PKR_VAR_ssh_source_cidr"] == "10.212.7.1/32"


def test_cloud_up_builds_the_bundle_that_packer_by_hand_wants() -> None:
    defaults = {name: block["default"] for name, block in declared(ROOT).items() if "default" in block}
    assert defaults["version"] == str(BY_HAND)
    assert defaults["bundle_dir"] == f"../../build/bundle/{BY_HAND}"


@pytest.mark.incident("a rehearsal's tasks went to the region that was chosen for AWS, past their cloud's bucket")
def test_the_tasks_work_in_the_cloud_s_region_whatever_was_chosen_for_aws(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.zmanim]\nregion = 'eu-central-1'\n")
    changed = environment(CLOUD, tmp_path / "versions.json", {"ZMANIM_REGION": "eu-north-1"})
    assert settings.load(tmp_path, changed).region == changed["PKR_VAR_region"] == CLOUD.region
