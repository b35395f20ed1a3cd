"""The CloudWatch agent's configuration: what ships with the image, with this machine's environment in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from zmanim_host.environment import NAME
from zmanim_host.host import HostError, log, write_whole

TEMPLATE = Path("/etc/zmanim/cloudwatch-agent.json.template")
# What the agent reads when it starts.
TARGET = Path("/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.json")
PLACEHOLDER = "@ENVIRONMENT@"


def configuration(template: str, environment: Mapping[str, str]) -> str:
    """Return the agent's configuration: without comments, the name in ZMANIM_ENVIRONMENT in each placeholder's place.

    Raises HostError without a name: metrics of nobody's environment would look like everybody's.
    """
    name = environment.get("ZMANIM_ENVIRONMENT", "")
    if not NAME.fullmatch(name):
        raise HostError(f"ZMANIM_ENVIRONMENT is {name!r}: see zmanim-environment.service")
    lines = [line for line in template.splitlines(keepends=True) if not line.startswith("#")]
    # A name has no character that JSON would have to escape.
    content = "".join(lines).replace(PLACEHOLDER, name)
    try:
        json.loads(content)
    except ValueError as error:
        raise HostError(f"{TEMPLATE} is no JSON: {error}") from error
    return content


def command() -> None:
    """Configure the CloudWatch agent for this machine's environment."""
    write_whole(TARGET, configuration(TEMPLATE.read_text("utf-8"), os.environ))
    log(f"the CloudWatch agent sends to the namespace and the log groups of zmanim/{os.environ['ZMANIM_ENVIRONMENT']}")
