"""moto's own tests, of the release that the local cloud changes, in server mode: what they say of plain moto and of it.

They come from moto's source distribution on PyPI, which pip fetches and compares with its digest, and are kept in the
user's cache: nothing of them is in this repository but the names of those that are expected to differ.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from support.cache import cached_directory
from tests.support.machines.lab import wait_for
from zmanim_ami.toolchain.environment import user_cache

ROOT = Path(__file__).parents[2]
DIFFERENCES = Path(__file__).parent / "moto_differences.toml"
# The digest of moto's source distribution, by its version: another version's stands on its page on PyPI.
SOURCES = {"5.2.5": "391857257d5dac144334013c2c10e599def5f0562f553e979160140bd7bd9cf6"}
# The services that localcloud has hooks in, or that the pipeline, the image and their docs call.
SERVICES = (
    *(
        "autoscaling",
        "cloudwatch",
        "ebs",
        "ec2",
        "ec2instanceconnect",
        "iam",
        "kms",
        "logs",
        "resourcegroupstaggingapi",
    ),
    *("s3", "s3control", "ses", "sesv2", "sns", "ssm", "sts"),
)
# Kinds of differences, and nothing else is one: as strict as AWS is, or about moto itself or a server of it.
KINDS = {"stricter", "does not apply"}
# Hours would be a hang: both runs together take about a quarter of one.
_SECONDS = 3600


@dataclass(frozen=True)
class Outcome:
    """What became of a test: passed, failed or skipped, and the last words of one that failed."""

    result: str
    words: str = ""


@dataclass(frozen=True)
class Comparison:
    """Tests by their names: `unlisted` pass on plain moto alone, `mended` are listed and pass here, `stale` are none.

    `words` are those of the unlisted.
    """

    both: int
    listed: Mapping[str, int]
    unlisted: Mapping[str, str]
    mended: Sequence[str]
    stale: Sequence[str]


def fetch() -> Path:
    """Return the directory with moto's sources, fetched the first time. Raises CalledProcessError without PyPI."""
    release = version("moto")
    digest = SOURCES[release]

    def build(directory: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            lock = Path(scratch) / "requirements.txt"
            lock.write_text(f"moto=={release} --hash=sha256:{digest}\n")
            command = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
            subprocess.run(
                [str(ROOT / ".venv/bin/python"), "-m", *command, "--dest", scratch, "--requirement", str(lock)],
                check=True,
                timeout=300,
            )
            with tarfile.open(Path(scratch) / f"moto-{release}.tar.gz") as archive:
                archive.extractall(directory, filter="data")

    return cached_directory(user_cache(), "moto-tests", digest, build) / f"moto-{release}"


@contextmanager
def served(python: Path, directory: Path, *, plain: bool) -> Iterator[Mapping[str, str]]:
    """A server for the tests, and the variables that lead moto_plugin to it."""
    directory.mkdir()
    command = [str(python), "-m", "tests.clients.server", str(directory), *(["--plain"] if plain else [])]
    # As a cloud's server is started (localcloud.control).
    checks = {} if plain else {"MOTO_ENABLE_AMI_VALIDATION": "true", "MOTO_ENABLE_KEYPAIR_VALIDATION": "true"}
    with (directory / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **checks}, stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        try:
            url, key = directory / "url", directory / "key"
            wait_for(lambda: server.poll() is not None or url.exists(), 120, "moto's server")
            assert server.poll() is None, (directory / "server.log").read_text()[-2000:]
            yield {"LOCALCLOUD_URL": url.read_text(), "LOCALCLOUD_KEY": key.read_text()}
        finally:
            server.communicate(timeout=30)  # it serves until its stdin is closed


def run(python: Path, sources: Path, directory: Path, names: Sequence[str], *, plain: bool) -> dict[str, Outcome]:
    """Run tests of moto's (files, directories or single ones, from `sources`), and return what became of each.

    Raises AssertionError when pytest itself fails: a run that was cut short says nothing.
    """
    with served(python, directory, plain=plain) as variables:
        outcomes = directory / "outcomes.jsonl"
        settings = {
            **os.environ,
            **variables,
            # By itself: moto has a package `tests`, too.
            "PYTHONPATH": str(Path(__file__).parent),
            "OUTCOMES": str(outcomes),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        # CloudFormation wants packages of moto's that the cloud does not have: neither server serves it.
        options = ["-q", "--tb=native", "-p", "no:cacheprovider", "-p", "moto_plugin"]
        options += ["-m", "not network", "--ignore-glob", "*cloudformation*"]
        with (directory / "pytest.log").open("w") as log:
            done = subprocess.run(
                [str(python), "-m", "pytest", *options, *names],
                cwd=sources,
                env=settings,
                stdout=log,
                stderr=log,
                check=False,
                timeout=_SECONDS,
            )
        assert done.returncode in {0, 1}, (directory / "pytest.log").read_text()[-2000:]
        rows = [json.loads(line) for line in outcomes.read_text().splitlines()]
    return {row["test"]: Outcome(row["result"], row["words"]) for row in rows}


def differences(text: str) -> dict[str, str]:
    """Return the kind of each expected difference by the test's name. Raises AssertionError for a list that is none."""
    result: dict[str, str] = {}
    for each in tomllib.loads(text)["difference"]:
        assert each["kind"] in KINDS, each
        assert len(each["reason"].split()) > 3, each
        for name in each["tests"]:
            assert name not in result, f"twice: {name}"
            result[name] = each["kind"]
    return result


def compare(plain: Mapping[str, Outcome], here: Mapping[str, Outcome], expected: Mapping[str, str]) -> Comparison:
    """Hold what became of the tests in the local cloud against what becomes of them on plain moto."""
    good = {name for name, outcome in plain.items() if outcome.result == "passed"}
    both = {name for name in good if name in here and here[name].result == "passed"}
    lost = good - both
    kinds = [kind for name, kind in expected.items() if name in lost]
    missing = Outcome("missing", "it was not run")
    return Comparison(
        len(both),
        {kind: kinds.count(kind) for kind in sorted(KINDS)},
        {name: here.get(name, missing).words for name in sorted(lost - set(expected))},
        sorted(both & set(expected)),
        sorted(set(expected) - good),
    )
