"""What an account sets for a whole region: that nothing is shared with everybody, that volumes are encrypted.

moto lacks the first, and keeps the second without heeding it.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.elastic_block_store import EBSBackend, Volume
from moto.ec2.responses import EC2Response
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.kms.models import KmsBackend, kms_backends

from localcloud.api.patches import ApiError, add, patch

_UNBLOCKED, _NEW, _ALL = "unblocked", "block-new-sharing", "block-all-sharing"
OWN_ALIAS = "alias/aws/ebs"


def encrypts(backend: Any) -> bool:
    """Say whether volumes are encrypted without being told to be."""
    return bool(getattr(backend, "ebs_encryption_by_default", False))  # moto's backends make images before they have it


def default_key(backend: Any) -> str:
    """Return the ARN of the key that encrypts a volume for which none is named."""
    return str(backend.default_kms_key_id or own_key(backend))


def own_key(backend: Any) -> str:
    """Return the ARN of the key that AWS itself encrypts volumes with in a region."""
    return str(backend._create_default_encryption_key())


def has_key(backend: Any, key: str) -> bool:
    """Say whether a region has a key of this id, ARN or alias."""
    if ":" in key and f":{backend.region_name}:" not in key:
        return False
    kms = kms_backends[backend.account_id][backend.region_name]
    name = key.rpartition(":")[2].removeprefix("key/")
    return bool(kms.alias_exists(name) if name.startswith("alias/") else name in kms.keys)


def is_own_key(backend: Any, key: str | None) -> bool:
    """Say whether a key, by its id, ARN or alias, is AWS's own."""
    return not key or key.endswith(OWN_ALIAS) or own_key(backend).endswith(key.rpartition("/")[2])


def check_shared_image(backend: Any) -> None:
    """Refuse to share an image with everybody where that is blocked, as it is in every account that is new.

    The user guide, "Manage the block public access setting for AMIs". Raises ApiError (OperationNotPermitted).
    """
    if _image_state(backend) != _UNBLOCKED:
        raise ApiError(
            "OperationNotPermitted",
            "You can't publicly share this image because block public access for AMIs is enabled for this account. To "
            "publicly share the image, you must call the DisableImageBlockPublicAccess API.",
        )


def check_shared_snapshot(backend: Any) -> None:
    """Refuse to share a snapshot with everybody where that is blocked. Raises ApiError (OperationNotPermitted)."""
    if _snapshot_state(backend) != _UNBLOCKED:
        raise ApiError(
            "OperationNotPermitted",
            "You can't publicly share this snapshot because block public access for snapshots is enabled for this "
            "account. To publicly share the snapshot, you must call the DisableSnapshotBlockPublicAccess API.",
        )


def _image_state(backend: Any) -> str:
    return getattr(backend, "image_block_public_access", _NEW)


def _snapshot_state(backend: Any) -> str:
    return getattr(backend, "snapshot_block_public_access", _UNBLOCKED)


def _requested(response: Any, name: str, *allowed: str) -> str:
    value = response._get_param(name)
    if value is None:
        raise ApiError("MissingParameter", f"The request must contain the parameter {name}")
    if value not in allowed:
        raise ApiError("InvalidParameterValue", f"Value ({value}) for parameter {name} is invalid.")
    response.error_on_dryrun()
    return str(value)


@add(EC2Response)
def enable_image_block_public_access(response: Any) -> ActionResult:
    """EnableImageBlockPublicAccess, at once: AWS takes up to ten minutes."""
    state = _requested(response, "ImageBlockPublicAccessState", _NEW)
    response.ec2_backend.image_block_public_access = state
    return ActionResult({"ImageBlockPublicAccessState": state})


@add(EC2Response)
def disable_image_block_public_access(response: Any) -> ActionResult:
    """DisableImageBlockPublicAccess, at once: AWS takes up to ten minutes."""
    response.error_on_dryrun()
    response.ec2_backend.image_block_public_access = _UNBLOCKED
    return ActionResult({"ImageBlockPublicAccessState": _UNBLOCKED})


