"""Each secret exists only where it is needed."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from zmanim_host.secrets.secret_files import files, put

VALUES = {
    "redis-password": "redis/secret:1",
    "jwt-secret": "jwt secret 2",
    "restic-password": "restic secret 3",
    "clerk-secret-key": "clerk secret 4",
    "ami-id": "ami-0123456789abcdef0",
    "postgres-password": "unused secret 5",
}


def test_every_file_holds_only_what_its_one_reader_needs() -> None:
    made = files(VALUES, backup="backup-local", ready="ready-local")
    assert "jwt secret 2" in made["api.env"]
    assert "clerk secret 4" in made["api.env"]
    assert made["backup/restic-password"] == "restic secret 3"
    for secret, place in {"jwt secret 2": "api.env", "clerk secret 4": "api.env", "restic secret 3": "backup/"}.items():
        assert all(name.startswith(place) for name, content in made.items() if secret in content)
    assert not any("unused secret 5" in content for content in made.values())
    assert not any("redis/secret:1" in content for content in made.values()), "only encoded, and only as a hash"


def test_redis_lets_nobody_in_without_a_password() -> None:
    acl = files(VALUES, backup="b", ready="r")["redis.acl"].splitlines()
    assert acl[0] == "user default off"
    assert all(re.fullmatch(r"user \S+ on #[0-9a-f]{64} .*", line) for line in acl[1:])


def test_the_api_may_do_nothing_with_the_redis_server_itself() -> None:
    line = next(line for line in files(VALUES, backup="b", ready="r")["redis.acl"].splitlines() if " zmanim " in line)
    assert line.endswith("+@all -@admin -@dangerous")


@pytest.mark.incident("restic fell back to the password 'changeme'")
def test_a_missing_restic_password_gives_no_password_at_all() -> None:
    values = {name: value for name, value in VALUES.items() if name != "restic-password"}
    assert "backup/restic-password" not in files(values, backup="b", ready="r")
    assert "backup/restic-password" not in files({**values, "restic-password": ""}, backup="b", ready="r")


def test_secrets_are_readable_by_root_alone_and_old_ones_go(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    put(directory, files(VALUES, backup="b", ready="r"))
    put(directory, files({**VALUES, "restic-password": ""}, backup="b2", ready="r"))
    assert not (directory / "backup/restic-password").exists()
    assert (directory / "backup/redis-password").read_text() == "b2"
    for path in [directory, *directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o400), path
