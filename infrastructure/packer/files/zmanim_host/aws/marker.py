"""The marker that an environment's backups were begun, in Parameter Store: it outlives the bucket.

An empty bucket looks the same to restic whether nothing was ever in it, its name was changed, or it was emptied. With
the marker an image that finds no backups says so, instead of beginning anew while production's are somewhere else. An
instance's role may write it once and never again (infrastructure/iam/instance.json).
"""

from __future__ import annotations

from zmanim_host.aws.awscli import aws
from zmanim_host.host import WARNING, HostError, log

NAME = "backup/repository"
_EXISTS = "ParameterAlreadyExists"


def parameter(environment: str) -> str:
    """Return the marker's name."""
    return f"/zmanim/{environment}/{NAME}"


def begun(environment: str, region: str) -> str:
    """Return where the marker says that backups were begun, or nothing when there is none; HostError when unknown."""
    # By the path: it is what the instance's role may ask for.
    path, query = parameter(environment).rpartition("/")[0], f"Parameters[?Name=='{parameter(environment)}'].Value"
    return aws("ssm", "get-parameters-by-path", "--path", path, "--query", query, region=region).strip()


def note(environment: str, region: str, location: str) -> None:
    """Write the marker where there is none; what keeps it from being written is told, and no reason for no backup."""
    name = parameter(environment)
    arguments = ("--name", name, "--type", "String", "--value", location, "--no-overwrite")
    try:
        aws("ssm", "put-parameter", *arguments, region=region)
    except HostError as error:
        if _EXISTS not in str(error):
            log(f"the marker {name} can't be written ({error}): ./inv account.apply", WARNING)
