"""The metadata of moto's instances, with the credentials of their roles."""

from __future__ import annotations

import base64
import datetime
import threading
from collections.abc import Mapping
from typing import Any

from moto.core.utils import utcnow
from moto.sts.models import sts_backends

from localcloud.ec2.fleet import Fleet
from localcloud.ec2.instances import find_instance
from localcloud.imds.metadata import InstanceMetadata
from localcloud.settings import ACCOUNT

# Credentials last six hours on EC2, and new ones are there well before the old ones end.
_CREDENTIALS = datetime.timedelta(hours=6)
_EARLY = datetime.timedelta(minutes=30)


class MetadataLookup:
    """Looks up an instance's metadata by the address that a request comes from."""

    def __init__(self, fleet: Fleet, lifetime: datetime.timedelta = _CREDENTIALS) -> None:
        self._fleet = fleet
        self._lifetime = lifetime
        self._sessions: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def by_address(self, address: str) -> InstanceMetadata | None:
        """Return the metadata of the instance that has this address."""
        instance_id = self._fleet.by_address(address)
        instance = None if instance_id is None else find_instance(instance_id)
        return None if instance is None else self._metadata(instance)

    def _metadata(self, instance: Any) -> InstanceMetadata:
        backend = instance.ec2_backend
        profile = getattr(backend.iam_instance_profile_associations.get(instance.id), "iam_instance_profile", None)
        role: Any = profile.roles[0] if profile is not None and profile.roles else None
        # As it was at the launch: a key pair may be deleted meanwhile.
        key_pair = getattr(instance, "key_pair", None)
        options = instance.metadata_options
        interface = self._fleet.instance(instance.id).spec.interface
        return InstanceMetadata(
            instance_id=instance.id,
            image_id=instance.image_id,
            instance_type=instance.instance_type,
            region=backend.region_name,
            zone=instance.availability_zone,
            architecture=instance.architecture,
            account=backend.account_id,
            address=interface.address,
            mac=interface.mac,
            hostname=f"{interface.hostname}.{backend.region_name}.compute.internal",
            launched=instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            security_groups=tuple(group.name for group in instance.security_groups),
            subnet_id=instance.subnet_id or "",
            vpc_id=instance.vpc_id or "",
            block_devices=_block_devices(instance),
            tags={tag["key"]: tag["value"] for tag in instance.get_tags()},
            tokens_required=options.http_tokens == "required",
            hop_limit=int(options.http_put_response_hop_limit),
            enabled=options.http_endpoint == "enabled",
            tags_enabled=options.instance_metadata_tags == "enabled",
            public_key=key_pair.public_key if key_pair else None,
            key_name=instance.key_name,
            # moto keeps it as the API carried it, in Base64.
            user_data=base64.b64decode(str(instance.user_data)) if instance.user_data else None,
            profile_arn=getattr(profile, "arn", None),
            profile_id=getattr(profile, "id", None),
            role=role.name if role else None,
            credentials=lambda: self._credentials(instance.id, backend.region_name, role.arn),
        )

    def _credentials(self, instance_id: str, region: str, role_arn: str) -> Mapping[str, str]:
        with self._lock:
            current = self._sessions.get((instance_id, role_arn))
            if current is None or current.expiration - utcnow() < _EARLY:
                current = sts_backends[ACCOUNT]["aws"].assume_role(
                    region_name=region,
                    role_session_name=instance_id,
                    role_arn=role_arn,
                    policy="",
                    duration=int(self._lifetime.total_seconds()),
                    external_id="",
                )
                self._sessions[(instance_id, role_arn)] = current
        issued = current.expiration - self._lifetime
        return {
            "Code": "Success",
            "LastUpdated": issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Type": "AWS-HMAC",
            "AccessKeyId": current.access_key_id,
            "SecretAccessKey": current.secret_access_key,
            "Token": current.session_token,
            "Expiration": current.expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def _block_devices(instance: Any) -> dict[str, str]:
    root = instance.root_device_name
    others = [name for name, _ in instance.get_block_device_mapping if name != root]
    ebs = {f"ebs{number}": name.removeprefix("/dev/") for number, name in enumerate(others, 1)}
    return {"ami": root.removeprefix("/dev/"), "root": root, **ebs}
