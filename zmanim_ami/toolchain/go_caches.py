"""What Go keeps in the user's cache: what it has compiled, within bounds; sources, those of tools only while it builds.

    go/build          what it has compiled, for tools and the API alike: at most BUILD_BYTES after a build
    go/api-modules    sources that the API needs: tens of MB, kept, so that it is built and checked offline as well
    go/tool-modules   sources of the tools, 3 GB: gone after a build, when what they were for is there

A person's own caches (GOCACHE, GOMODCACHE) are left as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.cache import alone_in, delete_leftovers, holding, take_away

# Less takes the API's own packages too, of which the largest has 9 MB: half a minute more for each image.
BUILD_BYTES = 900_000_000
# The tools leave the rest to the API, compiled next and in the same hour, of which the largest would go first.
_TOOLS_BYTES = 600_000_000
_VARIABLES = ("GOCACHE", "GOMODCACHE")
# Go writes down a use only where the last one on record is older than an hour.
_USE_SECONDS = 3600


@dataclass(frozen=True)
class Compiled:
    """A file of Go's build cache: its size, and when it was used last as far as Go tells."""

    path: Path
    bytes: int
    used: float


def build(cache: Path) -> Path:
    """Return where Go keeps what it has compiled."""
    return cache / "go" / "build"


def api_modules(cache: Path) -> Path:
    """Return where the sources are that the API needs."""
    return cache / "go" / "api-modules"


def tool_modules(cache: Path) -> Path:
    """Return where the sources of the tools are while they are built."""
    return cache / "go" / "tool-modules"


def for_tools(environment: Mapping[str, str], cache: Path) -> dict[str, str]:
    """Return an environment of Go's changed so that sources go where those of tools do; a person's own cache stays."""
    ours = environment.get("GOMODCACHE") == str(api_modules(cache))
    return {**environment, "GOMODCACHE": str(tool_modules(cache))} if ours else dict(environment)


@contextmanager
def in_use(environment: Mapping[str, str]) -> Iterator[None]:
    """Keep the caches that an environment of Go's names from being taken away or bounded for the body of a `with`."""
    with ExitStack() as held:
        for name in _VARIABLES:
            if directory := environment.get(name):
                held.enter_context(holding(Path(directory)))
        yield


@contextmanager
def sources_of_tools(cache: Path) -> Iterator[None]:
    """Keep the sources of tools for the body of a `with`: what builds several within it downloads each once.

    At its end they go, and what was compiled is bounded, unless another process builds just then, which does it at its
    own end. When the body fails they stay: the next run goes on with what is downloaded and compiled.
    """
    with holding(tool_modules(cache)):
        yield
        built = any(tool_modules(cache).iterdir())
    if take_away(tool_modules(cache)) and built:
        bound(cache, _TOOLS_BYTES)
    delete_leftovers(cache / "go")


def bound(cache: Path, most: int = BUILD_BYTES) -> None:
    """Delete of what Go has compiled what is too much, unless something is just being built."""
    with alone_in(build(cache)) as alone:
        for file in surplus(_compiled(build(cache)), most) if alone else ():
            file.path.unlink(missing_ok=True)


def surplus(files: Sequence[Compiled], most: int) -> list[Compiled]:
    """Return which files have to go so that the others have at most `most` bytes: the least recently used first.

    Of those that were used in the same hour, which is as much as Go tells, the largest: then the fewest packages have
    to be compiled again. What all programs share (the standard library) is many and small.
    """
    over, going = sum(each.bytes for each in files) - most, []
    for each in sorted(files, key=lambda each: (each.used // _USE_SECONDS, -each.bytes)):
        if over <= 0:
            break
        over -= each.bytes
        going.append(each)
    return going


def _compiled(directory: Path) -> list[Compiled]:
    # In a folder for each first byte of their digests; beside those lie a README and Go's own notes.
    files = []
    for folder in directory.glob("[0-9a-f][0-9a-f]"):
        for entry in os.scandir(folder):
            stat = entry.stat()
            files.append(Compiled(Path(entry.path), stat.st_blocks * 512, stat.st_mtime))
    return files
