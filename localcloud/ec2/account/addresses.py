"""Elastic IP addresses: one leaves what had it as soon as it is given to something else."""

from __future__ import annotations

from typing import Any

from moto.ec2.responses.elastic_ip_addresses import ElasticIPAddresses

from localcloud.api.patches import patch


# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateAddress.html: reassociation is automatic, unless
# AllowReassociation is false.
@patch(ElasticIPAddresses.associate_address, wraps=True)
def associate_address(original: Any, response: Any) -> Any:
    """AssociateAddress; moto's takes an address that something has only where the call asks for that."""
    response.params.setdefault("AllowReassociation", True)
    every = response.ec2_backend.addresses
    before = {address: address.eni for address in every}
    result = original(response)
    for address in every:
        left = before[address]
        if left and left is not address.eni and left.public_ip == address.public_ip:
            left.public_ip = None
    return result
