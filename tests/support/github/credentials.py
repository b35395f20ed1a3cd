"""Stands in for aws-actions/configure-aws-credentials: its action.yml runs this in place of each such step.

The job's environment, as its workflow names it, decides whose credentials the steps after it have. Reads the action's
inputs and STAND_IN_* from the environment, and writes to the file GITHUB_ENV.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.settings import ACCOUNT
from tests.support.github.act import REFUSED
from tests.support.github.workflow import read
from zmanim_ami.pipeline.account import workflow_roles
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import identity

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def role_arn(step: str) -> str:
    """Return the role of a step of a release, as the variable AWS_ROLE_ARN of its environment has it."""
    return f"arn:aws:iam::{ACCOUNT}:role/{workflow_roles.name(step)}"


def main(environ: Mapping[str, str]) -> None:
    """Write the credentials of the job that runs to GITHUB_ENV. Exits with a reason when there are none."""
    job = read(Path(environ["STAND_IN_WORKFLOW"]))["jobs"][environ["GITHUB_JOB"]]
    # act hands over names where GitHub would the values of the environment that they are of.
    settings = json.loads(Path(environ["STAND_IN_SETTINGS"]).read_text()).get(job["environment"], {})
    region = {"AWS_REGION": environ["REGION"], "AWS_DEFAULT_REGION": environ["REGION"]}
    if environ["ROLE"]:
        credentials = _by_role(job, settings.get(environ["ROLE"], ""), environ)
    else:
        credentials = {name: settings.get(environ[name], "") for name in _KEYS}
        if not all(credentials.values()):
            sys.exit("Credentials could not be loaded")
    lines = [f"{name}={value}\n" for name, value in {**credentials, **region}.items()]
    with Path(environ["GITHUB_ENV"]).open("a") as file:
        file.writelines(lines)


def _by_role(job: Mapping[str, Any], role: str, environ: Mapping[str, str]) -> dict[str, str]:
    if (job.get("permissions") or {}).get("id-token") != "write":
        sys.exit(f"{REFUSED}the job {environ['GITHUB_JOB']} takes a role without id-token: write")
    step = str(job["environment"]).removeprefix("ami-")
    if role != role_arn(step):
        sys.exit(f"{REFUSED}{role or 'no role'} where {job['environment']} has {role_arn(step)}")
    cloud = clouds.running(environ["STAND_IN_CLOUD"], clouds.STATE)
    return identity.environment_of(step, cloud, {}, environ["GITHUB_REF"])


if __name__ == "__main__":
    main(os.environ)
