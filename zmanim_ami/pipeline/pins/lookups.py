"""Where bump really looks: git hosts, Go's module proxy, Amazon's images, the files themselves."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from support.errors import Error
from support.process import CommandFailed, run
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.pins.bump import LookUps
from zmanim_ami.toolchain.go import Go

_SECONDS = 120


def look_ups(clients: Clients, go: Go) -> LookUps:
    """Return the real look-ups; `go` is the Go that asks for modules."""
    return LookUps(
        tags=tags,
        modules=lambda module: _modules(go, module),
        images=lambda: _images(clients),
        sha256=_sha256,
        get=lambda directory, module, version: _get(go, directory, module, version),
    )


def tags(repository: str) -> Mapping[str, str]:
    """Return the commits of a repository's tags, by their names. Raises `look-up-failed`."""
    say(f"asking for the tags of {repository}")
    try:
        listed = run(["git", "ls-remote", "--tags", repository], timeout=_SECONDS).stdout
    except CommandFailed as error:
        raise _failed(repository, error.output) from error
    return parse_tags(listed)


def parse_tags(listed: str) -> dict[str, str]:
    """Return what `git ls-remote --tags` lists: of an annotated tag the commit that it names, not the tag's own id."""
    found: dict[str, str] = {}
    for commit, name, peeled in re.findall(r"^([0-9a-f]{40})\trefs/tags/(\S+?)(\^\{\})?$", listed, re.MULTILINE):
        if peeled or name not in found:
            found[name] = commit
    return found


def _modules(go: Go, module: str) -> list[str]:
    try:
        # Outside of any module, whose own requirements would take part.
        return run(
            [str(go.program), "list", "-m", "-versions", module],
            cwd=Path("/"),
            env=go.environment,
            timeout=_SECONDS,
        ).stdout.split()[1:]
    except CommandFailed as error:
        raise _failed(module, error.output) from error


def _images(clients: Clients) -> list[str]:
    with aws.translate_errors("looking for Amazon's images"):
        found = clients.ec2.describe_images(
            Owners=["amazon"], Filters=[{"Name": "name", "Values": ["al2023-ami-2023.*-arm64"]}]
        )["Images"]
    return [image.get("Name", "") for image in found]


def _sha256(url: str) -> str:
    if not url.startswith("https://"):
        raise _failed(url, "no https address")
    say(f"downloading {url} for its checksum")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310  # https, as was just checked
            while part := answer.read(1 << 20):
                digest.update(part)
    except OSError as error:
        raise _failed(url, str(error)) from error
    return digest.hexdigest()


def _get(go: Go, directory: Path, module: str, version: str) -> None:
    try:
        run([str(go.program), "get", f"{module}@{version}"], cwd=directory, env=go.environment)
        run([str(go.program), "mod", "tidy"], cwd=directory, env=go.environment)
    except CommandFailed as error:
        raise _failed(f"{module} {version}", error.output) from error


def _failed(what: str, found: str) -> Error:
    return Error(
        f"{what} can't be looked up",
        code="look-up-failed",
        expected="an answer",
        found=found.strip()[-500:],
        fix="is the network there?",
    )
