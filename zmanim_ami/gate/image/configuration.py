"""The servers' effective configuration (DoD 6 and 7), and the API's template.

Effective: the last setting wins, comments don't count. Read here in any case, and by PostgreSQL itself where it is
installed.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from support.errors import HostLacks
from support.process import Completed
from zmanim_ami.gate.finding import Finding, Level, ask, files, numbered
from zmanim_ami.pipeline.pins import versions
from zmanim_ami.pipeline.shipped.install import FILES
from zmanim_ami.pipeline.shipped.server_settings import effective

POSTGRESQL = FILES / "postgresql.conf"
HBA = FILES / "pg_hba.conf"
REDIS = FILES / "redis.conf"
TEMPLATE = FILES / "config.env.template"
SECRET_FILES = FILES / "zmanim_host/secrets/secret_files.py"

# What must be set, and to what: an empty pattern asks only that there is a value.
WANTED_OF_POSTGRESQL: Mapping[str, str] = {
    "shared_buffers": r"\d+(kB|MB|GB)",
    "work_mem": r"\d+(kB|MB|GB)",
    "effective_cache_size": r"\d+(kB|MB|GB)",
    "data_directory": r"/data/postgres",
    "listen_addresses": r"^$",
    "unix_socket_directories": r"/run/postgresql",
    "hba_file": r"/etc/zmanim/pg_hba\.conf",
    "include": r"/run/zmanim/postgresql\.conf",
}
WANTED_OF_REDIS: Mapping[str, str] = {
    "appendonly": r"yes",
    "maxmemory": r"1gb",
    "maxmemory-policy": r"allkeys-lru",
    "dir": r"/data/redis",
    "protected-mode": r"yes",
    "bind": r"127\.0\.0\.1",
    "aclfile": r"/run/credentials/redis\.service/redis\.acl",
    "include": r"/run/zmanim/redis\.conf",
}
_PLACEHOLDER = re.compile(r"__[a-z0-9-]+__")
_READ_BY_GO = re.compile(r'\b(?:get|or|Getenv|LookupEnv)\("([A-Z][A-Z0-9_]+)"')


def check(tree: Path) -> list[Finding]:
    """Return what is wrong with the configuration that ships."""
    return [
        *_settings(tree, POSTGRESQL, WANTED_OF_POSTGRESQL),
        *_settings(tree, REDIS, WANTED_OF_REDIS),
        *_saves(tree),
        *_hba(tree),
        *_by_postgresql(tree),
        *_template(tree),
    ]


def _settings(tree: Path, path: Path, wanted: Mapping[str, str]) -> Iterator[Finding]:
    if not (tree / path).is_file():
        yield Finding(str(path), 0, "is not there")
        return
    settings = effective(tree / path)
    for name, pattern in wanted.items():
        values = settings.get(name)
        if not values:
            yield Finding(str(path), 0, f"{name} is not set")
        elif not re.fullmatch(pattern, values[-1].text):
            words = f"{name} is {values[-1].text!r} in the end, and should be {pattern.replace(chr(92), '')}"
            yield Finding(str(path), values[-1].line, words)
    last = max((value.line, name) for name, values in settings.items() for value in values)
    if last[1] != "include":
        yield Finding(str(path), last[0], f"{last[1]} comes after the include, and wins over this machine's own sizes")


def _saves(tree: Path) -> Iterator[Finding]:
    saves = effective(tree / REDIS).get("save", [])
    # An empty one takes all before it back.
    if not saves or not saves[-1].text:
        yield Finding(str(REDIS), saves[-1].line if saves else 0, "no save rules: no snapshot is ever made")
    for rule in saves:
        if not re.fullmatch(r"(\d+ \d+(\s+\d+ \d+)*)?", rule.text):
            yield Finding(str(REDIS), rule.line, f"save {rule.text}: SECONDS CHANGES is what Redis takes")


def _hba(tree: Path) -> Iterator[Finding]:
    rows = [(number, line.split()) for number, line in numbered((tree / HBA).read_text())]
    if not rows:
        yield Finding(str(HBA), 0, "lets nobody in")
    for number, words in rows:
        if words[0] != "local":
            yield Finding(str(HBA), number, f"{words[0]}: connections come by the local socket only")
        elif len(words) < 4 or words[3] != "peer":
            yield Finding(str(HBA), number, "who connects is who the kernel says: method peer")


def postgresql(major: str) -> str:
    """Return the path of this host's PostgreSQL server of that major; raises HostLacks when there is none."""
    directories = (f"/usr/lib/postgresql/{major}/bin", f"/usr/pgsql-{major}/bin")
    for candidate in (*(f"{directory}/postgres" for directory in directories), shutil.which("postgres")):
        if candidate and Path(candidate).exists() and f" {major}." in ask([candidate, "--version"], Path()).stdout:
            return candidate
    raise HostLacks(f"PostgreSQL {major} is not on this host", fix=f"apt-get install postgresql-{major}")


