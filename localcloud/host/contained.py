"""Commands with mounts and processes that can't outlive them."""

from __future__ import annotations

from collections.abc import Sequence


def contained(command: Sequence[str]) -> list[str]:
    """Return a command line that runs `command` in mount and process namespaces of its own.

    When it is killed, or the thread that started it ends, the kernel kills everything in them and undoes every mount:
    after a kill -9 there is nothing to clean but files.
    """
    namespaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # The last word on the parent's death is KILL: unshare ignores the INT that support.process asks for.
    return ["setpriv", "--pdeathsig", "KILL", "--", "unshare", *namespaces, "--", *command]
