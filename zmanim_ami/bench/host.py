"""On what machine something was measured, and how busy that was besides."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any


def describe(proc: Path = Path("/proc")) -> dict[str, Any]:
    """Return processor, number of processors, memory (GiB), kernel and architecture of this machine."""
    model = re.search(r"^model name\s*: (.*)$", (proc / "cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal: *(\d+) kB$", (proc / "meminfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else "unknown",
        "processors": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / (1 << 20), 1) if memory else 0,
        "kernel": platform.release(),
        "architecture": platform.machine(),
    }


def load(proc: Path = Path("/proc")) -> list[float]:
    """Return the load averages of the last minute, five and fifteen: what else this machine was doing."""
    return [float(field) for field in (proc / "loadavg").read_text().split()[:3]]
