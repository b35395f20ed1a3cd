"""A local cloud by itself: `python -m localcloud up`, and the few commands that a person needs beside the AWS CLI.

README.md beside this file walks through it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from localcloud import control
from localcloud.environment import exports
from localcloud.host import requirements
from localcloud.host.certificates import ensure_authority
from localcloud.machine import archive, debian
from localcloud.settings import DEFAULT_STATE, BaseImage, Cloud, CloudSettings, check_name
from support.errors import BadInput, Error
from support.output import show
from support.process import interrupt_on_termination
from support.progress import say, step

DEBIAN = "debian"


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code: 0, 1 failed, 2 bad input, 3 this host lacks something."""
    interrupt_on_termination()
    try:
        arguments = _parser().parse_args(words)
        do: Callable[[argparse.Namespace], None] = arguments.do
        do(arguments)
    except Error as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted: what was begun has been cleaned up")
        return 130
    return 0


def _up(arguments: argparse.Namespace) -> None:
    check_name(arguments.name)
    requirements.check_root()
    if (running := control.find(arguments.name)) is not None:
        say(f"the local cloud {running.name} is up already: {running.endpoint}")
        return
    cache = cache_directory()
    if arguments.base != DEBIAN:
        archive.check_is_file(Path(arguments.base))
    authority = ensure_authority(cache / "authority")
    if arguments.base == DEBIAN:
        image = debian.plain_base(cache, authority.certificate)
    else:
        file = Path(arguments.base)
        root = archive.unpacked(file, cache, authority.certificate)
        image = BaseImage(file.name, root, debian.architecture_of_host()[1], description=f"made from {file.name}")
    with step(f"starting the local cloud {arguments.name}"):
        cloud = control.up(CloudSettings((image,), cache / "authority", name=arguments.name, egress=arguments.egress))
    say(f"{image.name} is its image, {image.owner_id} the image's owner: {cloud.endpoint}")


def cache_directory() -> Path:
    """Return where bases and the certificate authority are kept (XDG Base Directory Specification), not made yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")) / "localcloud"


def _env(arguments: argparse.Namespace) -> None:
    cloud = control.find(arguments.name)
    if cloud is None:
        say(str(_not_up(arguments.name)))
    sys.stdout.write(exports(cloud))


def _ps(arguments: argparse.Namespace) -> None:
    show(control.machines(_running(arguments.name)), as_json=arguments.json)


def _shell(arguments: argparse.Namespace) -> None:
    words = control.shell_command(_running(arguments.name), arguments.instance)
    raise SystemExit(subprocess.run(words, check=False).returncode)


def _console(arguments: argparse.Namespace) -> None:
    sys.stdout.write(control.console(_running(arguments.name), arguments.instance))


def _down(arguments: argparse.Namespace) -> None:
    control.down(arguments.name)


def _running(name: str) -> Cloud:
    if (cloud := control.find(name)) is None:
        raise _not_up(name)
    return cloud


def _not_up(name: str) -> BadInput:
    return BadInput(
        f"the local cloud {name} is not up",
        code="no-cloud",
        expected=f"a running cloud in {DEFAULT_STATE}",
        found="none",
        fix=f"python -m localcloud up --name {name}",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m localcloud", description="An EC2 on this machine. Needs root.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.add_argument("--name", default="default", help="which cloud (default: %(default)s)")
        made.set_defaults(do=do)
        return made

    up = add("up", _up, "start a cloud whose instances are real booted machines; up already is a success")
    up.add_argument(
        "--base", default=DEBIAN, metavar="FILE|debian",
        help="what instances start from: a tar archive of a root file system with systemd, cloud-init and sshd, or "
        "Debian, which is made once, by mmdebstrap (default: %(default)s)",
    )  # fmt: skip
    up.add_argument("--egress", action="store_true", help="let instances reach names outside, on ports 80 and 443")
    add("env", _env, 'print shell lines that point every AWS client at it: eval "$(python -m localcloud env)"')
    listing = add("ps", _ps, "list its machines")
    listing.add_argument("--json", action="store_true", help="print the result as JSON")
    of_one = (
        add("shell", _shell, "open a root shell in a machine"),
        add("console", _console, "print what a machine has said on its console"),
    )
    for each in of_one:
        each.add_argument("instance", metavar="INSTANCE", help="its id: i-…")
    add("down", _down, "remove it, with its instances, volumes and images; quiet when there is none")
    return parser


if __name__ == "__main__":
    sys.exit(main())
