"""What IAM looks up in moto's services to decide a call: tags, keys, objects, the roles of instance profiles.

Each look-up returns something empty for what does not exist: then the service itself says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moto.core.exceptions import ServiceException
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.kms.utils import KEY_ID_LEN
from moto.s3.models import FakeKey, s3_backends
from moto.ssm.models import ssm_backends

from localcloud.ec2.launch.templates import parameter_of, settle, with_template
from localcloud.settings import ACCOUNT


@dataclass(frozen=True)
class Lookups:
    """The look-ups for calls to one region."""

    region: str
    account: str = ACCOUNT

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN of this region and account."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def tags(self, identifier: str) -> dict[str, str]:
        """Return the tags of a resource of EC2."""
        return dict(ec2_backends[self.account][self.region].tags.get(identifier, {}))

    def owner_of(self, image: str) -> str:
        """Return whose an image is, as ec2:Owner says it: an alias of AWS's, or an account; empty for no image."""
        existing = ec2_backends[self.account][self.region].amis.get(image)
        return str(existing.owner_alias or existing.owner_id) if existing else ""

    def snapshots_of(self, image: str) -> tuple[str, ...]:
        """Return the ids of an image's snapshots."""
        existing = ec2_backends[self.account][self.region].amis.get(image)
        volumes = [each.get("Ebs", {}) for each in existing.block_device_mappings] if existing else []
        return tuple(str(each["SnapshotId"]) for each in volumes if each.get("SnapshotId"))

    def key_pair(self, name: str) -> str:
        """Return the id of a key pair."""
        return str(getattr(ec2_backends[self.account][self.region].key_pairs.get(name), "id", ""))

    def key_arn(self, name: str) -> str:
        """Return the ARN of a KMS key by its id, ARN or alias; AWS's own aliases stay as they are."""
        key = name.rpartition(":")[2]
        if key.startswith("alias/") and not key.startswith("alias/aws/"):
            key = kms_backends[self.account][self.region].get_key_id_from_alias(key) or key
        return self.arn("kms", f"key/{key.removeprefix('key/')}")

    def key_of_ciphertext(self, ciphertext: bytes) -> str:
        """Return the id of the key that something is encrypted by, as moto writes it in front, else ""."""
        name = ciphertext[:KEY_ID_LEN].decode("latin-1")
        return name if name in kms_backends[self.account][self.region].keys else ""

    def has_object(self, bucket: str, key: str) -> bool:
        """Say whether a bucket has an object; what was deleted in a bucket with versions is a marker, and no object."""
        existing = s3_backends[self.account]["aws"].buckets.get(bucket)
        return existing is not None and isinstance(existing.keys.get(key), FakeKey)

    def public_read(self, action: str, resource: str) -> bool:
        """Say whether an object's ACL lets everybody do this: read it as it is now, which is all that it can give."""
        bucket, _, key = resource.removeprefix("arn:aws:s3:::").partition("/")
        existing = s3_backends[self.account]["aws"].buckets.get(bucket)
        if action != "s3:GetObject" or existing is None:
            return False
        block = existing.public_access_block
        found = existing.keys.get(key)
        open_to_all = isinstance(found, FakeKey) and found.acl is not None and bool(found.acl.public_read)
        return open_to_all and not (block is not None and block.ignore_public_acls)

    def parameter_keys(self, names: list[str], path: str) -> tuple[str, ...]:
        """Return the keys of the SecureStrings among the named parameters and below a path (unless that is empty)."""
        parameters = ssm_backends[self.account][self.region]._parameters
        wanted = [name.partition(":")[0] for name in names]
        if path:
            wanted += [name for name in list(parameters) if name.startswith(path.rstrip("/") + "/")]
        newest = [versions[-1] for name in wanted if (versions := parameters.get(name))]
        return tuple(dict.fromkeys(str(one.keyid) for one in newest if one.parameter_type == "SecureString"))

    def profile_roles(self, name: str) -> tuple[str, ...]:
        """Return the ARNs of an instance profile's roles."""
        profiles = list(iam_backends[self.account]["aws"].instance_profiles.values())
        return tuple(role.arn for profile in profiles if profile.name == name for role in profile.roles)

    def launch(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Return what a request of RunInstances comes to with its template, and the parameter that names its image.

        Where that fails it is what is known so far, and the launch is refused later.
        """
        backend, name = ec2_backends[self.account][self.region], ""
        known = dict(request)
        try:
            known = with_template(backend, known)
            name = parameter_of(known)
            known = settle(backend, known)
        except ServiceException:
            pass
        return known, name

    def template_id(self, named: Mapping[str, Any]) -> str:
        """Return the id of the launch template that a request names by its id or name, else ""."""
        ids = ec2_backends[self.account][self.region].launch_template_name_to_ids
        return str(named.get("LaunchTemplateId") or ids.get(str(named.get("LaunchTemplateName")), ""))

    def target_instances(self, targets: Mapping[str, list[str]]) -> tuple[str, ...]:
        """Return the ids of the instances that a command's targets name, by their ids or by their tags."""
        named = tuple(targets.get("InstanceIds", ()))
        wanted = {key.removeprefix("tag:"): values for key, values in targets.items() if key.startswith("tag:")}
        every = ec2_backends[self.account][self.region].all_instances() if wanted else []
        return named + tuple(
            one.id for one in every if all(self.tags(one.id).get(key) in values for key, values in wanted.items())
        )
