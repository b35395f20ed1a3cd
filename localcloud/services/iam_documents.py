"""What IAM asks of trust policies, and the clients of identity providers, which moto lacks."""

from __future__ import annotations

from typing import Any

from moto.core.responses import EmptyResult
from moto.iam.models import IAMBackend
from moto.iam.policy_validation import IAMTrustPolicyDocumentValidator
from moto.iam.responses import IamResponse

from localcloud.api.patches import add, patch


@patch(IAMBackend.create_role, wraps=True)
def create_role(
    original: Any, backend: Any, role_name: str, assume_role_policy_document: str, *more: Any, **given: Any
) -> Any:
    """Make a role with a trust policy that is one, as moto has it of UpdateAssumeRolePolicy."""
    IAMTrustPolicyDocumentValidator(assume_role_policy_document).validate()
    return original(backend, role_name, assume_role_policy_document, *more, **given)


@add(IamResponse)
def add_client_id_to_open_id_connect_provider(response: Any) -> EmptyResult:
    """AddClientIDToOpenIDConnectProvider: one that it has already is no error."""
    provider = response.backend.get_open_id_connect_provider(response._get_param("OpenIDConnectProviderArn"))
    client = str(response._get_param("ClientID"))
    if client not in provider.client_id_list:
        provider.client_id_list.append(client)
    return EmptyResult()


@add(IamResponse)
def remove_client_id_from_open_id_connect_provider(response: Any) -> EmptyResult:
    """RemoveClientIDFromOpenIDConnectProvider: one that it has not is no error."""
    provider = response.backend.get_open_id_connect_provider(response._get_param("OpenIDConnectProviderArn"))
    client = str(response._get_param("ClientID"))
    if client in provider.client_id_list:
        provider.client_id_list.remove(client)
    return EmptyResult()
