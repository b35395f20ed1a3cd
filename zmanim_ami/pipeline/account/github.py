"""What has to be set on GitHub, so that a role of a workflow is taken by nobody but a release.

Nothing in a repository can enforce these. A workflow runs as it stands in the commit that it runs for, its file and its
checks with it: whoever may push a tag v*-ami pushes a workflow of their own, and its token says what the roles' trust
policies ask for (OpenID Connect's claims name repository, environment and ref, and no claim says what a file holds).
"""

from __future__ import annotations

from collections.abc import Iterator

from zmanim_ami.pipeline.account import workflow_roles

_APPROVED = " and ".join(map(workflow_roles.environment, ("publish", "retire")))


def rules(subject: str) -> Iterator[str]:
    """Yield each thing to set, and what it is there for, as a line; `subject` is the setting github_subject."""
    environments = ", ".join(map(workflow_roles.environment, workflow_roles.STEPS))
    yield (
        "a tag ruleset for v*-ami: only who releases may create, update or delete one. Who may push such a tag takes "
        "every role whose environment lets it, with a workflow that is not on main"
    )
    yield (
        "a branch ruleset for main: pull requests with a review of somebody else, no force push. A workflow on main "
        "takes the same roles"
    )
    yield f"environments {environments}: deployment branches and tags are main and v*-ami, nothing else"
    yield (
        f"environments {_APPROVED}: required reviewers who are not the one who pushed (prevent self-review), and no "
        "bypass for administrators. They look at the commit, for the checks before it ran as that commit has them"
    )
    yield (
        "Actions, General, Workflow permissions: allow GitHub Actions to create pull requests, for the workflow bump "
        "(an organization's setting goes before the repository's). Nothing else in this repository opens one"
    )
    if "@" not in subject:
        yield (
            f"the setting github_subject, {subject}: right for a repository that has had its name since before the "
            "summer of 2026. Tokens of one that was made, renamed or transferred since carry ids, and get no role: "
            "write repo:OWNER@ID/NAME@ID, as docs/github.md says where to find them"
        )
