"""What an image is built with: the API's release bundle, and Packer with the pinned toolchain around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from zmanim_ami import toolchain
from zmanim_ami.pipeline.ami import packer, ssh_source
from zmanim_ami.pipeline.setting_sources import Value
from zmanim_ami.pipeline.version import Version


class Builder(Protocol):
    """What `build.build_ami` asks for."""

    def versions(self) -> Mapping[str, str]:
        """Return the versions of the tools by their names."""

    def bundle(self, version: Version) -> Path:
        """Return the directory of the API's release bundle of a version, made now where it is not there."""

    def ssh_source(self, source: str) -> str:
        """Return the range that may reach a builder's SSH, by the setting ssh_source."""

    def validate(self, values: Mapping[str, Value]) -> None:
        """Check the template with these variables."""

    def build(self, version: Version, values: Mapping[str, Value], *, force: bool) -> packer.Built:
        """Build the image; with `force` in the place of one of the same name."""


@dataclass(frozen=True)
class BuildTools:
    """The pinned Packer, built when it is first needed; `make_bundle` makes (or finds) a version's release bundle."""

    root: Path
    cache: Path
    environ: Mapping[str, str]
    make_bundle: Callable[[Version], Path]

    @cached_property
    def _environment(self) -> Mapping[str, str]:
        return toolchain.environment(toolchain.tools(self.cache), self.environ)

    def versions(self) -> Mapping[str, str]:
        """Return the versions of Packer and its plugin."""
        pinned = toolchain.versions()
        return {name: pinned[name] for name in ("packer", "packer-plugin-amazon")}

    def bundle(self, version: Version) -> Path:
        """Return the directory of the API's release bundle of a version."""
        return self.make_bundle(version)

    def ssh_source(self, source: str) -> str:
        """Return the range that may reach a builder. Raises as ssh_source.cidr does."""
        return ssh_source.cidr(source)

    def validate(self, values: Mapping[str, Value]) -> None:
        """Check the template. Raises as packer.validate does."""
        packer.validate(self.root, self._environment, values)

    def build(self, version: Version, values: Mapping[str, Value], *, force: bool) -> packer.Built:
        """Build the image. Raises as packer.build does."""
        return packer.build(self.root, self._environment, version, values, force=force)
