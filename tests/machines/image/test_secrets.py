"""Where the secrets of a running machine are, and where they must not be."""

from __future__ import annotations

import json
import random
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.machines.image import ImageLab, files_with
from zmanim_host.host import HostError
from zmanim_host.secrets.escaping import environment_line
from zmanim_host.secrets.parameters import BACKUP, PARAMETERS
from zmanim_host.secrets.public import PUBLIC
from zmanim_host.systemd import API

ENVIRONMENT = "searched"
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
API_FILE = "/run/zmanim/secrets/api.env"
BACKUP_FILE = "/run/zmanim/secrets/backup/restic-password"
# Where a secret may be, by its parameter: on tmpfs, in the file of the unit that needs it. Redis gets a hash.
PLACES = {
    known.name: {API_FILE if unit == API else BACKUP_FILE for unit in known.units if unit in (API, BACKUP)}
    for known in PARAMETERS
}


@dataclass(frozen=True)
class Searched:
    """A machine that was given every parameter there is, each with a value that is found nowhere else."""

    machine: str
    values: dict[str, str]


@pytest.fixture(scope="module")
def searched(images: ImageLab) -> Iterator[Searched]:
    values = {known.name: secrets.token_urlsafe(24) for known in PARAMETERS}
    # What the API would not start with.
    values["rate-limit-requests"] = str(secrets.randbelow(10**9) + 10**9)
    values["rate-limit-duration"] = f"{secrets.randbelow(10**15) + 10**15}ns"
    images.prepare(ENVIRONMENT)
    for name, value in values.items():
        images.ssm.put_parameter(Name=f"/zmanim/{ENVIRONMENT}/{name}", Value=value, Type="SecureString", Overwrite=True)
    machine = images.serve(ENVIRONMENT)
    yield Searched(machine, values)
    images.terminate(machine)


def leaks(values: dict[str, str], text: str) -> list[str]:
    """Name the parameters whose values are in a text."""
    return [name for name, value in values.items() if value in text]


@pytest.mark.fault(
    43,
    injected="every character below 128 and many above, alone and mixed",
    must="systemd gives each value back as it was",
)
def test_systemd_gives_every_value_back_and_takes_none_that_is_refused(images: ImageLab, searched: Searched) -> None:
    characters = [chr(code) for code in range(1, 0x80) if chr(code) != "\r"] + list("\x80é\u00a0\u2028א😀")
    values = ["", " ", "\n", *characters, *(f"\\{one}" for one in characters), *(f"a{one}{one}" for one in characters)]
    chosen = random.Random(20260901)
    values += ["".join(chosen.choices(characters, k=40)) for _ in range(200)]
    given = {f"V{number}": value for number, value in enumerate(values)}
    lines = "".join(environment_line(name, value) for name, value in given.items())
    write = ["sh", "-c", "umask 077; cat >/run/probe.env"]
    images.enter(searched.machine, write, lines)
    probe = ["systemd-run", "--quiet", "--pipe", "--wait", "--property=EnvironmentFile=/run/probe.env", "env", "--null"]
    output = images.enter(searched.machine, probe)
    read = dict(pair.split("=", 1) for pair in output.split("\0") if "=" in pair)
    assert {name: read.get(name) for name in given} == given
    # What environment_line refuses: systemd takes the whole file for damaged, and nothing starts with it.
    for one in "\ufdd0\ufffe":
        images.enter(searched.machine, write, f'NO="a{one}b"\n')
        with pytest.raises(subprocess.CalledProcessError):
            images.enter(searched.machine, probe)
        with pytest.raises(HostError):
            environment_line("NO", f"a{one}b")


@pytest.mark.fault(
    42,
    injected="every parameter there is, each with a value of its own",
    must="no value is in the journal or on the console",
)
@pytest.mark.incident("a boot script printed secrets into logs that were shipped to CloudWatch")
def test_no_secret_is_in_the_journal_or_on_the_console(images: ImageLab, searched: Searched) -> None:
    journal = images.enter(searched.machine, ["journalctl", "--no-pager", "--all", "--output=export"])
    # That it was the journal of this boot, and that it tells which parameters there were: their names are no secret.
    names = sorted({*searched.values, *PUBLIC})
    assert f"{len(names)} parameters below /zmanim/{ENVIRONMENT}/: {', '.join(names)}" in journal
    console = images.console(searched.machine)
    assert "zmanim-ready" in console
    assert leaks(searched.values, journal + console) == []


def test_no_secret_is_in_what_systemd_tells_of_any_unit(images: ImageLab, searched: Searched) -> None:
    for command in (
        ["systemctl", "show", "--all", "*"],
        ["systemctl", "show-environment"],
        ["systemd-analyze", "dump"],
    ):
        output = images.enter(searched.machine, command)
        assert output
        assert leaks(searched.values, output) == [], command


def test_a_secret_is_in_the_environment_of_the_unit_that_reads_it_and_in_no_command_line(
    images: ImageLab, searched: Searched
) -> None:
    processes: list[dict[str, Any]] = json.loads(images.enter(searched.machine, ["python3", "-"], PROCESSES))
    having = {
        name: {each["unit"] for each in processes if value in each["environ"]}
        for name, value in searched.values.items()
    }
    # The API reads its environment only; that it is found there shows that this test would find it elsewhere.
    assert having == {known.name: {API} & set(known.units) for known in PARAMETERS}
    assert leaks(searched.values, "\n".join(each["cmdline"] for each in processes)) == []


def test_a_secret_is_in_one_file_on_tmpfs_and_only_root_reads_it(images: ImageLab, searched: Searched) -> None:
    search = ["grep", "--recursive", "--devices=skip", "--fixed-strings", "--files-with-matches", "--file=-"]
    for name, value in searched.values.items():
        where = set(images.enter(searched.machine, [*search, "/run", "/data", "/etc", "/tmp"], value).split())
        assert where == PLACES[name], name
    for place in (API_FILE, BACKUP_FILE):
        command = f"stat --format='%a %U' {place}; findmnt --noheadings -o FSTYPE --target {place}"
        assert images.run(searched.machine, command).split() == ["400", "root", "tmpfs"]
    assert images.run(searched.machine, "stat --format='%a %U' /run/zmanim/secrets") == "700 root"


def test_no_secret_is_on_the_root_disk(images: ImageLab, searched: Searched) -> None:
    # Everything that the machine wrote there, read from outside.
    assert images.root_disk(searched.machine).is_dir()
    values = [value.encode() for value in searched.values.values()]
    assert list(files_with(images.root_disk(searched.machine), values)) == []
