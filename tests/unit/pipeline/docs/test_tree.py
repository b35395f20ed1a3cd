"""docs/ami-contents.md says what the tree and the extract of a built image's inventory say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import ROOT, image_tree
from tests.support.errors import raises
from zmanim_ami.pipeline.ami.provenance import PACKER_DIRECTORY
from zmanim_ami.pipeline.docs import inventory, tree
from zmanim_ami.pipeline.docs import page as contents_page


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_tree.shared_copy(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def clone(tmp_path: Path, copied: Path) -> Path:
    """A copy of the image's sources that a test may change."""
    image_tree.link(copied, tmp_path)
    (tmp_path / inventory.EXTRACT).parent.mkdir()
    shutil.copy(ROOT / inventory.EXTRACT, tmp_path / inventory.EXTRACT)
    return tmp_path


def change(clone: Path, name: str, old: str, new: str) -> None:
    path = clone / PACKER_DIRECTORY / name
    text = path.read_text()
    assert old in text
    image_tree.rewrite(path, text.replace(old, new))


def test_the_page_that_is_there_is_the_tree_s() -> None:
    written = (ROOT / tree.PAGE).read_text()
    assert written == contents_page.page(ROOT), "out of date: run ./inv write-contents and commit docs/ami-contents.md"


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("versions.json", '"7.2.16"', '"7.2.17"', "| `redis` | 7.2.17 |"),
        ("versions.json", '"minimum": "1.5"', '"minimum": "1.6"', "| `jq` | 1.6 |"),
        ("files/redis.conf", "port 6379", "port 6380", "127.0.0.1:6380"),
        ("files/postgresql.conf", "listen_addresses = ''", "listen_addresses = '*'", "| PostgreSQL | * |"),
        ("files/zmanim-sysusers.conf", "401", "411", "| `redis` | 411 |"),
        ("files/zmanim.preset", "enable chronyd.service", "enable sshd.service", "from packages: `sshd.service`"),
        ("files/redis.service", "Redis on zmanim's data volume", "A cache", "| redis | A cache |"),
        ("versions.json", '"make": {', '"cmake": {', "`cmake`"),
        ("files/install.tsv", "\t/etc/restic/backup.conf", "\t/etc/other/backup.conf", "`/etc/other/backup.conf`"),
    ],
)
def test_whatever_changes_in_the_tree_changes_the_page(
    clone: Path, name: str, old: str, new: str, expected: str
) -> None:
    assert expected not in contents_page.page(clone)
    change(clone, name, old, new)
    assert expected in contents_page.page(clone)


@pytest.mark.parametrize("line", ["file\tbackup.sh\t/opt/zmanim/backup.sh\t0755", "file\tbackup.sh\t\t\t\t"])
def test_an_install_table_that_can_t_be_read_is_not_guessed_at(clone: Path, line: str) -> None:
    change(clone, "files/install.tsv", "owner\tmode\n", f"owner\tmode\n{line}\n")
    with raises("install-table-unreadable", match="line 2"):
        contents_page.page(clone)


def test_a_unit_that_nothing_starts_is_not_passed_over(clone: Path) -> None:
    change(clone, "files/zmanim.preset", "enable zmanim-memory.service\n", "")
    with raises("contents-unreadable", match=r"nothing starts zmanim-memory\.service"):
        contents_page.page(clone)


def test_a_place_that_has_moved_is_not_told_from_memory(clone: Path) -> None:
    change(clone, "scripts/install-restic.sh", "/usr/local/bin/restic", "/usr/bin/restic")
    with raises("contents-unreadable", match="/usr/local/bin/restic"):
        contents_page.page(clone)


def test_a_service_without_an_address_is_not_told_from_memory(clone: Path) -> None:
    change(clone, "files/redis.conf", "port 6379", "")
    with raises("contents-unreadable", match="address"):
        contents_page.page(clone)


def test_writing_twice_changes_nothing_the_second_time(clone: Path) -> None:
    assert contents_page.write(clone).changed
    assert not contents_page.write(clone).changed


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.sh", "#!/usr/bin/env bash\n# Backs up. All of it.\nset -e\n", "Backs up"),
        ("a.sh", "#!/bin/sh\nset -e\n# Not a header.\n", ""),
        ("a.conf", "# Two lines, v1.2\n# of one sentence.\n#\n# And more.\n", "Two lines, v1.2 of one sentence"),
        ("a.conf", "# MAP   SYSTEM USER    ROLE\n", ""),
        ("a.sql", "-- Makes tables. Again is fine.\nCREATE TABLE t ();\n", "Makes tables"),
        ("a.py", '"""Says it.\n\nMore.\n"""\n', "Says it"),
        ("a", '#!/usr/bin/python3\n"""Runs. Fast."""\n', "Runs"),
        ("a.service", "# Why.\n[Unit]\nDescription=What it does\n", "What it does"),
    ],
)
def test_a_file_s_purpose_is_the_first_sentence_of_its_header(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (tmp_path / name).write_text(text)
    assert tree.purpose(tmp_path, Path(name)) == expected
