"""What IAM has to look up in moto of the place that a call goes to: tags, keys, the roles of instance profiles."""

from __future__ import annotations

from collections.abc import Mapping

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.s3.models import FakeKey, s3_backends
from moto.ssm.models import ssm_backends

from localcloud.iam.actions import Place
from localcloud.settings import ACCOUNT


def place(region: str) -> Place:
    """Return the place of calls to a region."""

    def tags(identifier: str) -> dict[str, str]:
        return dict(ec2_backends[ACCOUNT][region].tags.get(identifier, {}))

    def key_pair(name: str) -> str:
        return str(getattr(ec2_backends[ACCOUNT][region].key_pairs.get(name), "id", ""))

    def key_arn(name: str) -> str:
        backend = kms_backends[ACCOUNT][region]
        wanted = name.rpartition(":")[2]
        if wanted.startswith("alias/") and not wanted.startswith("alias/aws/"):
            wanted = backend.get_key_id_from_alias(wanted) or wanted
        wanted = wanted.removeprefix("key/")
        return f"arn:aws:kms:{region}:{ACCOUNT}:key/{wanted}"

    def has_object(bucket: str, key: str) -> bool:
        there = s3_backends[ACCOUNT]["aws"].buckets.get(bucket)
        # What was deleted in a bucket with versions is a marker, and is answered for as if it had never been.
        return there is not None and isinstance(there.keys.get(key), FakeKey)

    def parameter_keys(names: list[str], path: str) -> tuple[str, ...]:
        there = ssm_backends[ACCOUNT][region]._parameters
        wanted = [name.partition(":")[0] for name in names]
        if path:
            wanted += [name for name in list(there) if name.startswith(path.rstrip("/") + "/")]
        newest = [found[-1] for name in wanted if (found := there.get(name))]
        return tuple(dict.fromkeys(str(one.keyid) for one in newest if one.parameter_type == "SecureString"))

    def profile_roles(name: str) -> tuple[str, ...]:
        profiles = list(iam_backends[ACCOUNT]["aws"].instance_profiles.values())
        return tuple(role.arn for one in profiles if one.name == name for role in one.roles)

    def tagged_instances(targets: Mapping[str, list[str]]) -> tuple[str, ...]:
        named = tuple(targets.get("InstanceIds", ()))
        wanted = {key.removeprefix("tag:"): values for key, values in targets.items() if key.startswith("tag:")}
        if not wanted:
            return named
        every = ec2_backends[ACCOUNT][region].all_instances()
        return named + tuple(
            one.id for one in every if all(tags(one.id).get(key) in values for key, values in wanted.items())
        )

    return Place(region, ACCOUNT, tags, key_pair, key_arn, has_object, parameter_keys, profile_roles, tagged_instances)
