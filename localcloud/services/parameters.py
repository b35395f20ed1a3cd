"""What Parameter Store refuses that moto takes: too long a value, no id of an image, a path without a slash."""

from __future__ import annotations

import re
from typing import Any

from moto.core.responses import ActionResult
from moto.ssm.exceptions import ValidationException
from moto.ssm.responses import SimpleSystemManagerResponse

from localcloud.api.patches import patch

# API_PutParameter: the longest value of a tier; Intelligent-Tiering takes the advanced one where it has to.
_LONGEST = {"Standard": 4096, "Advanced": 8192, "Intelligent-Tiering": 8192}
_IMAGE = re.compile(r"ami-[0-9a-f]{8,17}")


@patch(SimpleSystemManagerResponse.put_parameter, wraps=True)
def put_parameter(original: Any, response: Any) -> Any:
    """PutParameter, whose values have limits. Whether an image is there is looked at later (faults/late.py)."""
    value, tier = str(response._get_param("Value") or ""), response._get_param("Tier") or "Standard"
    longest = _LONGEST.get(tier, _LONGEST["Standard"])
    if len(value.encode()) > longest:
        raise ValidationException(f"{tier} tier parameters support a maximum parameter value of {longest} characters.")
    if response._get_param("DataType") == "aws:ec2:image" and not _IMAGE.fullmatch(value):
        raise ValidationException(f"The value {value[:100]} is no id of an image, which the data type asks for.")
    return original(response)


@patch(SimpleSystemManagerResponse.get_parameter, wraps=True)
def get_parameter(original: Any, response: Any) -> ActionResult:
    """GetParameter, which says by which version or label it was asked."""
    result = original(response).result
    _, colon, selector = str(response._get_param("Name")).rpartition("/")[2].partition(":")
    return ActionResult({"Parameter": {**result["Parameter"], **({"Selector": f":{selector}"} if colon else {})}})


@patch(SimpleSystemManagerResponse.get_parameters_by_path, wraps=True)
def get_parameters_by_path(original: Any, response: Any) -> Any:
    """GetParametersByPath of a path that begins with a slash."""
    if not str(response._get_param("Path")).startswith("/"):
        raise ValidationException("The parameter path must begin with a slash /.")
    return original(response)