def _by_postgresql(tree: Path) -> Iterator[Finding]:
    try:
        server = postgresql(versions.read(tree)["servers"]["postgresql"]["major"])
    except HostLacks as lacks:
        yield Finding(str(POSTGRESQL), 0, f"read by the gate alone: {lacks.summary}", Level.NOTE)
        return
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        sizes = Path(directory, "sizes.conf")
        sizes.touch()
        staged = Path(directory, "postgresql.conf")
        staged.write_text((tree / POSTGRESQL).read_text().replace("/run/zmanim/postgresql.conf", str(sizes)))
        # -C first: only then may root ask.
        for name in ("data_directory", "shared_buffers", "work_mem", "effective_cache_size"):
            output = ask([server, "-C", name, f"--config-file={staged}"], tree)
            if output.returncode != 0:
                words = (output.stderr.strip() or f"postgres -C {name} fails").replace(directory, "")
                yield Finding(str(POSTGRESQL), 0, words)
                return


def _template(tree: Path) -> Iterator[Finding]:
    output = _written_at_boot(tree)
    if output.returncode != 0:
        yield Finding(str(SECRET_FILES), 0, f"does not say what it writes: {output.stderr.strip()[-400:]}")
        return
    written, parameters = json.loads(output.stdout)
    names: dict[str, int] = {}
    for number, line in numbered((tree / TEMPLATE).read_text()):
        name, _, value = line.partition("=")
        if name in names:
            yield Finding(str(TEMPLATE), number, f"{name} is there twice")
        names[name] = number
        if written.get(name) != value and not _PLACEHOLDER.search(value):
            yield Finding(str(TEMPLATE), number, f"{name} holds a value: placeholders (__parameter-name__) only")
        for placeholder in _PLACEHOLDER.findall(value):
            if placeholder.strip("_") not in parameters:
                yield Finding(str(TEMPLATE), number, f"{placeholder}: no such parameter is fetched (parameters.py)")
    for name in sorted(written.keys() - names.keys()):
        yield Finding(str(TEMPLATE), 0, f"lacks {name}, which zmanim-secrets.service writes")
    for name in sorted(names.keys() - written.keys()):
        yield Finding(str(TEMPLATE), names[name], f"{name} is never written (zmanim_host/secrets/secret_files.py)")
    yield from _read_by_api(tree, names.keys())


def _read_by_api(tree: Path, names: Collection[str]) -> Iterator[Finding]:
    for path in files(tree):
        if path.suffix == ".go" and path.parts[0] == "api" and not path.name.endswith("_test.go"):
            for number, line in enumerate((tree / path).read_text().splitlines(), 1):
                for name in _READ_BY_GO.findall(line):
                    if name not in names:
                        yield Finding(str(path), number, f"reads {name}, which {TEMPLATE.name} does not have")


def _written_at_boot(tree: Path) -> Completed:
    """Print, as JSON, what is written for the API when every parameter is there, and the parameters' names."""
    program = (
        "import json; from zmanim_host.secrets import parameters, secret_files\n"
        "names = [each.name for each in parameters.PARAMETERS]\n"
        "print(json.dumps([secret_files.api_environment({name: f'__{name}__' for name in names}), names]))"
    )
    return ask([sys.executable, "-B", "-c", program], tree, {"PYTHONPATH": str((tree / FILES).absolute()), "PATH": ""})
