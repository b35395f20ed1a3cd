"""`python -m tests.mutation [PART …]`: how many mutants of the rules that decide the unit tests kill (mutmut).

The rules about publishing, retention and volumes, each in a copy with the tests that hold it. A mutant that survives is
a change to a rule that no test minds; exit code 1 when mutmut could not be run, never for survivors: some mean nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.git import own_files
from tests.support import ROOT

SHIPPED = Path("infrastructure/packer/files/zmanim_host")


@dataclass(frozen=True)
class Part:
    """A rule's module, and the tests that hold it."""

    module: Path
    tests: tuple[str, ...]


PARTS: Mapping[str, Part] = {
    "retention": Part(SHIPPED / "backup/retention.py", ("host/backup/test_retention.py",)),
    "volumes": Part(SHIPPED / "storage/volume.py", ("host/storage/test_volume.py",)),
    "versions": Part(Path("zmanim_ami/pipeline/version.py"), ("pipeline/test_version.py",)),
    "publishing": Part(
        Path("zmanim_ami/pipeline/publish/publication.py"),
        ("pipeline/publish/test_publication.py", "pipeline/publish/test_regions.py"),
    ),
}


def score(part: Part) -> Counter[str]:
    """Return how many mutants of a part came to which end, by mutmut's own words (killed, survived, timeout, …)."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        copy = Path(directory)
        for path in own_files(ROOT):
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        shutil.copytree(copy / SHIPPED, copy / "zmanim_host")
        module = (
            Path("zmanim_host") / part.module.relative_to(SHIPPED)
            if part.module.is_relative_to(SHIPPED)
            else part.module
        )
        tests = json.dumps([f"tests/unit/{name}" for name in part.tests])
        others = json.dumps(sorted(path.name for path in copy.iterdir() if path.is_dir()))
        (copy / "pyproject.toml").write_text(
            f'[tool.mutmut]\nsource_paths = ["{module}"]\nalso_copy = {others}\n'
            f"pytest_add_cli_args_test_selection = {tests}\n"
            '[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = ["--import-mode=importlib"]\n'
        )
        env = {**os.environ, "HYPOTHESIS_PROFILE": "desk"}
        mutmut = str(Path(sys.executable).with_name("mutmut"))
        ran = subprocess.run([mutmut, "run"], cwd=copy, env=env, capture_output=True, text=True, check=False)
        results = subprocess.run(
            [mutmut, "results", "--all", "true"], cwd=copy, capture_output=True, text=True, check=False
        )
        ends = [line.rpartition(": ")[2].strip() for line in results.stdout.splitlines() if ": " in line]
        if not ends:
            raise SystemExit(f"mutmut did not run:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}{results.stderr[-500:]}")
        for line in results.stdout.splitlines():
            if line.endswith(": survived"):
                print(line.strip())
        return Counter(ends)


def main() -> None:
    """Print the score of every part, or of those that the command line names."""
    for name in sys.argv[1:] or PARTS:
        ends = score(PARTS[name])
        counted = sum(ends.values())
        rest = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()) if end != "killed")
        print(f"{name}: killed {ends['killed']} / {counted}{f' ({rest})' if rest else ''}", flush=True)


if __name__ == "__main__":
    main()
