"""What a shell or a child process must have in its environment to talk to a cloud, and to nothing else.

Stray AWS settings are the danger: a profile, a session token or AWS_ENDPOINT_URL_S3 from outside would send part of a
run to the real AWS. So every AWS_* variable that could redirect or authenticate is unset, configuration files are
pointed at nothing, and with the cloud down the endpoint is a dead one and the shell text ends in `false`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping

from localcloud.settings import KEY_PREFIX, SECRET, Cloud, CloudSettings

DEAD_ENDPOINT = "http://127.0.0.1:9"
DEAD_KEY = f"{KEY_PREFIX}0000000000"
# Matters of taste that can neither redirect nor authenticate anything.
_HARMLESS = {"AWS_PAGER", "AWS_DEFAULT_OUTPUT", "AWS_CLI_AUTO_PROMPT"}
# Unset whether or not they are there now: the text may be evaluated in another shell.
_STRAY = (
    "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CA_BUNDLE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE",
)  # fmt: skip


def _wanted(cloud: Cloud | None) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": cloud.endpoint if cloud else DEAD_ENDPOINT,
        "AWS_REGION": cloud.region if cloud else CloudSettings.region,
        "AWS_DEFAULT_REGION": cloud.region if cloud else CloudSettings.region,
        "AWS_ACCESS_KEY_ID": cloud.key if cloud else DEAD_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Packer's waiters: whole seconds only. Its other limit, AWS_MAX_ATTEMPTS, is also botocore's number of
        # retries: a large value would make every client hang on a cloud that is down.
        "AWS_POLL_DELAY_SECONDS": "1",
        "AWS_TIMEOUT_SECONDS": "180",
    }


def _unwanted(base: Mapping[str, str]) -> list[str]:
    wanted = _wanted(None)
    present = [name for name in base if name.startswith("AWS_") and name not in _HARMLESS and name not in wanted]
    return sorted({*_STRAY, *present})


def _no_proxy(cloud: Cloud | None, base: Mapping[str, str]) -> dict[str, str]:
    if cloud is None:
        return {}
    changed = {}
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in base.get(name, "").split(",") if host]
        if "*" in hosts or cloud.link_address in hosts:
            continue
        changed[name] = ",".join([*hosts, cloud.link_address])
    return changed


def environment(cloud: Cloud | None, base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` changed so that AWS clients reach the cloud; with None, so that they reach nothing."""
    unwanted = set(_unwanted(base))
    remaining = {name: value for name, value in base.items() if name not in unwanted}
    return remaining | _wanted(cloud) | _no_proxy(cloud, base)


def exports(cloud: Cloud | None, base: Mapping[str, str] | None = None) -> str:
    """Return shell text for `eval "$(…)"` that makes the same changes as `environment`.

    `base` is the environment to change, this process's unless given. For no cloud the text ends in `false`, so that the
    eval itself fails.
    """
    base = os.environ if base is None else base
    lines = [f"export {name}={shlex.quote(value)}" for name, value in (_wanted(cloud) | _no_proxy(cloud, base)).items()]
    # A variable whose name no shell could write can't be unset by one either (`environment` drops it).
    lines += [f"unset {name}" for name in _unwanted(base) if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)]
    if cloud is None:
        lines += ["# the local cloud is not up", "false"]
    return "\n".join(lines) + "\n"
