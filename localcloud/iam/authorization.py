"""IAM, enforced: every API call is decided by the policies of who makes it, before moto sees it.

moto's own enforcement (reset-auth) was rejected: it knows S3's resources only, denies where a condition is not met
instead of passing over the statement, has few operators, and answers in XML to services that speak JSON.

Every distinct decision about a role goes to authorization.jsonl with all that it was made from, so that it can be made
again with other policies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from moto.core.utils import utcnow
from werkzeug.wrappers import Response

from localcloud.api.calls import ApiCall, parameters
from localcloud.api.errors import error_response, protocol_of
from localcloud.api.one_form import Environ
from localcloud.iam import actions, callers
from localcloud.iam.actions import RequiredAction
from localcloud.iam.actions_ec2 import autoscaling, ec2
from localcloud.iam.actions_s3 import s3
from localcloud.iam.callers import Caller, CredentialsRefused
from localcloud.iam.conditions import knows
from localcloud.iam.lookups import Lookups
from localcloud.iam.policy import Decision, PolicyInvalid, Principal, Request, Statement, decide
from localcloud.iam.resource_policies import let_delete, resource_policy
from localcloud.journal import Journal

# The signing name -> the prefix of its actions.
_PREFIXES = {"monitoring": "cloudwatch", "email": "ses"}
_BY_SERVICE = {
    "autoscaling": autoscaling,
    "ec2": ec2,
    "s3": s3,
    "ssm": actions.ssm,
    "kms": actions.kms,
    "ses": actions.ses,
    "cloudwatch": actions.cloudwatch,
    "logs": actions.logs,
    "iam": actions.iam,
}
_ASSUME = {"AssumeRole", "AssumeRoleWithWebIdentity"}
# What IAM lets everybody do who has credentials at all.
_LONG_TERM = {("sts", "GetSessionToken"), ("sts", "GetFederationToken")}
_FREE = {("sts", "GetCallerIdentity"), ("sts", "GetSessionToken")}
# What whoever has a token of an identity provider's asks for: the token tells who that is, and no signature.
_BY_TOKEN = {("sts", "AssumeRoleWithWebIdentity")}
# Services whose resources have policies of their own, and what the root user may do whatever these say (S3's user
# guide, "Bucket policies"): else nobody could mend one.
_WITH_POLICIES = {"s3", "kms"}
_ROOTS_OWN = {("s3", f"{verb}BucketPolicy") for verb in ("Get", "Put", "Delete")}
# Which is told of each object what became of it ("DeleteObjects" in S3's API reference).
_BY_OBJECT = ("s3", "DeleteObjects")
_TIMES = ("aws:currenttime", "aws:epochtime")


class Authorizer:
    """Decides calls. The journal gets each distinct decision about a role once, with what it was made from.

    `ended` is a file of the keys whose sessions are to count as ended, a line each; it need not be there.
    """

    def __init__(self, journal: Journal, region: str, key: str, ended: Path | None = None) -> None:
        self._journal = journal
        self._region = region
        self._key = key
        self._ended = ended
        self._recorded: dict[str, object] = {}

    def refusal(self, environ: Environ, call: ApiCall) -> Response | None:
        """Return what a call is refused with, None when it is allowed."""
        service = _PREFIXES.get(call.service, call.service)
        kind = str(environ.get("CONTENT_TYPE", ""))
        let_delete(None)
        try:
            if self._ended is not None and self._ended.exists() and call.key in self._ended.read_text().split():
                raise CredentialsRefused(expired=True)
            caller = callers.caller(call, self._key)
            if refused := _not_for(caller, service, call.operation, kind):
                return refused
            if self._is_free(caller, service, call.operation):
                return None
            asked: set[str] = set()
            left: set[str] = set()
            for required, decision in self._decisions(environ, service, call, caller):
                if not decision.allowed and (service, call.operation) != _BY_OBJECT:
                    return _denied(service, kind, caller, required, decision)
                (asked if decision.allowed else left).add(required.resource)
            if (service, call.operation) == _BY_OBJECT:
                let_delete(asked - left)
        except CredentialsRefused as refused:
            table = _EXPIRED if refused.expired else _FORGED if refused.forged else _CREDENTIALS
            code, status = table.get(_shape(service, kind), table["query"])
            if refused.gone:  # whichever the service: what it means is always the same
                code, status = _CREDENTIALS["query"]
            text = "Request has expired." if code == "RequestExpired" else str(refused)
            return error_response(service, kind, code, text, status)
        except PolicyInvalid as invalid:
            return error_response(service, kind, "MalformedPolicyDocument", str(invalid))
        return None

    @staticmethod
    def _is_free(caller: Caller, service: str, operation: str) -> bool:
        """Say whether nobody has to allow it: IAM does, or it is the root user, and no resource has a policy."""
        if caller.anonymous or (service, operation) in _BY_TOKEN:
            return False
        of_resources = service in _WITH_POLICIES and (service, operation) not in _ROOTS_OWN
        return (service, operation) in _FREE or (caller.root and not of_resources)

    def _decisions(
        self, environ: Environ, service: str, call: ApiCall, caller: Caller
    ) -> Iterator[tuple[RequiredAction, Decision]]:
        given = parameters(environ, service, call.operation)
        lookups = Lookups(call.region or self._region)
        if service == "sts" and call.operation in _ASSUME:
            role = str(given.get("RoleArn", ""))
            if call.operation == "AssumeRoleWithWebIdentity":
                caller = callers.by_web_identity(str(given.get("WebIdentityToken", "")), self._key)
            keys = {"sts:rolesessionname": "RoleSessionName", "sts:externalid": "ExternalId"}
            context = {key: (str(given[name]),) for key, name in keys.items() if given.get(name)}
            required = RequiredAction(f"sts:{call.operation}", role, context)
            yield required, self._decide(caller, required, lookups, callers.trust(role), resource_decides=True)
            return
        actions_of = _BY_SERVICE.get(service)
        unknown = [RequiredAction(f"{service}:{call.operation}")]
        # A call that would need nothing is one that was not understood: no such call is anybody's.
        for required in list(actions_of(call.operation, given, lookups) if actions_of else ()) or unknown:
            policy = resource_policy(required, anonymous=caller.anonymous)
            of_key = required.action.startswith("kms:") and bool(policy)
            decision = self._decide(caller, required, lookups, policy, resource_decides=of_key)
            # An ACL gives what nothing denies. It is decided here: moto takes whatever looks signed for allowed.
            if caller.anonymous and not decision.policy and lookups.public_read(required.action, required.resource):
                continue
            yield required, decision

    def _decide(
        self,
        caller: Caller,
        required: RequiredAction,
        lookups: Lookups,
        policy: tuple[Statement, ...],
        *,
        resource_decides: bool,
    ) -> Decision:
        context = {**_global_context(lookups), **caller.context, **required.context}
        decision = decide(
            Request(required.action, required.resource, context, lambda key: knows(key, required.action)),
            caller.principal,
            caller.identity,
            resource=policy,
            session=caller.session,
            boundary=caller.boundary,
            resource_decides=resource_decides,
        )
        if not caller.root:
            self._record(caller.principal, required, context, decision)
        return decision

    def _record(
        self, principal: Principal, required: RequiredAction, context: Mapping[str, tuple[str, ...]], decision: Decision
    ) -> None:
        session = principal.session_arn.rpartition("/")[2]
        entry = {
            "role": principal.arn.rpartition("/")[2] or principal.provider,
            "session": session,
            "action": required.action,
            "resource": required.resource,
            "context": {key: value for key, value in context.items() if key not in _TIMES},
            "decision": asdict(decision),
        }
        # The same decision for another session of the role is no other decision.
        distinct = json.dumps(entry, sort_keys=True)
        distinct = distinct.replace(session, "") if session else distinct
        if self._recorded.setdefault(distinct, entry) is entry:  # one step: calls are decided in threads
            self._journal.append(entry)


def _global_context(lookups: Lookups) -> dict[str, tuple[str, ...]]:
    now = utcnow()
    return {
        "aws:requestedregion": (lookups.region,),
        "aws:principalaccount": (lookups.account,),
        "aws:resourceaccount": (lookups.account,),
        # The link to the host stands for the way to AWS's endpoints, which is TLS.
        "aws:securetransport": ("true",),
        "aws:currenttime": (now.strftime("%Y-%m-%dT%H:%M:%SZ"),),
        "aws:epochtime": (str(int(now.timestamp())),),
        "kms:calleraccount": (lookups.account,),
    }


# Protocol (or service) -> code and status of a refusal, of unknown credentials.
_DENIED = {
    "ec2": ("UnauthorizedOperation", 403),
    "json": ("AccessDeniedException", 400),
    "rest-json": ("AccessDeniedException", 403),
    "query": ("AccessDenied", 403),
    "rest-xml": ("AccessDenied", 403),
}
_EXPIRED = {
    "ec2": ("RequestExpired", 400),
    "json": ("ExpiredTokenException", 400),
    "query": ("ExpiredToken", 403),
    "rest-xml": ("ExpiredToken", 400),
}
_FORGED = {
    "ec2": ("AuthFailure", 401),
    "json": ("InvalidSignatureException", 400),
    "rest-json": ("InvalidSignatureException", 403),
    "query": ("SignatureDoesNotMatch", 403),
    "rest-xml": ("SignatureDoesNotMatch", 403),
}
_CREDENTIALS = {
    "ec2": ("AuthFailure", 401),
    "json": ("UnrecognizedClientException", 400),
    "rest-json": ("UnrecognizedClientException", 403),
    "query": ("InvalidClientTokenId", 403),
    "rest-xml": ("InvalidAccessKeyId", 403),
}


def _shape(service: str, kind: str) -> str:
    protocol = "ec2" if service == "ec2" else protocol_of(service, kind)
    if protocol == "smithy-rpc-v2-cbor":
        return "query" if service == "cloudwatch" else "json"  # CloudWatch keeps the codes of the protocol it had
    return protocol


def _not_for(caller: Caller, service: str, operation: str, kind: str) -> Response | None:
    """Return what credentials are refused with that a call does not take, whoever has them.

    "Compare AWS STS credentials" (IAM User Guide). Raises NotImplementedError for what can't be decided here.
    """
    if (service, operation) == ("sts", "AssumeRoleWithSAML"):
        raise NotImplementedError("what an identity provider signs in SAML can't be checked here")
    session = caller.assumed or caller.temporary is not None
    if (service, operation) in _LONG_TERM and session:
        return error_response(service, kind, "AccessDenied", f"Cannot call {operation} with session credentials", 403)
    if caller.temporary is not None and not caller.temporary.is_good_for(service, operation):
        return error_response(service, kind, "InvalidClientTokenId", str(CredentialsRefused()), 403)
    return None


def _denied(service: str, kind: str, caller: Caller, required: RequiredAction, decision: Decision) -> Response:
    code, status = _DENIED.get(_shape(service, kind), _DENIED["query"])
    resource = "" if required.resource == "*" else f" on resource: {required.resource}"
    because = f"{decision.reason} ({decision.policy}, {decision.sid})" if decision.policy else decision.reason
    message = f"User: {caller.name} is not authorized to perform: {required.action}{resource} because {because}"
    if service == "ec2":
        message = f"You are not authorized to perform this operation. {message}"
    return error_response(service, kind, code, message, status)
