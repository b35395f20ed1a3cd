"""CreateTags of resources that exist: moto looks at most kinds, and takes these for there.

That a tag may be given at all is a rule of every call that brings some (api/checks.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moto.ec2.models import EC2Backend

from localcloud.api.patches import ApiError, patch

# The prefix of an id -> EC2's code ("Error codes for the Amazon EC2 API"), what its message calls the kind, and whether
# the region has one of this id.
_KINDS: Mapping[str, tuple[str, str, Callable[[Any, str], bool]]] = {
    "i": ("InvalidInstanceID.NotFound", "instance", lambda on, name: on.get_instance_by_id(name) is not None),
    "eni": ("InvalidNetworkInterfaceID.NotFound", "networkInterface", lambda on, name: name in on.enis),
    "key": ("InvalidKeyPair.NotFound", "keyPair", lambda on, name: name in {key.id for key in on.key_pairs.values()}),
}


@patch(EC2Backend.do_resources_exist, wraps=True)
def do_resources_exist(original: Any, backend: Any, resource_ids: list[str]) -> Any:
    """Look whether all of the resources exist. Raises ApiError, or moto's errors, for the first that does not."""
    for identifier in resource_ids:
        code, word, exists = _KINDS.get(identifier.rpartition("-")[0], ("", "", lambda *_: True))
        if not exists(backend, identifier):
            raise ApiError(code, f"The {word} ID '{identifier}' does not exist")
    return original(backend, resource_ids)
