"""`python -m toolchain.check_api`: gofmt, go vet, staticcheck and the tests of the reference API (exit 0, 1 or 3)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.cache import user_cache
from support.errors import Fault
from support.process import CommandFailed, interrupt_on_termination, run
from support.progress import say, step
from toolchain.build import staticcheck
from toolchain.go import Go, go
from toolchain.gobuild import HOST_ONLY

API = Path(__file__).resolve().parent.parent / "api"


class ApiNotClean(Fault):
    """One of the checks has something to say about the API's source."""


def check(api: Path, made_by: Go, linter: Path) -> None:
    """Run every check over the module in `api`.

    Raises ApiNotClean with the words of the first that fails.
    """
    # staticcheck starts `go` by name, so the one that was chosen comes first on PATH.
    path = f"{made_by.program.parent}:{made_by.environment['PATH']}"
    # All four, staticcheck's own `go list` too, then share what was compiled for the tools: half a minute less each.
    flags = " ".join([made_by.environment["GOFLAGS"], *(f"'{flag}'" for flag in HOST_ONLY)])
    environment = {**made_by.environment, "PATH": path, "GOFLAGS": flags}
    program = str(made_by.program)
    root = run([program, "env", "GOROOT"], env=environment).stdout.strip()
    _check("gofmt", [f"{root}/bin/gofmt", "-l", "-d", "."], api, environment, silent=True)
    _check("go vet", [program, "vet", "./..."], api, environment)
    _check("staticcheck", [str(linter), "./..."], api, environment)
    _check("go test", [program, "test", "./..."], api, environment)


def _check(
    name: str, command: Sequence[str], api: Path, environment: Mapping[str, str], *, silent: bool = False
) -> None:
    with step(name):
        try:
            said = run(command, cwd=api, env=environment)
        except CommandFailed as failure:
            raise ApiNotClean(
                f"{name} finds fault with {api.name}/", expected="none", found=f"\n{failure.output}"
            ) from failure
        if silent and said.stdout:  # gofmt tells by its output, not by its exit code
            raise ApiNotClean(
                f"{name} would write {api.name}/ in another way",
                expected="no difference",
                found=f"\n{said.stdout}",
                fix=f"gofmt -w {api.name}",
            )


def main() -> int:
    """Check the reference API of this clone and return the exit code."""
    interrupt_on_termination()
    cache = user_cache()
    try:
        check(API, go(cache), staticcheck(cache))
    except Fault as fault:
        say(str(fault))
        return fault.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
