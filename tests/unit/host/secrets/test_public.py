"""What an account tells its machines that is no secret."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from zmanim_host.secrets import public
from zmanim_host.secrets.public import PUBLIC, content

FILES = ROOT / "infrastructure" / "packer" / "files"
VALUES = {"backups-bucket": "b-1", "releases-bucket": "r-1", "mail-from": "a@example.org", "mail-to": "b+c@example.org"}


def test_what_is_told_is_read_alike_by_systemd_and_by_a_shell(tmp_path: Path) -> None:
    text = content({**VALUES, "jwt-secret": "never"})
    assert text == "BACKUPS_BUCKET=b-1\nRELEASES_BUCKET=r-1\nMAIL_FROM=a@example.org\nMAIL_TO=b+c@example.org\n"
    (tmp_path / "account").write_text(text)
    script = f'set -eu; . {tmp_path / "account"}; echo "$BACKUPS_BUCKET $RELEASES_BUCKET $MAIL_FROM $MAIL_TO"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(VALUES.values())


@pytest.mark.parametrize("value", ["", "$(id)", "a b", "x;id", "a\nBACKUPS_BUCKET=other", "../up", "`id`", "x" * 64])
@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_none_gives_no_variable_and_is_told(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    # restore.sh reads the file as root.
    lines = content({**VALUES, name: value}).splitlines()
    assert len(lines) == len(PUBLIC) - 1
    assert all(re.fullmatch(r"[A-Z_]+=[A-Za-z0-9@.+-]+", line) for line in lines)
    assert f"the parameter {name} is" in capsys.readouterr().err


def test_it_is_written_for_everybody_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "FILE", tmp_path / "account")
    public.write(VALUES)
    assert (tmp_path / "account").stat().st_mode & 0o777 == 0o644


def test_every_unit_that_uses_a_variable_of_it_is_given_the_file() -> None:
    given = {
        path.name for path in FILES.glob("*.service") if "EnvironmentFile=-/run/zmanim/account" in path.read_text()
    }
    backups = {"restic-backup.service", "backup-drill.service", "backup-proof.service"}
    mail = {"backup-notify@.service", "backup-notify-retry.service"}
    assert given == backups | mail | {"zmanim-release-fetch.service"}
    assert "source /run/zmanim/account" in (FILES / "restore.sh").read_text()


def test_no_file_that_ships_names_a_bucket_or_an_address() -> None:
    """An image works in another account and in another region."""
    for path in FILES.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text("utf-8")
            assert not re.search(r"zmanim-(backups|releases)-|[a-z]@[a-z-]+\.[a-z]{2,}\b", text), path


def test_the_page_names_each() -> None:
    page = (ROOT / "docs" / "secrets.md").read_text()
    assert all(f"`{name}`" in page for name in PUBLIC)
