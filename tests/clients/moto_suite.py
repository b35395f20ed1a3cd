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
    *("autoscaling", "cloudwatch", "ebs", "ec2", "ec2instanceconnect", "iam", "kms", "logs"),
    *("resourcegroupstaggingapi", "s3", "ses", "sesv2", "sns", "ssm", "sts"),
)
# As strict as AWS is; refused at once here, where moto makes as if; or about moto itself, its server or its images.
KINDS = ("stricter", "unsupported", "does not apply")
# Hours would be a hang: both runs together take about a quarter of one.
_SECONDS = 3600


@dataclass(frozen=True)
class Outcome:
    """What became of a test: passed, failed or skipped, and the last words of one that failed."""

    result: str
    words: str = ""


@dataclass(frozen=True)
class Difference:
    """A test that passes on plain moto alone: what kind of difference it is, and whether it passes here at times."""

    kind: str
    varies: bool


@dataclass(frozen=True)
class Comparison:
    """Tests of moto's: how many there are, how many `passed` here, and of the others those that differ, by kind.

    What there should be none of, by name: `unlisted` pass on plain moto alone (with their last words), `mended` are
    listed and pass here as well, `stale` are listed and don't pass on plain moto.
    """

    tests: int
    passed: int
    listed: Mapping[str, int]
    unlisted: Mapping[str, str]
    mended: Sequence[str]
    stale: Sequence[str]

    @property
    def wrong(self) -> str:
        """What is wrong, line by line; "" when nothing is."""
        lines = [f"passes on plain moto alone: {name}: {words}" for name, words in self.unlisted.items()]
        lines += [f"passes here, too, and is listed: {name}" for name in self.mended]
        lines += [f"is listed, and does not pass on plain moto: {name}" for name in self.stale]
        return "\n".join(lines)


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
        options += ["-m", "not network and not requires_docker", "--ignore-glob", "*cloudformation*"]
        # These start servers of their own in their process, and functions in containers.
        options += ["--ignore-glob", "*/test_server.py", "--ignore-glob", "*_lambda_integration.py"]
        # It asks again for ever for a role whose policy is none.
        options += ["-k", "not test_create_receipt_rule_invalid_action"]
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


def differences(text: str) -> dict[str, Difference]:
    """Return the expected differences by the tests' names. Raises AssertionError for a list that is none."""
    result: dict[str, Difference] = {}
    for each in tomllib.loads(text)["difference"]:
        assert each["kind"] in KINDS, each
        assert len(each["reason"].split()) > 3, each
        for name in each["tests"]:
            assert name not in result, f"twice: {name}"
            result[name] = Difference(each["kind"], each.get("varies", False))
    return result


def to_compare(here: Mapping[str, Outcome], expected: Mapping[str, Difference]) -> list[str]:
    """Return the tests that plain moto is to be asked for: those that do not pass here, and all that are listed."""
    return sorted({name for name, outcome in here.items() if outcome.result == "failed"} | expected.keys())


def compare(
    here: Mapping[str, Outcome], plain: Mapping[str, Outcome], expected: Mapping[str, Difference]
) -> Comparison:
    """Hold what became of the tests here against what became on plain moto of those in `to_compare`."""
    passed = {name for name, outcome in here.items() if outcome.result == "passed"}
    differ = {name for name, outcome in plain.items() if outcome.result == "passed"} - passed
    kinds = [difference.kind for name, difference in expected.items() if name in differ]
    missing = Outcome("missing", "it was not run")
    return Comparison(
        sum(outcome.result != "skipped" for outcome in here.values()),
        len(passed),
        {kind: kinds.count(kind) for kind in KINDS},
        {name: here.get(name, missing).words for name in sorted(differ - expected.keys())},
        sorted(name for name in passed & expected.keys() if not expected[name].varies),
        sorted(expected.keys() - differ - passed),
    )