@add(EC2Response)
def get_image_block_public_access_state(response: Any) -> ActionResult:
    """GetImageBlockPublicAccessState."""
    response.error_on_dryrun()
    state = _image_state(response.ec2_backend)
    return ActionResult({"ImageBlockPublicAccessState": state, "ManagedBy": "account"})


@add(EC2Response)
def enable_snapshot_block_public_access(response: Any) -> ActionResult:
    """EnableSnapshotBlockPublicAccess."""
    state = _requested(response, "State", _ALL, _NEW)
    response.ec2_backend.snapshot_block_public_access = state
    return ActionResult({"State": state})


@add(EC2Response)
def disable_snapshot_block_public_access(response: Any) -> ActionResult:
    """DisableSnapshotBlockPublicAccess."""
    response.error_on_dryrun()
    response.ec2_backend.snapshot_block_public_access = _UNBLOCKED
    return ActionResult({"State": _UNBLOCKED})


@add(EC2Response)
def get_snapshot_block_public_access_state(response: Any) -> ActionResult:
    """GetSnapshotBlockPublicAccessState."""
    response.error_on_dryrun()
    return ActionResult({"State": _snapshot_state(response.ec2_backend), "ManagedBy": "account"})


@add(EC2Response)
def get_ebs_default_kms_key_id(response: Any) -> ActionResult:
    """GetEbsDefaultKmsKeyId: AWS's own key by its alias, as long as no other one was chosen."""
    response.error_on_dryrun()
    return ActionResult({"KmsKeyId": response.ec2_backend.default_kms_key_id or OWN_ALIAS})


@add(EC2Response)
def reset_ebs_default_kms_key_id(response: Any) -> ActionResult:
    """ResetEbsDefaultKmsKeyId."""
    response.error_on_dryrun()
    response.ec2_backend.default_kms_key_id = ""
    return ActionResult({"KmsKeyId": OWN_ALIAS})


@patch(ElasticBlockStore.modify_ebs_default_kms_key_id)
def modify_ebs_default_kms_key_id(response: Any) -> ActionResult:
    """ModifyEbsDefaultKmsKeyId, to a key that the region has."""
    backend, key = response.ec2_backend, response._get_param("KmsKeyId")
    if not key:
        raise ApiError("MissingParameter", "The request must contain the parameter KmsKeyId")
    if not has_key(backend, key):
        raise ApiError("InvalidKmsKey.NotFound", f"The specified KMS key {key} does not exist")
    response.error_on_dryrun()
    return ActionResult({"KmsKeyId": backend.modify_ebs_default_kms_key_id(key)})


@patch(EBSBackend._create_default_encryption_key, wraps=True)
def create_default_encryption_key(original: Any, backend: Any) -> str:
    """Return AWS's own key, and let a default that was chosen stay so: moto puts its own in the place of it."""
    chosen = backend.default_kms_key_id
    arn = str(original(backend))
    backend.default_kms_key_id = chosen
    return arn


@patch(KmsBackend.create_alias, wraps=True)
def create_alias(original: Any, backend: Any, target_key_id: str, alias_name: str) -> Any:
    """Say of a key that gets one of AWS's own aliases that AWS manages it: nobody else can give those."""
    alias = original(backend, target_key_id, alias_name)
    if alias_name.startswith("alias/aws/"):
        backend.keys[backend.get_key_id(target_key_id)].key_manager = "AWS"
    return alias


@patch(Volume.__init__, wraps=True)
def initialize(original: Any, volume: Any, ec2_backend: Any, *arguments: Any, **given: Any) -> None:
    """Encrypt a volume where the account or its snapshot says so, by the key that is named, else the snapshot's."""
    original(volume, ec2_backend, *arguments, **given)
    snapshot = ec2_backend.snapshots.get(volume.snapshot_id)
    volume.encrypted = bool(volume.encrypted or encrypts(ec2_backend))
    if volume.encrypted and not volume.kms_key_id:
        volume.kms_key_id = getattr(snapshot, "kms_key_id", None) or default_key(ec2_backend)
