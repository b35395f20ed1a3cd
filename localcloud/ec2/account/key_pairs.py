"""Key pairs: the code by which EC2 refuses what is no public key (its other one is not answered to imports)."""

from __future__ import annotations

from typing import Any

from moto.ec2.exceptions import InvalidKeyPairFormatError
from moto.ec2.models.key_pairs import KeyPairBackend

from localcloud.api.patches import ApiError, patch


@patch(KeyPairBackend.import_key_pair, wraps=True)
def import_key_pair(original: Any, backend: Any, *arguments: Any, **given: Any) -> Any:
    """Import a public key. Raises ApiError (InvalidKey.Format)."""
    try:
        return original(backend, *arguments, **given)
    except InvalidKeyPairFormatError as error:
        raise ApiError("InvalidKey.Format", "Key is not in valid OpenSSH public key format") from error
