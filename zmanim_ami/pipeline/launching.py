"""RunInstances: one instance as the image wants it, and what AWS may say to that, now or for some seconds.

What is the same for each launch stands here; where an instance is put, and what it is for, says who launches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import botocore.exceptions

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import roles
from zmanim_ami.pipeline.visibility import PATIENCE_SECONDS

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import InstanceTypeType, ResourceTypeType
    from mypy_boto3_ec2.type_defs import TagSpecificationTypeDef

# How the codes begin by which EC2 says that it can't launch what it is asked for.
_NOT_LAUNCHED = (
    *("Insufficient", "VcpuLimit", "InstanceLimit", "MaxSpot", "Unsupported", "InvalidParameter", "InvalidSubnet"),
)


@dataclass(frozen=True)
class Order:
    """One instance to launch. `token` is RunInstances' client token, `options` are further parameters of its."""

    ami_id: str
    instance_type: str
    environment: str
    token: str
    tags: Mapping[str, str]
    volume_tags: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def run_instance(clients: aws.Clients, order: Order, poller: aws.Poller, *, fix: str) -> str:
    """Launch one instance with the profile of its environment, and return its id; `fix` is what to do if AWS can't.

    Raises `account-not-prepared`, `not-launched`, aws's errors.
    """
    profile = roles.name(order.environment)
    kind: InstanceTypeType = order.instance_type  # type: ignore[assignment]  # any type that AWS has
    refused: list[str] = []

    def attempt() -> str | None:
        try:
            instances = clients.ec2.run_instances(
                ImageId=order.ami_id,
                InstanceType=kind,
                MinCount=1,
                MaxCount=1,
                ClientToken=order.token,  # a retried call launches nothing twice
                IamInstanceProfile={"Name": profile},
                MetadataOptions={
                    "HttpEndpoint": "enabled",
                    "HttpTokens": "required",
                    "HttpPutResponseHopLimit": 1,
                    "InstanceMetadataTags": "enabled",
                },
                TagSpecifications=_tags(instance=order.tags, volume=order.volume_tags),
                **order.options,
            )
        except botocore.exceptions.ClientError as error:
            if "instance profile" in str(error).lower():
                # account.apply may have made it seconds ago: it is known to IAM some time before it is known to EC2.
                refused.append(f"waiting for {profile} to be visible (eventual consistency: EC2 does not know it)")
            elif aws.error_code(error) == "InsufficientInstanceCapacity":
                refused.append(f"waiting for capacity: {error}")
            elif aws.error_code(error).startswith(_NOT_LAUNCHED):
                raise not_launched(str(error)) from error
            else:
                raise
            if refused[-1] not in refused[:-1]:
                say(refused[-1])
            return None
        return instances["Instances"][0]["InstanceId"]

    def not_launched(found: str) -> Error:
        return Error(
            f"AWS does not launch an instance of {order.ami_id}",
            code="not-launched",
            expected=f"one instance of the type {order.instance_type}",
            found=found,
            fix=fix,
        )

    def late() -> Error:
        if "capacity" in refused[-1]:
            return not_launched(refused[-1])
        return Error(
            f"EC2 knows no instance profile {profile}",
            code="account-not-prepared",
            expected=f"the instance profile {profile} with its role",
            found="none",
            fix=f"./inv account.apply --environment {order.environment}",
        )

    with aws.translate_errors(f"launching an instance of {order.ami_id}"):
        return poller.wait_for(attempt, PATIENCE_SECONDS, late)


def _tags(**kinds: Mapping[str, str]) -> list[TagSpecificationTypeDef]:
    return [_specification(kind, tags) for kind, tags in kinds.items() if tags]


def _specification(kind: Any, tags: Mapping[str, str]) -> TagSpecificationTypeDef:
    resource: ResourceTypeType = kind
    return {"ResourceType": resource, "Tags": [{"Key": name, "Value": value} for name, value in tags.items()]}
