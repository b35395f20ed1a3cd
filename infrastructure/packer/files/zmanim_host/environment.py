"""Which environment this machine belongs to, by the launch's tag zmanim:environment."""

from __future__ import annotations

import re

from zmanim_host.aws.imds import Imds, connect, instance_tag
from zmanim_host.host import RUN, HostError, log, write_whole

TAG = "zmanim:environment"
# The environment whose machines come and go, each with a cluster of its own and backups that nobody will need.
PASSING = "verify"
# What the backups of several such machines are called, where a launch wants them to share them.
REPOSITORY_TAG = "zmanim:repository"
REPOSITORY = re.compile(r"[0-9a-f]{32}")
# It becomes part of parameter paths and bucket names.
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def environment_name(imds: Imds) -> str:
    """Return the environment's name.

    Raises HostError when the tag is absent, can't be read, or is no name: nothing may guess which environment it is.
    """
    value = instance_tag(imds, TAG)
    if value is None:
        raise HostError(f"this instance has no tag {TAG}: launch it with one, such as {TAG}=prod")
    if not NAME.fullmatch(value):
        raise HostError(f"the tag {TAG} is {value!r}: an environment's name is of a-z, 0-9 and -, at most 31 long")
    return value


def environment_file(imds: Imds) -> str:
    """Return the file that units take their environment from (systemd's EnvironmentFile=)."""
    values = {
        "ZMANIM_ENVIRONMENT": environment_name(imds),
        "AWS_REGION": _required(imds, "meta-data/placement/region"),
        "INSTANCE_ID": _required(imds, "meta-data/instance-id"),
    }
    if values["ZMANIM_ENVIRONMENT"] == PASSING:
        values["ZMANIM_REPOSITORY"] = _repository(imds) or values["INSTANCE_ID"]
    # aws reads one of them, some SDKs only the other.
    values["AWS_DEFAULT_REGION"] = values["AWS_REGION"]
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _repository(imds: Imds) -> str | None:
    value = instance_tag(imds, REPOSITORY_TAG)
    if value is not None and not REPOSITORY.fullmatch(value):
        raise HostError(f"the tag {REPOSITORY_TAG} is {value!r}: it has to be 32 hexadecimal digits")
    return value


def _required(imds: Imds, path: str) -> str:
    value = imds.get(path)
    if not value or not re.fullmatch(r"[A-Za-z0-9-]+", value):
        raise HostError(f"the metadata service has no usable {path}")
    return value


def command() -> None:
    """Learn which environment this is from the launch's tag."""
    content = environment_file(connect())
    write_whole(RUN / "environment", content)
    log(" ".join(content.split()))
