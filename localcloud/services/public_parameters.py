"""AWS's public parameters: those of Amazon Linux name the base images here, and those of what is not here are none.

moto has AWS's own lists of some day, whose images nobody can launch.
"""

from __future__ import annotations

import re
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ssm.models import Parameter, ParameterDict

from localcloud.api.patches import patch

_NewParameter: Any = Parameter
_PREFIX = "/aws/service/ami-amazon-linux-latest/"
_NAME = re.compile(r"(al\d+-ami(?:-minimal)?)-[\d.]+-(kernel-)([\d.]+)-(\w+)", re.ASCII)


def names(image_name: str) -> list[str]:
    """Return the parameters that name an image of Amazon Linux when it is the newest of its kind; none of another."""
    known = _NAME.fullmatch(image_name)
    if known is None:
        return []
    kind, kernel, version, architecture = known.groups()
    return [f"{_PREFIX}{kind}-{kernel}{each}-{architecture}" for each in (version, "default")]


@patch(ParameterDict._load_latest_amis)
def load_latest_images(parameters: Any) -> None:
    """Make a parameter of each kind of base image, whose value is the newest one's id in the region."""
    images = ec2_backends[parameters.account_id][parameters.region_name].amis.values()
    of_amazon = [each for each in images if each.owner_alias == "amazon"]
    newest = {
        name: each for each in sorted(of_amazon, key=lambda one: one.creation_date) for name in names(str(each.name))
    }
    for name, image in newest.items():
        made = _NewParameter(
            account_id=parameters.account_id,
            name=name,
            value=image.id,
            parameter_type="String",
            description=None,
            allowed_pattern=None,
            keyid=None,
            last_modified_date=image.creation_date,
            version=1,
            data_type="aws:ec2:image",
        )
        # As moto does it: its own look-up of a name would load them again.
        dict.setdefault(parameters, name, []).append(made)


@patch(ParameterDict._load_tree_parameters, wraps=True)
def load_tree(original: Any, parameters: Any, path: str) -> None:
    """Leave out the images for ECS, of which there are none here."""
    if not path.startswith("ecs/"):
        original(parameters, path)
