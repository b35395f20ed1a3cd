"""What a launch is refused for before anything of it is made, from its counts to its CPU credits."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidUserDataError
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import convert_tag_spec, parse_user_data
from moto.iam.models import iam_backends

from localcloud.api.patches import ApiError, patch
from localcloud.ec2.launch.block_devices import launch_mappings
from localcloud.ec2.launch.places import check_place
from localcloud.machine.interface import Size

Request = dict[str, Any]

# Types whose processors are paid for by credits, and what each does when a launch does not say.
_BURSTABLE = {"t2": "standard", "t3": "unlimited", "t3a": "unlimited", "t4g": "unlimited"}
_CREDITS = ("standard", "unlimited")
_USER_DATA_BYTES = 16 << 10
# What a launch makes, and so can tag.
TAGGED = {"instance", "volume", "network-interface", "spot-instances-request", "elastic-gpu"}


def credits_of(instance_type: str, requested: dict[str, Any] | None) -> str | None:
    """Return how an instance's processors are paid for, None for a type that has no credits.

    `requested` is a launch's CreditSpecification. Raises ApiError (InstanceCreditSpecification.NotSupported,
    InvalidParameterValue).
    """
    default = _BURSTABLE.get(instance_type.partition(".")[0])
    if not requested:
        return default
    wanted = str(requested.get("CpuCredits", ""))
    if wanted not in _CREDITS:
        raise ApiError("InvalidParameterValue", f"Value ({wanted}) for parameter CpuCredits is invalid.")
    if default is None:
        raise ApiError(
            "InstanceCreditSpecification.NotSupported",
            f"The {instance_type} instance type does not support T2 Unlimited.",
        )
    return wanted


@dataclass(frozen=True)
class Launch:
    """A launch that nothing is known against: what its request and its image come to, in moto's objects.

    `interfaces` are moto's arguments for network interfaces, the first one complete; `public` says whether its address
    is public, `address` is the private one that was asked for.
    """

    request: Request
    image: Any
    instance_type: str
    size: Size
    subnet: Any
    groups: list[Any]
    interfaces: list[dict[str, Any]]
    public: bool
    address: str | None
    volumes: list[dict[str, Any]]
    tags: dict[str, dict[str, str]]
    user_data: Any
    profile: Any
    cpu_credits: str | None
    counts: tuple[int, int]


def check(backend: Any, request: Request) -> Launch:
    """Return what a settled request of RunInstances comes to. Raises ApiError, or moto's errors: EC2's refusals."""
    counts = _counts(request)
    image = _image(backend, request)
    if "InstanceRequirements" in request and "InstanceType" not in request:
        raise ApiError(
            "InvalidParameterCombination",
            "InstanceRequirements are for EC2 Fleet and Auto Scaling groups: name an instance type.",
        )
    kind = str(request.get("InstanceType") or "m1.small")
    size = size_of(kind, image)
    place = check_place(backend, request, kind, counts[1])
    if key := request.get("KeyName"):
        backend.describe_key_pairs(key_names=[key])
    return Launch(
        request,
        image,
        kind,
        size,
        place.subnet,
        place.groups,
        place.interfaces,
        place.public,
        place.address,
        launch_mappings(image, request.get("BlockDeviceMappings") or [], backend.snapshots),
        _tags(request),
        checked_user_data(request.get("UserData")),
        profile_of(backend, request.get("IamInstanceProfile")),
        credits_of(kind, request.get("CreditSpecification")),
        counts,
    )


def _counts(request: Request) -> tuple[int, int]:
    for name in ("MinCount", "MaxCount"):
        if name not in request:
            raise ApiError("MissingParameter", f"The request must contain the parameter {name}")
        if int(request[name]) < 1:
            raise _wrong(f"Invalid value '{request[name]}' for {name}. Must be greater than 0.")
    least, most = int(request["MinCount"]), int(request["MaxCount"])
    if least > most:
        raise ApiError("InvalidParameterCombination", f"MinCount ({least}) must not be more than MaxCount ({most}).")
    return least, most


def _image(backend: Any, request: Request) -> Any:
    image_id = request.get("ImageId")
    if not image_id:
        raise ApiError("MissingParameter", "The request must contain the parameter ImageId")
    images = backend.describe_images(ami_ids=[image_id])
    if not images:  # moto keeps those that were deregistered
        raise ApiError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    image = images[0]
    if image.state != "available":
        raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is not available")
    return image


def size_of(instance_type: str, image: Any) -> Size:
    """Return what an instance type gives a machine.

    Raises ApiError for one that does not exist or can't run the image.
    """
    if instance_type not in INSTANCE_TYPES:
        raise ApiError("InvalidInstanceType", f"The instance type '{instance_type}' does not exist")
    supported = INSTANCE_TYPES[instance_type]["ProcessorInfo"]["SupportedArchitectures"]
    if image.architecture not in supported:
        raise ApiError(
            "InvalidParameterValue",
            f"The architecture '{','.join(supported)}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI.",
        )
    details = INSTANCE_TYPES[instance_type]
    return Size(int(details["MemoryInfo"]["SizeInMiB"]) << 20, int(details["VCpuInfo"]["DefaultVCpus"]))


def checked_user_data(given: Any) -> Any:
    """Return user data as moto keeps it, None for none.

    Raises ApiError (InvalidParameterValue) for what is not base64, and for more than 16 KiB, before the encoding.
    """
    # A blob (ModifyInstanceAttribute's) has been decoded by now, which moto overlooks.
    encoded = base64.b64encode(given).decode() if isinstance(given, bytes) else given and str(given)
    try:
        user_data = parse_user_data(encoded)
    except InvalidUserDataError as error:  # which is a launch template's code for it
        raise _wrong("Invalid BASE64 encoding of user data") from error
    if user_data is not None and len(base64.b64decode(str(user_data))) > _USER_DATA_BYTES:
        raise _wrong(f"User data is limited to {_USER_DATA_BYTES} bytes")
    return user_data


def profile_of(backend: Any, given: dict[str, Any] | None) -> Any:
    """Return the instance profile that a request names by its name or ARN, None for none.

    Raises ApiError (InvalidParameterValue) for one that does not exist, InvalidParameterCombination for both.
    """
    given = {key: value for key, value in (given or {}).items() if value}
    if not given:
        return None
    if len(given) > 1:
        raise ApiError("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in "
                       "combination with 'iamInstanceProfile.arn'")  # fmt: skip
    ((key, value),) = given.items()
    profiles = iam_backends[backend.account_id][backend.partition].instance_profiles.values()
    profile = next((each for each in profiles if value == (each.arn if key == "Arn" else each.name)), None)
    if profile is None:
        word, kind = ("arn", "ARN") if key == "Arn" else ("name", "name")
        raise _wrong(f"Value ({value}) for parameter iamInstanceProfile.{word} is invalid. "
                     f"Invalid IAM Instance Profile {kind}")  # fmt: skip
    return profile


def _tags(request: Request) -> dict[str, dict[str, str]]:
    for specification in request.get("TagSpecifications") or []:
        if not specification.get("ResourceType"):
            raise ApiError("InvalidParameter", "Tag specification resource type must have a value")
        if specification["ResourceType"] not in TAGGED:
            kind = specification["ResourceType"]
            raise _wrong(f"'{kind}' is not a valid taggable resource type for this operation.")
    return convert_tag_spec(request.get("TagSpecifications") or [])


def _wrong(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)


@patch(InstanceResponse.describe_instance_credit_specifications)
def describe_instance_credit_specifications(response: Any) -> ActionResult:
    """DescribeInstanceCreditSpecifications: of the named instances, else of all that are `unlimited`.

    Recently terminated ones are among them, as on AWS.
    """
    named = response._get_param("InstanceIds", [])
    backend = response.ec2_backend
    instances = backend.get_multi_instances_by_id(named) if named else backend.all_instances()
    rows = [
        {"InstanceId": instance.id, "CpuCredits": getattr(instance, "cpu_credits", None) or "standard"}
        for instance in instances
    ]
    return ActionResult(
        {"InstanceCreditSpecifications": [row for row in rows if named or row["CpuCredits"] == "unlimited"]}
    )
