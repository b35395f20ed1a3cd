"""The roles of GitHub's workflows: one for each step, and GitHub as the provider of their identities.

Each is taken with a token that GitHub signs for one repository and one of its environments (workflow-trust.json), so a
step that was taken over can't do what another one may. No role of an instance is among them: a builder has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import roles
from zmanim_ami.pipeline.account.changes import Change

HOST = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"
# A release's, in their order; and what takes images away, and what only looks.
RELEASE = ("build", "verify", "publish")
STEPS = (*RELEASE, "retire", "look")
_TRUST_FILE = "workflow-trust.json"


def name(step: str) -> str:
    """Return the name of the role of a step."""
    return f"zmanim-{step}"


def environment(step: str) -> str:
    """Return the name of the GitHub environment that a step's job runs in."""
    return f"ami-{step}"


def subject(form: str, step: str) -> str:
    """Return the `sub` claim of a step's token; `form` is the setting github_subject."""
    return form.replace("{environment}", environment(step))


def plan(
    clients: aws.Clients,
    account: str,
    directory: Path,
    form: str,
    every: Sequence[roles.Values],
    *,
    copies: Sequence[str],
) -> Iterator[Change]:
    """Yield what is missing for the workflows in `every` region of theirs; they copy images to the regions `copies`.

    The policies are `{step}.json` in `directory`, `form` is the setting github_subject.

    Raises `policies-invalid`, `policies-too-large`, and botocore's errors.
    """
    yield from _provider(clients, f"arn:aws:iam::{account}:oidc-provider/{HOST}")
    for step in STEPS:
        values = [{**each, "subject": subject(form, step)} for each in every]
        trust = roles.read(directory / _TRUST_FILE, values)
        inline = {step: roles.read(directory / f"{step}.json", values, copies)}
        yield from roles.role_changes(clients, name(step), trust, inline, f"zmanim: the workflow's job {step}")


def _provider(clients: aws.Clients, arn: str) -> Iterator[Change]:
    iam, resource = clients.iam, f"identity provider {HOST}"
    existing = aws.unless_refused(
        lambda: iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn).get("ClientIDList", []), "NoSuchEntity"
    )
    if existing is None:
        # No thumbprint: AWS trusts GitHub's certificate by its authority.
        create = partial(iam.create_open_id_connect_provider, Url=f"https://{HOST}", ClientIDList=[AUDIENCE])
        yield Change("create", resource, "there is none", create)
    elif AUDIENCE not in existing:
        add = partial(iam.add_client_id_to_open_id_connect_provider, OpenIDConnectProviderArn=arn, ClientID=AUDIENCE)
        yield Change("add", f"audience {AUDIENCE} to {resource}", "not in it", add)
