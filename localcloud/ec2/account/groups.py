"""Security groups: names that EC2 does not take, and the tags that a new one gets."""

from __future__ import annotations

import re
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses.security_groups import SecurityGroups

from localcloud.api.patches import ApiError, patch

# API_CreateSecurityGroup, of names and descriptions alike.
_TEXT = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}")


@patch(SecurityGroups.create_security_group, wraps=True)
def create_security_group(original: Any, response: Any) -> ActionResult:
    """CreateSecurityGroup. Raises ApiError (InvalidParameterValue) for a name or a description that is none."""
    name = str(response._get_param("GroupName"))
    if name.lower().startswith("sg-"):
        raise _invalid("GroupName", name, "Group names may not be in the format sg-*.")
    for parameter in ("GroupName", "Description"):
        value = str(response._get_param(parameter))
        if not _TEXT.fullmatch(value):
            raise _invalid(
                parameter, value, "Character sets beyond a-z, A-Z, 0-9, ._-:/()#,@[]+=&;{}!$* are not supported."
            )
    made: Any = original(response).result
    tags = response._parse_tag_specification().get("security-group", {})
    return ActionResult({**made, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]})


def _invalid(parameter: str, value: str, why: str) -> ApiError:
    return ApiError("InvalidParameterValue", f"Value ({value[:300]}) for parameter {parameter} is invalid. {why}")
