"""What the tasks import: nothing that only the gate's environment has."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import grimp
import pytest

from tests.support import ROOT
from zmanim_ami.pipeline.pins import locks


def test_no_task_imports_what_only_the_gate_has() -> None:
    graph = grimp.build_graph(
        *("zmanim_ami", "localcloud", "support"),
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )
    commands = {module for module in graph.modules if module.startswith("zmanim_ami.commands")}
    reached = commands.union(*(graph.find_upstream_modules(module) for module in commands))
    # `import zmanim_ami.gate.doctor` runs zmanim_ami.gate as well.
    reached |= {".".join(module.split(".")[:end]) for module in reached for end in range(1, module.count(".") + 1)}
    external = {module for module in reached.union(*map(graph.find_upstream_modules, reached)) if "." not in module}
    brought = importlib.metadata.packages_distributions()
    names = {re.sub(r"[-_.]+", "-", each).lower() for module in external for each in brought.get(module, ())}
    assert {"boto3", "invoke", "cyclonedx-python-lib", "rich", "jinja2"} <= names, "the graph of imports shows nothing"
    assert names & (_names(locks.GATE) - _names(locks.TASKS)) == set()


@pytest.mark.incident("a task took 3.6 s of processor to start: 1.3 of it moto, as much a grammar of addresses")
def test_no_task_waits_for_what_it_does_not_use() -> None:
    """Both are the tasks' own, of a cloud's server and of the SBOM: they load where they are used."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, tasks; print(*sys.modules)"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "zmanim_ami.pipeline.sbom.document" in loaded
    assert {"moto", "jsonschema"} & set(loaded) == set()


def _names(lock: str) -> set[str]:
    return {pin.key.partition("==")[0] for pin in locks.pins((ROOT / lock).read_text())}
