"""What a built image's inventory says and the tree does not, normalised so that every build of the tree says the same.

`docs/ami-inventory.json` is that extract, taken from a build by `./inv write-contents --inventory FILE`. It has no
versions, checksums, nor names that the base chooses: those differ between a rehearsal and AWS. What the tree says as
well (which file goes where, who is enabled) is compared instead of written down twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from support.errors import BadInput
from zmanim_ami.pipeline.docs.tree import Contents

EXTRACT = Path("docs/ami-inventory.json")
# Those of the route that the page is about; on the other one PostgreSQL's packages have other names.
ROUTE = "amazonlinux"
_UNITS = "/etc/systemd/system/"


@dataclass(frozen=True)
class Extract:
    """The normalised part of an inventory.

    `users`: uid:gid and the shell's name. `listening`: protocol and port, and where, on the builder. `files`: mode and
    owner, or target, of files of ours that no shipped file is the source of.
    """

    users: Mapping[str, str]
    listening: tuple[str, ...]
    files: Mapping[str, str]


def load(path: Path) -> Any:
    """Return an inventory's JSON. Raises `inventory-unusable`."""
    try:
        inventory = json.loads(path.read_text())
        route = inventory["postgresql_repo"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is not the inventory of an image",
            code="inventory-unusable",
            expected="output/inventory.json of a build, or /usr/share/zmanim/inventory.json of an instance",
            found=repr(error),
        ) from error
    if route != ROUTE:
        raise BadInput(
            f"{path} is of an image of another route",
            code="inventory-unusable",
            expected=f"postgresql_repo {ROUTE}",
            found=str(route),
        )
    return inventory


def normalise(inventory: Any, contents: Contents) -> Extract:
    """Return what of an inventory belongs into the extract, for the tree that `contents` was read from."""
    placed = {each.destination for each in contents.placed}
    version = re.escape(inventory["release"]["version"])
    files = {
        _general(path, version): _general(_about(about), version)
        for path, about in inventory["files"].items()
        # Links of units are their state; what Python compiled has the name of the base's Python in it.
        if path not in placed and not path.startswith(_UNITS) and "/__pycache__/" not in path
    }
    return Extract(
        users={user.name: _user(inventory["users"].get(user.name, "missing")) for user in contents.users},
        listening=tuple(sorted({_socket(line) for line in inventory["listening_on_the_builder"]})),
        files=dict(sorted(files.items())),
    )


def _general(path: str, version: str) -> str:
    path = re.sub(rf"((?:^|[/ ])releases/|^-> ){version}(?=/|$)", r"\1VERSION", path)
    return re.sub(r"/migrations/[^/]+\.sql$", "/migrations/*.sql", path)


def _about(file: Mapping[str, str]) -> str:
    return f"-> {file['link']}" if "link" in file else f"{file['mode']} {file['owner']}"


def _user(line: str) -> str:
    numbers, _, shell = line.partition(" ")
    return f"{numbers} {shell.rpartition('/')[2]}".strip()


def _socket(line: str) -> str:
    protocol, _, local = line.partition(" ")
    address, _, port = local.rpartition(":")
    if address in {"0.0.0.0", "[::]", "*"}:  # noqa: S104 - read, not bound
        return f"{protocol} {port}, every address"
    loopback = address.startswith(("127.", "[::1]"))
    return f"{protocol} {port}, {'loopback' if loopback else 'its own address'}"


def disagreements(inventory: Any, contents: Contents) -> Iterator[str]:
    """Yield each thing that the tree says of the image and the image's inventory says otherwise."""
    compiled = [name for name, each in contents.versions["artifacts"].items() if each["architecture"] == "source"]
    for name in [*contents.versions["packages"], *compiled]:
        if name not in inventory["packages"]:
            yield f"the package {name} is not there"
    for name in contents.versions["build_packages"]:
        if name in inventory["packages"]:
            yield f"{name}, of which there should be nothing left after compiling, is there"
    for each in contents.placed:
        about = inventory["files"].get(each.destination)
        if about is None:
            yield f"{each.destination} is not there"
        elif about.get("mode") != each.mode:
            yield f"{each.destination} has the mode {about.get('mode')}, not {each.mode}"
    for name in dict.fromkeys([*contents.enabled, *(unit.name for unit in contents.units)]):
        state, expected = inventory["units"].get(name, "missing"), contents.state(name)
        if state != expected:
            yield f"{name} is {state}, not {expected}"
    for user in contents.users:
        if not inventory["users"].get(user.name, "").startswith(f"{user.number}:{user.number} "):
            yield f"the user {user.name} is {inventory['users'].get(user.name, 'missing')}, not {user.number}"


def read(root: Path) -> Extract:
    """Return the extract of the clone at `root`. Raises `inventory-unusable`."""
    try:
        extract = json.loads((root / EXTRACT).read_text())
        return Extract(extract["users"], tuple(extract["listening"]), extract["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{EXTRACT} can't be read",
            code="inventory-unusable",
            expected="what ./inv write-contents --inventory wrote",
            found=repr(error),
            fix="./inv write-contents --inventory build/packer/VERSION/output/inventory.json",
        ) from error


def write(root: Path, inventory: Path, contents: Contents) -> None:
    """Write the extract anew from a build's inventory. Raises `inventory-unusable` when image and tree disagree."""
    built = load(inventory)
    wrong = list(disagreements(built, contents))
    if wrong:
        raise BadInput(
            f"{inventory} is not of an image of this tree",
            code="inventory-unusable",
            expected="what infrastructure/packer says",
            found="; ".join(wrong),
            fix="build the image of this tree, and take its inventory",
        )
    (root / EXTRACT).write_text(json.dumps(asdict(normalise(built, contents)), indent=1) + "\n")
