"""Where bump looks for newer versions: git hosts, Go's module proxy, PyPI, Amazon's images, the files themselves."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import https
from support.errors import Error
from support.process import CommandFailed, run
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.toolchain.go import Go
from zmanim_ami.toolchain.go_caches import for_tools

_SECONDS = 120


class Index:
    """Look-ups of Python packages, by uv. Each raises `look-up-failed`."""

    def lock(self, root: Path, sources: Sequence[str], preferred: str) -> str:
        """Return the lock that uv resolves from these sources of the clone at `root`.

        In the versions that the lock's text `preferred` has, where they fit; all else as new as it can be.
        """
        say(f"resolving Python packages: {' '.join(sources)}")
        with tempfile.TemporaryDirectory() as directory:
            # What uv would write anew tells it what to keep.
            path = Path(directory, "requirements.txt")
            path.write_text(preferred)
            _run("PyPI", ["uv", "pip", "compile", "--no-cache", "--quiet", *sources, "-o", str(path)], None, root)
            return path.read_text()

    def wheels(self, root: Path, lock: str) -> str:
        """Return the pylock.toml (PEP 751) of what a lock's text pins: with each file's address, so never kept."""
        command = ["uv", "pip", "compile", "--no-cache", "--quiet", "--no-deps", "--format", "pylock.toml", "-"]
        return _run("PyPI", command, None, root, lock)


@dataclass(frozen=True)
class LookUps(Index):
    """Look-ups by git, by this Go, by uv and with these clients. Each raises `look-up-failed`.

    What Go downloads are sources of tools: they lie where those do in the user's `cache` (toolchain.sources_of_tools).
    """

    clients: Clients
    go: Go
    cache: Path

    def tags(self, repository: str) -> list[str]:
        """Return the names of a repository's tags."""
        say(f"asking for the tags of {repository}")
        listed = _run(repository, ["git", "ls-remote", "--tags", "--refs", repository])
        return re.findall(r"\trefs/tags/(\S+)$", listed, re.MULTILINE)

    def images(self) -> list[str]:
        """Return the names of Amazon's images of Amazon Linux 2023."""
        with aws.translate_errors("looking for Amazon's images"):
            described = self.clients.ec2.describe_images(
                Owners=["amazon"], Filters=[{"Name": "name", "Values": ["al2023-ami-2023.*-arm64"]}]
            )
        return [image.get("Name", "") for image in described["Images"]]

    def sha256(self, url: str) -> str:
        """Return the SHA-256 of the file at an address, which is downloaded for that."""
        say(f"downloading {url} for its checksum")
        try:
            with https.opened(url, _SECONDS) as response:
                return hashlib.file_digest(response, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            raise _failed(url, str(error)) from error

    def modules(self, module: str) -> list[str]:
        """Return the versions of a Go module."""
        # Outside of any module, whose own requirements would take part.
        return _run(module, [str(self.go.program), "list", "-m", "-versions", module], self._environment).split()[1:]

    def get(self, directory: Path, module: str, version: str) -> None:
        """Let the Go module in a directory need a module in a version."""
        for arguments in (["get", f"{module}@{version}"], ["mod", "tidy"]):
            _run(f"{module} {version}", [str(self.go.program), *arguments], self._environment, directory)

    @property
    def _environment(self) -> dict[str, str]:
        return for_tools(self.go.environment, self.cache)


def _run(
    what: str,
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    cwd: Path = Path("/"),
    input: str | None = None,
) -> str:
    try:
        return run(command, cwd=cwd, env=env, input=input, timeout=_SECONDS).stdout
    except CommandFailed as error:
        raise _failed(what, error.output) from error


def _failed(what: str, found: str) -> Error:
    return Error(
        f"{what} can't be looked up",
        code="look-up-failed",
        expected="an answer",
        found=found.strip()[-500:],
        fix="is the network there?",
    )
