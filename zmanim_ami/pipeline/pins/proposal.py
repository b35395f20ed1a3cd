"""One pull request of a changed work tree, on a branch that is always the same: there is never a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from support.errors import BadInput
from support.process import Completed

_AUTHOR = ("-c", "user.name=zmanim-ami", "-c", "user.email=zmanim-ami@users.noreply.github.com")


class RunIt(Protocol):
    """support.process.run, as far as it is used here."""

    def __call__(self, command: Sequence[str], *, cwd: Path, check: bool = True, input: str | None = None) -> Completed:
        """Run a command."""


def check_unchanged(root: Path, run: RunIt) -> None:
    """Raise `work-tree-changed` where a proposal would take somebody's own changes along."""
    changed = run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=root).stdout
    if changed:
        raise BadInput(
            "the work tree has changes that would become part of the proposal",
            code="work-tree-changed",
            expected="a clone as it was committed",
            found=", ".join(line[3:] for line in changed.splitlines()),
            fix="commit or stash them",
        )


def propose(root: Path, branch: str, title: str, body: str, run: RunIt) -> None:
    """Commit what differs in the clone at `root`, push it to `branch`, and open or renew its pull request.

    Needs git's and gh's credentials in the environment. Raises CommandFailed, HostLacks.
    """
    run(["git", "switch", "--force-create", branch], cwd=root)
    run(["git", *_AUTHOR, "commit", "--all", "--file=-"], cwd=root, input=f"{title}\n\n{body}")
    # gh hands its own credentials to git: none is written into the clone.
    run(["git", "-c", "credential.helper=!gh auth git-credential", "push", "--force", "origin", branch], cwd=root)
    there = run(["gh", "pr", "view", branch, "--json", "state", "--jq", ".state"], cwd=root, check=False)
    about = ["--title", title, "--body-file", "-"]
    if there.returncode == 0 and there.stdout.strip() == "OPEN":
        run(["gh", "pr", "edit", branch, *about], cwd=root, input=body)
    else:
        run(["gh", "pr", "create", "--head", branch, "--base", "main", *about], cwd=root, input=body)
