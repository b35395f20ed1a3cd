"""install.tsv, unit files and the servers' settings are read as the image's own programs read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.errors import raises
from zmanim_ami.pipeline.shipped import install, server_settings, unit_files
from zmanim_ami.pipeline.shipped.install import Installed

HEADER = "type\tsource\tdestination\towner\tmode\n"
UNIT = """[Unit]
Description=A service
# not a setting
After=a.service \\
  b.service
After=c.service
[Service]
ReadWritePaths=/one
ReadWritePaths=
ReadWritePaths=/two
[Install]
WantedBy=zmanim.target
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A tree's files/ with a unit, a program in a folder, and what an interpreter left there."""
    files = tmp_path / install.FILES
    (files / "program/part/__pycache__").mkdir(parents=True)
    for name in ("program/main.py", "program/part/more.py", "program/part/__pycache__/more.cpython-311.pyc"):
        (files / name).touch()
    (files / "a.service").write_text(UNIT)
    (files / "drop-in.conf").write_text("[Service]\nProtectHome=yes\n")
    (files / "zmanim.preset").write_text("# Comment\nenable a.service\ndisable b.service\n")
    (files / "install.tsv").write_text(
        f"{HEADER}directory\t-\t/opt\troot:root\t0755\n"
        "file\tbuild:versions.json\t/usr/share/versions.json\troot:root\t0644\n"
        "tree\tprogram\t/opt/program\troot:root\t0644\n"
        "file\ta.service\t/etc/systemd/system/a.service\troot:root\t0644\n"
        "file\tdrop-in.conf\t/etc/systemd/system/a.service.d/drop-in.conf\troot:root\t0644\n"
    )
    return files


def test_a_tree_is_installed_file_by_file_and_what_the_build_makes_is_not_below_files(
    tmp_path: Path, files: Path
) -> None:
    assert [row.type for row in install.rows(tmp_path)] == ["directory", "file", "tree", "file", "file"]
    assert list(install.installed(tmp_path)) == [
        Installed("program/main.py", "/opt/program/main.py", "0644"),
        Installed("program/part/more.py", "/opt/program/part/more.py", "0644"),
        Installed("a.service", "/etc/systemd/system/a.service", "0644"),
        Installed("drop-in.conf", "/etc/systemd/system/a.service.d/drop-in.conf", "0644"),
    ]


@pytest.mark.parametrize("line", ["file\ta\t/a\troot:root", "file\ta\t/a\troot:root\t0644\tmore", "file\ta\t\t0644\tx"])
def test_a_line_without_five_fields_is_refused_by_its_number(tmp_path: Path, files: Path, line: str) -> None:
    (files / "install.tsv").write_text(f"{HEADER}{line}\n")
    with raises("install-table-unreadable", match="line 2"):
        install.rows(tmp_path)


def test_a_unit_has_lists_over_several_lines_and_what_an_empty_value_has_left(tmp_path: Path, files: Path) -> None:
    (unit,) = unit_files.units(tmp_path)
    assert (unit.name, unit.last("Description"), unit.has_install) == ("a.service", "A service", True)
    assert unit.words("After") == ["a.service", "b.service", "c.service"]
    assert [(each.value, each.line) for each in unit.every("ReadWritePaths")] == [("/two", 10)]
    assert (unit.line("After"), unit.line("Before"), unit.last("Before")) == (6, 1, "")
    assert unit_files.enabled_units(tmp_path) == ["a.service"]


def test_the_last_setting_wins_without_its_quotes_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("# port 1\nport 2\nport = 3 # three\nname = 'it''s # here' # so\nempty \"\"\nNAME=__value__\n")
    values = {name: each[-1].text for name, each in server_settings.effective(path).items()}
    assert values == {"port": "3", "name": "__value__", "empty": ""}
    assert [each.line for each in server_settings.effective(path)["port"]] == [2, 3]
