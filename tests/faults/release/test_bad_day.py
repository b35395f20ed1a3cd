"""A release on a bad day of AWS's ends as on any other, and says what it waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.machines.image import copy_work_tree

VERSION = "v0.8.0"
COPIES = ("us-east-2", "ap-southeast-1")
# Every setting that a person gives and a cloud does not: those that name what is there in it (region, subnet_id,
# source_ami_id, ssh_source, versions_file) are set in tests/machines/release, as is what GitHub gives (github_subject).
SETTINGS = {
    "INSTANCE_TYPE": "t4g.medium",
    "VERIFY_INSTANCE_TYPE": "c7g.medium",
    "KMS_KEY_ID": "alias/kolel-images",
    "ROOT_VOLUME_GIB": "12",
    "AMI_USERS": "210987654321",
    "AMI_REGIONS": ",".join(COPIES),
    "DEPRECATE_DAYS": "90",
    "API_DIR": "./api",
    "POSTGRESQL_REPO": "pgdg",
    "RELEASE_ENVIRONMENTS": "prod,verify",
    "DATA_VOLUME_GIB": "9",
    "PARAMETER_PREFIX": "/kolel/live",
    "BACKUPS_BUCKET": "kolel-{environment}-keeps",
    "RELEASES_BUCKET": "kolel-{environment}-ships",
    "MAIL_FROM": "machines@kolel.example",
    "MAIL_TO": "gabbai@kolel.example",
    "ALARMS_TOPIC": "kolel-{environment}-rings",
    "ALARM_PREFIX": "kolel-{environment}-",
    "RUN": "one-bad-day",
    "BOOT_TIMEOUT": "240",
}


@pytest.mark.parametrize(("seed", "settings"), [(1, {}), (2, SETTINGS)], ids=["as delivered", "every setting set"])
def test_a_rehearsal_on_a_bad_day_publishes_what_it_built_and_says_what_it_waited_for(
    tmp_path: Path, seed: int, settings: Mapping[str, str]
) -> None:
    clone = tmp_path / "clone"
    copy_work_tree(clone)
    command = [sys.executable, "-m", "invoke", "rehearse", "--version", VERSION, "--bad-day", "--seed", str(seed)]
    with (tmp_path / "stderr").open("w") as stderr:
        ended = subprocess.run(
            [*command, "--json"],
            cwd=clone,
            env={**os.environ, "CI": "true", **{f"ZMANIM_{name}": value for name, value in settings.items()}},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=False,
        )
    said = (tmp_path / "stderr").read_text()
    assert ended.returncode == 0, said
    assert "Traceback" not in said

    result = json.loads(ended.stdout)
    assert result["ok"]
    assert all(step["ok"] for step in result["steps"])
    prefix = settings.get("PARAMETER_PREFIX", "/zmanim/prod")
    assert result["published"] == {f"{prefix}/ami-id": result["ami_id"], f"{prefix}/ami-version": VERSION}
    assert result["health"]["data"]["status"] == "ok"

    # It was a bad day, of each kind, and not for our own calls alone.
    day = result["bad_day"]
    assert day["seed"] == seed
    for what in ("RequestLimitExceeded", "InsufficientInstanceCapacity", "lost answers", "NoSuchEntity"):
        assert day.get(what), day
    for what in ("zmanim-prod-instance", f"zmanim:verified on {result['ami_id']}", f"{prefix}/ami-id"):
        assert any(
            line.startswith("waiting for") and what in line and "eventual consistency" in line
            for line in said.splitlines()
        ), what
