"""Where the tools are, and the environment in which they work the same for everybody."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# A person's own Packer settings, which would change what a build does; HCP_… turns on HashiCorp's registry.
_STRAY = ("PACKER_CONFIG", "HCP_PACKER_BUCKET_NAME", "HCP_CLIENT_ID", "HCP_CLIENT_SECRET")


def user_cache() -> Path:
    """Return this user's cache directory for the project (XDG Base Directory Specification), not made yet."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "zmanim-ami"


def on_path(name: str, path: str | None = None) -> str | None:
    """Return the program `name` of PATH, which `path` stands in for; None when there is none, and in CI.

    What is on PATH is known by its version only. On a runner (the variable CI is set) it would hold the AWS keys of a
    release, so there only what is pinned by a digest is used.
    """
    return None if path is None and os.environ.get("CI") else shutil.which(name, path=path)


@dataclass(frozen=True)
class Tools:
    """Built tools, ready to use."""

    packer: Path
    plugin_directory: Path  # holds the installed Amazon plugin
    config_directory: Path  # Packer's, with nothing of a person's own in it


def environment(tools: Tools, base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` changed so that `packer` is the pinned one, finds its plugin and asks the network for nothing."""
    path = base.get("PATH", os.defpath)
    if shutil.which("packer", path=path) != str(tools.packer):
        path = os.pathsep.join([str(tools.packer.parent), path])
    return {
        **{name: value for name, value in base.items() if name not in _STRAY},
        "PATH": path,
        "PACKER_PLUGIN_PATH": str(tools.plugin_directory),
        "PACKER_CONFIG_DIR": str(tools.config_directory),
        "CHECKPOINT_DISABLE": "1",
    }


def exports(tools: Tools, base: Mapping[str, str] | None = None) -> str:
    """Return shell text for `eval` that makes `base` (default: our own environment) what `environment` returns."""
    before = os.environ if base is None else base
    after = environment(tools, before)
    lines = [f"unset {name}" for name in sorted(before.keys() - after.keys())]
    lines += [
        f"export {name}={shlex.quote(value)}" for name, value in sorted(after.items()) if value != before.get(name)
    ]
    return "".join(f"{line}\n" for line in lines)
