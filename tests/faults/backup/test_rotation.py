"""The password of the backups is changed as docs/secrets.md says it, and the old one opens nothing afterwards."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT
from tests.support.machines.image import ImageLab

PAGE = ROOT / "docs" / "secrets.md"
NEW = "a new pass/word with 'quotes' \"and\" $more"


def documented() -> str:
    """Return the commands of the page, with a file in the place of what a person types."""
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    commands = block[1].replace("cat >/run/zmanim/new-password", "cat /run/typed >/run/zmanim/new-password")
    assert "/run/typed" in commands
    return commands


@pytest.mark.fault(
    44,
    injected="a password of the backups that is changed as the page says",
    must="backups go on, and the old one opens nothing",
)
@pytest.mark.incident("the password of the backups lived in one place")
def test_a_new_restic_password_is_taken_and_the_old_one_opens_nothing_any_more(images: ImageLab) -> None:
    images.prepare("rotating")
    name = "/zmanim/rotating/restic-password"
    old = images.secrets("rotating")[name]
    machine = images.serve("rotating")
    enter = ["bash", "-o", "errexit", "-c"]
    images.enter(machine, ["systemctl", "start", "restic-backup"])
    images.enter(machine, ["sh", "-c", "umask 077; cat >/run/typed"], NEW)
    keys = images.enter(machine, [*enter, documented()])
    [old_id] = re.findall(r"^\*([0-9a-f]+)", keys, re.MULTILINE)
    # Both open it: a backup between the two steps would have worked.
    assert len(re.findall(r"^[* ][0-9a-f]{8}", keys, re.MULTILINE)) == 2

    images.ssm.put_parameter(Name=name, Value=NEW, Type="SecureString", Overwrite=True)
    images.enter(machine, ["systemctl", "restart", "zmanim-secrets"])
    images.enter(machine, ["systemctl", "start", "restic-backup"])
    settings = documented().partition("(umask")[0]
    images.enter(machine, [*enter, f"{settings}\nrestic key remove {old_id}"])

    images.enter(machine, ["systemctl", "start", "restic-backup"])
    refuse = f"{settings}\nRESTIC_PASSWORD_FILE=/run/typed restic cat config >/dev/null || echo $?"
    images.enter(machine, ["sh", "-c", "cat >/run/typed"], old)
    assert images.enter(machine, [*enter, refuse]).strip() == "12"
    journal = images.enter(machine, ["journalctl", "--no-pager", "--all", "--output=export"])
    assert [value for value in (old, NEW) if value in journal] == []
    images.terminate(machine)
