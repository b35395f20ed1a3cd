"""build: where the seconds of build-ami go, with every package to compile (cold) and with none (warm)."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from support.errors import Error
from support.process import run
from support.progress import say
from zmanim_ami.bench.figures import repeat
from zmanim_ami.bench.lab import Lab
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import package_cache

NOTES = (
    "cold: nothing compiled is offered; warm: everything is. The API's binary is built before the clock starts.",
    "script: seconds as run-steps.sh says them; packer: time between its lines, as build-ami shows them.",
)
# What begins with the first line that starts so. Other words of another Packer are an error, not guessed around.
_BEGINS = (
    ("packer validate", "▸ packer validate"),
    ("packer: look at the account, key pair, security group", "▸ packer build"),
    ("packer: launch until SSH answers", "packer │ Launching a source"),
    ("packer: wait for cloud-init", "packer │ Provisioning with shell script"),
    ("packer: upload, then every script", "packer │ Uploading"),
    ("packer: fetch inventory and packages", "packer │ run-steps: seconds:"),
    ("packer: stop the builder", "packer │ Stopping the source"),
    ("packer: make and tag the image", "packer │ Creating AMI"),
    ("packer: terminate, delete key pair and security group", "packer │ Terminating the source"),
    ("check and keep the result", "✓ packer build"),
)
_SECONDS = re.compile(r"(\S+)=(\d+\.\d+)s")


def phases(lines: Sequence[tuple[float, str]], end: float) -> dict[str, float]:
    """Return how long each part of a build took, in order; `lines` are its output, each with its second from 0.

    What comes before the first known line is "look for an equal image". Raises `build-not-understood`.
    """
    begins = {"look for an equal image": 0.0}
    for name, marker in _BEGINS:
        moment = next((at for at, text in lines if text.startswith(marker)), None)
        if moment is None:
            raise Error(
                "the build's times can't be read",
                code="build-not-understood",
                expected=f"a line that begins with {marker!r}",
                found="none",
                fix="zmanim_ami/bench/build.py lists what it looks for",
            )
        begins[name] = moment
    return {name: after - start for (name, start), (_, after) in pairwise([*begins.items(), ("", end)])}


def script_seconds(log: str) -> dict[str, float]:
    """Return the seconds of each script by its name, from the line that run-steps.sh ends with."""
    summary = next((line for line in log.splitlines() if "run-steps: seconds:" in line), "")
    return {f"script: {name}": float(seconds) for name, seconds in _SECONDS.findall(summary)}


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Build cold and then warm, `runs` times. Raises CommandFailed, `build-not-understood`."""
    account = aws.account(lab.clients)
    return repeat("cold and warm build", runs, lambda number: _cold_and_warm(lab, account, number))


def _cold_and_warm(lab: Lab, account: str, number: int) -> dict[str, float]:
    versions_file = _versions_file_of_its_own(lab)
    rpm_cache = package_cache.directory(lab.cache, account, json.loads(versions_file.read_text()))
    environment = {**lab.environment, "ZMANIM_VERSIONS_FILE": str(versions_file)}
    try:
        return {
            f"{kind}: {name}": seconds
            for kind in ("cold", "warm")
            for name, seconds in _build(lab.root, environment, f"test-bench-{kind}-{number}").items()
        }
    finally:
        shutil.rmtree(rpm_cache, ignore_errors=True)  # nobody else's: its name comes from this run's own versions file
        versions_file.unlink()


def _versions_file_of_its_own(lab: Lab) -> Path:
    # Compiled packages are kept by the versions file's digest: with another one there are none, and the person's stay.
    versions = json.loads(lab.versions_file.read_text())
    versions["base"]["why"] += f" (bench {uuid.uuid4()})"
    path = lab.root / "build" / "bench" / "versions.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(versions, indent=2))
    return path


def _build(root: Path, environment: Mapping[str, str], version: str) -> dict[str, float]:
    invoke = [sys.executable, "-m", "invoke"]
    run([*invoke, "build-binary", "--version", version], cwd=root, env=environment, pass_stderr=True)
    lines: list[tuple[float, str]] = []
    start = time.monotonic()

    def on_line(text: str) -> None:
        lines.append((time.monotonic() - start, text))
        say(f"  {text}")

    run([*invoke, "build-ami", "--version", version], cwd=root, env=environment, on_line=on_line)
    end = time.monotonic() - start
    log = (root / "build" / "packer" / version / "packer.log").read_text()
    return {"in all": end, **phases(lines, end), **script_seconds(log)}
