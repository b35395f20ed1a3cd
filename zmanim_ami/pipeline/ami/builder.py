"""The real workshop: the pinned toolchain, Packer in its environment, and whoever makes the API's bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache as once
from pathlib import Path

from zmanim_ami import toolchain
from zmanim_ami.pipeline.ami import packer
from zmanim_ami.pipeline.ami.build import Workshop
from zmanim_ami.pipeline.version import Version

_BUILDERS = ("packer", "packer-plugin-amazon")


def workshop(root: Path, cache: Path, environ: Mapping[str, str], bundle: Callable[[Version], Path]) -> Workshop:
    """Return what `build.build_ami` builds with.

    `bundle` makes (or finds) the API's release bundle of a version. The tools are built when they are first needed.
    """

    @once
    def environment() -> dict[str, str]:
        return toolchain.environment(toolchain.tools(cache), environ)

    return Workshop(
        tools=lambda: {name: version for name, version in toolchain.versions().items() if name in _BUILDERS},
        bundle=bundle,
        validate=lambda values: packer.validate(root, environment(), values),
        bake=lambda version, values, force: packer.build(root, environment(), version, values, force=force),
    )
