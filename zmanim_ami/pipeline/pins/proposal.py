"""One pull request of a changed work tree, on a branch that is always the same: there is never a second."""

from __future__ import annotations

from pathlib import Path

from support.errors import BadInput, Error
from support.git import git
from support.process import CommandFailed, run
from support.progress import say

_AUTHOR = ("-c", "user.name=zmanim-ami", "-c", "user.email=zmanim-ami@users.noreply.github.com")


def check_unchanged(root: Path) -> None:
    """Raise `work-tree-changed` where a proposal would take somebody's own changes along."""
    changed = git(root, "status", "--porcelain", "--untracked-files=no")
    if changed:
        raise BadInput(
            "the work tree has changes that would become part of the proposal",
            code="work-tree-changed",
            expected="a clone as it was committed",
            found=", ".join(line[3:] for line in changed.splitlines()),
            fix="commit or stash them",
        )


def propose(root: Path, branch: str, title: str, body: str, *, checks: str = "") -> None:
    """Commit what differs in the clone at `root`, push it to `branch`, and open or renew its pull request.

    `checks` is a workflow to start on the branch: a request that a workflow's own token opens starts none by itself
    (https://docs.github.com/actions/concepts/security/github_token), and a run that is started by hand is the request's
    as well, for it is of the same commit.

    Needs git's and gh's credentials in the environment. Raises `pull-request-refused`, CommandFailed, HostLacks.
    """
    git(root, "switch", "--force-create", branch)
    git(root, *_AUTHOR, "commit", "--all", "--file=-", input=f"{title}\n\n{body}")
    # gh hands its own credentials to git: none is written into the clone.
    git(root, "-c", "credential.helper=!gh auth git-credential", "push", "--force", "origin", branch)
    viewed = run(["gh", "pr", "view", branch, "--json", "state", "--jq", ".state"], cwd=root, check=False)
    renewed = viewed.returncode == 0 and viewed.stdout.strip() == "OPEN"
    verb = ["edit", branch] if renewed else ["create", "--head", branch, "--base", "main"]
    try:
        run(["gh", "pr", *verb, "--title", title, "--body-file", "-"], cwd=root, input=body)
    except CommandFailed as failure:
        raise Error(
            f"the branch {branch} is pushed, and its pull request could not be opened or renewed",
            code="pull-request-refused",
            expected="gh to be let",
            found=failure.output.strip()[-500:],
            fix="on GitHub, Settings, Actions, General: allow GitHub Actions to create pull requests (an "
            "organization's setting goes first); or open it by hand",
        ) from failure
    if checks:
        say(f"starting {checks} on {branch}")
        run(["gh", "workflow", "run", checks, "--ref", branch], cwd=root)
