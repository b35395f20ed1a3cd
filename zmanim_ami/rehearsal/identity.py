"""Taking a release's roles as its workflow does on GitHub: by a token that says which repository and environment asks.

The token is signed by the local cloud's own key, which stands for GitHub's: AWS checks GitHub's. All that the role's
trust policy asks of the claims is decided as on AWS.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import boto3

from localcloud import web_identity
from localcloud.settings import ACCOUNT, Cloud
from zmanim_ami.pipeline.account import workflow_roles

# A repository of that name is nobody's: it is only compared with itself. With ids, as GitHub has it for a new one.
SUBJECT = "repo:rehearsal@1/zmanim@2:environment:{environment}"
# Where the roles of a cloud's releases may copy images to.
COPIES = ("eu-central-1", "eu-north-1")
_SECONDS = 3600


def token(step: str, ref: str, key: str, **others: str) -> str:
    """Return the token of a job in the environment of `step` that runs for the branch or tag `ref`.

    `key` is the cloud's. `others` are claims that take the place of those that GitHub would make.
    """
    claims = {
        "iss": f"https://{workflow_roles.HOST}",
        "aud": workflow_roles.AUDIENCE,
        "sub": workflow_roles.subject(SUBJECT, step),
        "ref": ref,
        "exp": int(time.time()) + _SECONDS,
        **others,
    }
    return web_identity.sign(claims, key)


def environment_of(step: str, cloud: Cloud, base: Mapping[str, str], ref: str) -> dict[str, str]:
    """Return `base` with the credentials of the role of `step` in the place of whatever it had.

    Raises botocore's ClientError when the role's trust policy does not let it.
    """
    sts = boto3.client("sts", region_name=cloud.region, endpoint_url=cloud.endpoint)
    taken = sts.assume_role_with_web_identity(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{workflow_roles.name(step)}",
        RoleSessionName=step,
        WebIdentityToken=token(step, ref, cloud.key),
        DurationSeconds=_SECONDS,
    )["Credentials"]
    return {
        **base,
        "AWS_ACCESS_KEY_ID": taken["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": taken["SecretAccessKey"],
        "AWS_SESSION_TOKEN": taken["SessionToken"],
    }
