"""IAM and STS: roles, profiles, users, sessions, and who may do what."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.rows import Refused, Row, Step, row
from tests.contract.things import trust

DENIED = "IAM/latest/UserGuide/reference_policies_evaluation-logic.html"
NONE = {"RoleName": "none"}
ROLE = {"RoleName": "$role"}
ANY = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}]}
)
ARN = "arn:aws:iam::$account:role/$role"


def of_unknown(operation: str, **request: Any) -> Row:
    """An operation on what does not exist."""
    return row(f"iam:{operation}", "one that does not exist", request, "NoSuchEntity")


ROLES = (
    row("iam:CreateRole", "made", {"RoleName": "r", "AssumeRolePolicyDocument": trust("ec2")}, {"Role.Arn": "arn:aws:iam::$account:role/r", "Role.RoleId": ...}),
    row("iam:CreateRole", "a name that is taken", {"RoleName": "$role", "AssumeRolePolicyDocument": trust("ec2")}, "EntityAlreadyExists"),
    row("iam:CreateRole", "a policy that is none", {"RoleName": "r", "AssumeRolePolicyDocument": "{"}, "MalformedPolicyDocument"),
    of_unknown("GetRole", **NONE),
    of_unknown("DeleteRole", **NONE),
    of_unknown("PutRolePolicy", **NONE, PolicyName="p", PolicyDocument=ANY),
    of_unknown("ListRolePolicies", **NONE),
    of_unknown("TagRole", **NONE, Tags=[{"Key": "a", "Value": "b"}]),
    row("iam:GetRolePolicy", "one that it has not", {**ROLE, "PolicyName": "none"}, "NoSuchEntity"),
    row("iam:GetRolePolicy", "one that it has", {**ROLE, "PolicyName": "p"}, {"PolicyName": "p"}, before=(Step("iam:PutRolePolicy", {**ROLE, "PolicyName": "p", "PolicyDocument": ANY}),)),
    row("iam:PutRolePolicy", "a policy that is none", {**ROLE, "PolicyName": "p", "PolicyDocument": "{"}, "MalformedPolicyDocument"),
    row("iam:DeleteRolePolicy", "gone afterwards", {**ROLE, "PolicyName": "p"}, {}, before=(Step("iam:PutRolePolicy", {**ROLE, "PolicyName": "p", "PolicyDocument": ANY}),), then=(Step("iam:ListRolePolicies", ROLE, {"PolicyNames": []}),)),
    row("iam:DeleteRole", "that still has policies", ROLE, "DeleteConflict", before=(Step("iam:PutRolePolicy", {**ROLE, "PolicyName": "p", "PolicyDocument": ANY}),)),
    row("iam:DeleteRole", "that is in a profile", ROLE, "DeleteConflict", before=(Step("iam:GetInstanceProfile", {"InstanceProfileName": "$profile"}),)),
    row("iam:UpdateAssumeRolePolicy", "a policy that is none", {**ROLE, "PolicyDocument": "{"}, "MalformedPolicyDocument"),
    row("iam:UpdateAssumeRolePolicy", "another trust", {**ROLE, "PolicyDocument": trust("ssm")}, {}),
    row("iam:ListRoles", "all of them", {"PathPrefix": "/"}, {"contains(Roles[].RoleName, 'own')": True}, before=(Step("iam:GetRole", ROLE),)),
    row("iam:AttachRolePolicy", "a policy of AWS's", {**ROLE, "PolicyArn": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"}, {}, then=(Step("iam:ListAttachedRolePolicies", ROLE, {"AttachedPolicies[0].PolicyName": "AmazonSSMManagedInstanceCore"}),)),
    of_unknown("AttachRolePolicy", RoleName="$role", PolicyArn="arn:aws:iam::aws:policy/None"),
    row("iam:CreateInstanceProfile", "made", {"InstanceProfileName": "p"}, {"InstanceProfile.Arn": "arn:aws:iam::$account:instance-profile/p"}),
    row("iam:CreateInstanceProfile", "a name that is taken", {"InstanceProfileName": "$profile"}, "EntityAlreadyExists"),
    of_unknown("GetInstanceProfile", InstanceProfileName="none"),
    of_unknown("AddRoleToInstanceProfile", InstanceProfileName="none", RoleName="$role"),
    row("iam:AddRoleToInstanceProfile", "one role alone", {"InstanceProfileName": "$profile", **ROLE}, "LimitExceeded"),
    row("iam:RemoveRoleFromInstanceProfile", "free again", {"InstanceProfileName": "$profile", **ROLE}, {}, then=(Step("iam:GetInstanceProfile", {"InstanceProfileName": "$profile"}, {"InstanceProfile.Roles": []}),)),
    row("iam:CreateOpenIDConnectProvider", "GitHub's", {"Url": "https://token.actions.githubusercontent.com", "ClientIDList": ["sts.amazonaws.com"]}, {"OpenIDConnectProviderArn": "arn:aws:iam::$account:oidc-provider/token.actions.githubusercontent.com"}),
    of_unknown("GetOpenIDConnectProvider", OpenIDConnectProviderArn="arn:aws:iam::$account:oidc-provider/none.example"),
    of_unknown("AddClientIDToOpenIDConnectProvider", OpenIDConnectProviderArn="arn:aws:iam::$account:oidc-provider/none.example", ClientID="sts.amazonaws.com"),
    row("iam:AddClientIDToOpenIDConnectProvider", "twice is no error", {"OpenIDConnectProviderArn": "$provider", "ClientID": "two"}, {}, before=(Step("iam:AddClientIDToOpenIDConnectProvider", {"OpenIDConnectProviderArn": "$provider", "ClientID": "two"}),), then=(Step("iam:GetOpenIDConnectProvider", {"OpenIDConnectProviderArn": "$provider"}, {"ClientIDList": ["sts.amazonaws.com", "two"]}),)),
    row("iam:RemoveClientIDFromOpenIDConnectProvider", "gone, and again no error", {"OpenIDConnectProviderArn": "$provider", "ClientID": "sts.amazonaws.com"}, {}, then=(Step("iam:GetOpenIDConnectProvider", {"OpenIDConnectProviderArn": "$provider"}, {"ClientIDList": []}), Step("iam:RemoveClientIDFromOpenIDConnectProvider", {"OpenIDConnectProviderArn": "$provider", "ClientID": "none"}))),
    of_unknown("GetUser", UserName="none"),
    row("iam:CreateUser", "a name that is taken", {"UserName": "$user"}, "EntityAlreadyExists"),
    row("iam:CreateAccessKey", "for a user", {"UserName": "$user"}, {"AccessKey.Status": "Active", "AccessKey.SecretAccessKey": ...}),
    row("iam:GetAccountSummary", "numbers", {}, {"SummaryMap.Users": 0}),
    row("iam:SimulatePrincipalPolicy", "what a role may", {"PolicySourceArn": ARN, "ActionNames": ["s3:ListAllMyBuckets"]}, Refused("UnsupportedOperation")),
)  # fmt: skip
SESSIONS = (
    row("sts:GetCallerIdentity", "the owner", {}, {"Account": "$account", "Arn": "arn:aws:iam::$account:root"}),
    row("sts:GetCallerIdentity", "a user, though nothing is allowed", {}, {"Arn": "arn:aws:iam::$account:user/own"}, caller="$nobody"),
    row("sts:GetCallerIdentity", "a key that no account has", {}, "InvalidClientTokenId", caller="$stranger"),
    row("sts:GetCallerIdentity", "a session of a role", {}, {"Arn": "arn:aws:sts::$account:assumed-role/own/test"}, caller="$session"),
    row("sts:GetCallerIdentity", "a key of a cloud that is gone", {}, Refused("InvalidClientTokenId", r"cloud\.env"), caller="$gone"),
    row("sts:AssumeRole", "a role that trusts the account", {"RoleArn": ARN, "RoleSessionName": "s"}, {"Credentials.SessionToken": ..., "AssumedRoleUser.Arn": "arn:aws:sts::$account:assumed-role/own/s"}),
    row("sts:AssumeRole", "one that does not exist", {"RoleArn": "arn:aws:iam::$account:role/none", "RoleSessionName": "s"}, "AccessDenied"),
    row("sts:AssumeRole", "for too long", {"RoleArn": ARN, "RoleSessionName": "s", "DurationSeconds": 43201}, "ValidationError"),
    row("sts:AssumeRole", "for longer than the role says", {"RoleArn": ARN, "RoleSessionName": "s", "DurationSeconds": 7200}, Refused("ValidationError", "MaxSessionDuration")),
    row("sts:AssumeRole", "for too short a time", {"RoleArn": ARN, "RoleSessionName": "s", "DurationSeconds": 60}, "ValidationError"),
    row("sts:AssumeRole", "nobody may", {"RoleArn": ARN, "RoleSessionName": "s"}, "AccessDenied", caller="$nobody"),
    row("sts:AssumeRoleWithWebIdentity", "a token that is none", {"RoleArn": ARN, "RoleSessionName": "s", "WebIdentityToken": "token"}, Refused("InvalidIdentityToken|InvalidClientTokenId|AccessDenied")),
    row("sts:GetSessionToken", "of a user", {}, {"Credentials.SessionToken": ...}, caller="$nobody"),
    row("sts:DecodeAuthorizationMessage", "what is none", {"EncodedMessage": "x"}, Refused("UnsupportedOperation|InvalidAuthorizationMessageException")),
)  # fmt: skip
DECISIONS = (
    row("iam:GetRole", "nobody may", ROLE, "AccessDenied", caller="$nobody", page=DENIED),
    row("s3:ListBuckets", "nobody may", {}, "AccessDenied", caller="$nobody", page=DENIED),
    row("s3:ListBuckets", "a policy allows it", {}, {"Buckets": []}, caller="$nobody", page=DENIED, before=(Step("iam:PutUserPolicy", {"UserName": "$user", "PolicyName": "p", "PolicyDocument": ANY}),)),
    row("s3:ListBuckets", "a group's policy allows it", {}, {"Buckets": []}, caller="$nobody", page=DENIED, before=(Step("iam:CreateGroup", {"GroupName": "g"}), Step("iam:PutGroupPolicy", {"GroupName": "g", "PolicyName": "p", "PolicyDocument": ANY}), Step("iam:AddUserToGroup", {"GroupName": "g", "UserName": "$user"}))),
    row("s3:ListBuckets", "a boundary does not", {}, "AccessDenied", caller="$nobody", page="IAM/latest/UserGuide/access_policies_boundaries.html", before=(Step("iam:PutUserPolicy", {"UserName": "$user", "PolicyName": "p", "PolicyDocument": ANY}), Step("iam:PutUserPermissionsBoundary", {"UserName": "$user", "PermissionsBoundary": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"}))),
    row("sts:GetCallerIdentity", "an inactive key is none", {}, "InvalidClientTokenId", caller="$inactive", page="IAM/latest/UserGuide/id_credentials_access-keys.html"),
    row("ec2:DescribeInstances", "an inactive key is none", {}, "AuthFailure", caller="$inactive", page="IAM/latest/UserGuide/id_credentials_access-keys.html"),
    row("s3:GetObject", "denied to the root user by the bucket", {"Bucket": "$closed", "Key": "thing"}, "AccessDenied", page="AmazonS3/latest/userguide/bucket-policies.html"),
    row("ssm:GetParameter", "a key of a cloud that is gone", {"Name": "/x"}, Refused("InvalidClientTokenId", r"cloud\.env"), caller="$gone", page="IAM/latest/UserGuide/id_credentials_access-keys.html"),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*ROLES, *SESSIONS, *DECISIONS)
