"""Where the secrets of a running machine are, and where they must not be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.machines.image import ENVIRONMENT, ImageLab, files_with

PROCESSES = """
import json, pathlib
found = []
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        unit = (entry / "cgroup").read_text().strip().rpartition("/")[2]
        parts = {name: (entry / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")}
    except OSError:
        continue  # it ended in between
    found.append({"unit": unit, **parts})
print(json.dumps(found))
"""
# Where a secret may be, by its parameter: on tmpfs, in the file of the unit that needs it.
PLACES = {
    "redis-password": {"/run/zmanim/secrets/api.env"},
    "jwt-secret": {"/run/zmanim/secrets/api.env"},
    "restic-password": {"/run/zmanim/secrets/backup/restic-password"},
}


@pytest.fixture(scope="module")
def seeded(images: ImageLab) -> dict[str, str]:
    found = {name.rpartition("/")[2]: value for name, value in images.secrets().items()}
    assert set(found) == set(PLACES)
    return found


@pytest.mark.incident("a boot script printed secrets into logs that were shipped to CloudWatch")
def test_no_secret_is_in_the_journal_or_on_the_console(images: ImageLab, served: str, seeded: dict[str, str]) -> None:
    journal = images.enter(served, ["journalctl", "--no-pager", "--all", "--output=export"])
    # That it was the journal of this boot, and that it tells which parameters there were: their names are no secret.
    assert f"parameters below /zmanim/{ENVIRONMENT}/: jwt-secret, redis-password, restic-password" in journal
    console = images.console(served)
    assert "zmanim-ready" in console
    assert [name for name, value in seeded.items() if value in journal or value in console] == []


def test_a_secret_is_in_the_environment_of_the_unit_that_reads_it_and_in_no_command_line(
    images: ImageLab, served: str, seeded: dict[str, str]
) -> None:
    processes: list[dict[str, Any]] = json.loads(images.enter(served, ["python3", "-"], PROCESSES))
    having = {name: {each["unit"] for each in processes if value in each["environ"]} for name, value in seeded.items()}
    # The API reads its environment only; that it is found there shows that this test would find it elsewhere.
    api = {"zmanim-api.service"}
    assert having == {"redis-password": api, "jwt-secret": api, "restic-password": set()}
    assert [each["cmdline"] for each in processes if any(value in each["cmdline"] for value in seeded.values())] == []


def test_a_secret_is_in_one_file_on_tmpfs_and_only_root_reads_it(
    images: ImageLab, served: str, seeded: dict[str, str]
) -> None:
    search = ["grep", "--recursive", "--devices=skip", "--fixed-strings", "--files-with-matches", "--file=-"]
    for name, value in seeded.items():
        where = set(images.enter(served, [*search, "/run", "/data", "/etc", "/tmp"], value).split())
        assert where == PLACES[name]
        for place in where:
            said = images.run(served, f"stat --format='%a %U' {place}; findmnt --noheadings -o FSTYPE --target {place}")
            assert said.split() == ["400", "root", "tmpfs"]
    assert images.run(served, "stat --format='%a %U' /run/zmanim/secrets") == "700 root"
    # Everything that the machine wrote to its root disk, read from outside.
    assert images.root_disk(served).is_dir()
    assert list(files_with(images.root_disk(served), [value.encode() for value in seeded.values()])) == []
