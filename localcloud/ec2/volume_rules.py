"""What EBS volumes may be: sizes, IOPS and throughput by type, and what may be changed of one, when.

https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html
https://docs.aws.amazon.com/ebs/latest/userguide/modify-volume-requirements.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from moto.core.utils import utcnow

from localcloud.api.patches import ApiError


@dataclass(frozen=True)
class VolumeType:
    """Sizes in GiB; the IOPS that may be asked for, if any, and how many for each GiB; MiB/s that may be asked for."""

    sizes: tuple[int, int]
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    throughput: tuple[int, int] | None = None


TYPES = {
    "gp3": VolumeType((1, 65536), (3000, 80000), 500, (125, 2000)),
    "gp2": VolumeType((1, 16384)),
    "io1": VolumeType((4, 16384), (100, 64000), 50),
    "io2": VolumeType((4, 65536), (100, 256000), 1000),
    "st1": VolumeType((125, 16384)),
    "sc1": VolumeType((125, 16384)),
    "standard": VolumeType((1, 1024)),
}
# What a volume has when it is not asked for.
_DEFAULT_IOPS, _DEFAULT_THROUGHPUT = 3000, 125
_MIB_PER_IO = 0.25
# After that a modification is over. Days may pass on AWS, in which a volume serves with its new size.
_OPTIMIZING_SECONDS = 3.0
_DEVICE = re.compile(r"(/dev/)?(sd[a-z][0-9]{0,2}|xvd[a-z]{1,2}[0-9]{0,2})")
_REST_SECONDS = 6 * 3600


def check_volume(kind: str, size: int, iops: int | None, throughput: int | None) -> None:
    """Raise ApiError for a volume that EBS does not have.

    Codes: UnknownVolumeType, InvalidParameterValue, InvalidParameterCombination.
    """
    if kind not in TYPES:
        raise ApiError("UnknownVolumeType", f"Unsupported volume type '{kind}' for volume creation.")
    limits = TYPES[kind]
    smallest, largest = limits.sizes
    if size < smallest:
        raise _wrong(f"Volume of {size}GiB is too small for volume type {kind}; minimum is {smallest}GiB.")
    if size > largest:
        raise _wrong(f"Volume of {size}GiB is too large for volume type {kind}; maximum is {largest}GiB.")
    if iops is not None and limits.iops is None:
        raise _mixed(f"The parameter iops is not supported for {kind} volumes.")
    if iops is None and kind in {"io1", "io2"}:
        raise _mixed(f"The parameter iops must be specified for {kind} volumes.")
    if throughput is not None and limits.throughput is None:
        raise _mixed("throughput can only be specified for volumeType gp3.")
    if iops is not None and limits.iops is not None:
        _check_between("Volume iops", iops, limits.iops)
        # gp3's own 3,000 are there at any size.
        if iops > max(size * limits.iops_per_gib, _DEFAULT_IOPS if kind == "gp3" else 0):
            raise _wrong(
                f"Iops to volume size ratio of {iops / size:.6f} is too high; maximum is {limits.iops_per_gib}.000000."
            )
    if throughput is not None and limits.throughput is not None:
        _check_between("Volume throughput", throughput, limits.throughput)
        ratio = throughput / (iops or _DEFAULT_IOPS)
        if ratio > _MIB_PER_IO:
            raise _wrong(
                f"Throughput (MiBps) to iops ratio of {ratio:.6f} is too high; maximum is {_MIB_PER_IO:.6f} MiBps per "
                "iops."
            )


def performance(kind: str, size: int, iops: int | None, throughput: int | None) -> tuple[int | None, int | None]:
    """Return the IOPS and the throughput that a volume shows: what it was asked for, else what its type has."""
    if kind == "gp3":
        return iops or _DEFAULT_IOPS, throughput or _DEFAULT_THROUGHPUT
    if kind == "gp2":
        return min(max(3 * size, 100), 16000), None
    return iops, None


def check_device_name(name: str) -> None:
    """Raise ApiError (InvalidParameterValue) for a name that no EBS volume is attached as.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
    """
    if not _DEVICE.fullmatch(name):
        raise _wrong(f"Value ({name}) for parameter device is invalid. {name} is not a valid EBS device name.")


def check_modification(volume: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the size, type, IOPS and throughput of a volume once ModifyVolume (`wanted`) has changed it.

    Raises ApiError: also IncorrectModificationState while one modification is under way, and
    VolumeModificationRateExceeded for six hours after it.
    """
    size = int(wanted.get("Size") or volume.size)
    kind = wanted.get("VolumeType") or volume.volume_type
    if not any(wanted.get(name) for name in ("Size", "VolumeType", "Iops", "Throughput", "MultiAttachEnabled")):
        raise ApiError("InvalidParameterCombination", "Must specify at least one modification.")
    if size < volume.size:
        raise _wrong("New size cannot be smaller than existing size")
    # What a type has of itself does not go over to another one.
    stays = kind == volume.volume_type and kind in {"gp3", "io1", "io2"}
    iops = wanted.get("Iops") or (volume.iops if stays else None)
    throughput = wanted.get("Throughput") or (volume.throughput if stays and kind == "gp3" else None)
    check_volume(kind, size, iops, throughput)
    if volume.modifications:
        state, age = modification_state(volume.modifications[-1]), _age(volume.modifications[-1])
        if state != "completed":
            raise ApiError(
                "IncorrectModificationState",
                f"Volume {volume.id} in modification state {state.upper()} is not in a state to be modified.",
            )
        if age < _REST_SECONDS:
            raise ApiError(
                "VolumeModificationRateExceeded",
                "You've reached the maximum modification rate per volume limit. Wait at least 6 hours between "
                "modifications per EBS volume.",
            )
    iops, throughput = performance(kind, size, iops, throughput)
    return {"size": size, "volume_type": kind, "iops": iops, "throughput": throughput}


def modification_state(modification: Any) -> str:
    """Return how far a modification is: the volume has its new size as soon as it is `optimizing`."""
    return "optimizing" if _age(modification) < _OPTIMIZING_SECONDS else "completed"


def _age(modification: Any) -> float:
    return float((utcnow() - modification.start_time).total_seconds())


def _check_between(what: str, value: int, limits: tuple[int, int]) -> None:
    if value < limits[0]:
        raise _wrong(f"{what} of {value} is too low; minimum is {limits[0]}.")
    if value > limits[1]:
        raise _wrong(f"{what} of {value} is too high; maximum is {limits[1]}.")


def _wrong(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)


def _mixed(message: str) -> ApiError:
    return ApiError("InvalidParameterCombination", message)
