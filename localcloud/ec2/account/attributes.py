"""What EC2 says of the account and of its regions: moto answers both without looking at what was asked."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses.account_attributes import AccountAttributes
from moto.ec2.responses.availability_zones_and_regions import AvailabilityZonesAndRegions

from localcloud.api.patches import ApiError, patch


@patch(AccountAttributes.describe_account_attributes)
def describe_account_attributes(response: Any) -> ActionResult:
    """DescribeAccountAttributes: those that are named, else all. Raises ApiError for one that EC2 has not."""
    vpc = response.ec2_backend.get_default_vpc()
    values = {
        "vpc-max-security-groups-per-interface": ["5"],
        "max-instances": ["20"],
        "supported-platforms": ["VPC"],
        "default-vpc": [vpc.id if vpc else "none"],
        "max-elastic-ips": ["5"],
        "vpc-max-elastic-ips": ["5"],
    }
    named = [str(name) for name in response._get_param("AttributeNames", [])] or list(values)
    if unknown := [name for name in named if name not in values]:
        raise ApiError("InvalidParameterValue", f"Value ({unknown[0]}) for parameter attributeName is invalid.")
    return ActionResult(
        {
            "AccountAttributes": [
                {"AttributeName": name, "AttributeValues": [{"AttributeValue": value} for value in values[name]]}
                for name in named
            ]
        }
    )


@patch(AvailabilityZonesAndRegions.describe_regions, wraps=True)
def describe_regions(original: Any, response: Any) -> Any:
    """DescribeRegions of regions that exist; moto leaves the others out."""
    known = {region.name for region in response.ec2_backend.describe_regions()}
    for name in response._get_param("RegionNames", []):
        if name not in known:
            raise ApiError("InvalidParameterValue", f"Invalid region name: {name}")
    return original(response)
