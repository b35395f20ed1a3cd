"""IAM, enforced: every API call is decided by the policies of who makes it, before moto sees it.

moto's own enforcement (reset-auth) was rejected: it knows S3's resources only, denies where a condition is not met
instead of passing over the statement, has few operators, and answers in XML to services that speak JSON.

Every distinct decision about a role is written to authorization.jsonl with all that it was made from, so that it can be
made again with other policies.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from moto.core.utils import utcnow

from localcloud.api.answers import ErrorAnswer, error_answer, protocol_of
from localcloud.api.calls import Asked, Environ
from localcloud.api.parameters import parameters
from localcloud.iam import actions, callers, lookups
from localcloud.iam.actions import Demand, Place
from localcloud.iam.actions_ec2 import ec2
from localcloud.iam.actions_s3 import s3
from localcloud.iam.callers import Caller, CredentialsRefused
from localcloud.iam.condition_keys import knows
from localcloud.iam.policy import Decision, PolicyInvalid, Request, Statement, decide
from localcloud.iam.resource_policies import resource_policy

# The signing name -> the prefix of its actions.
_PREFIXES = {"monitoring": "cloudwatch", "email": "ses"}
_BY_SERVICE = {
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
_FREE = {("sts", "GetCallerIdentity"), ("sts", "GetSessionToken")}
_TIMES = ("aws:currenttime", "aws:epochtime")


@dataclass(frozen=True)
class Decided:
    """A decision about a role, with what it was made from; `session` is the name of the role's session."""

    role: str
    session: str
    action: str
    resource: str
    context: dict[str, tuple[str, ...]]
    decision: Decision


class Record:
    """The file of decisions: each distinct one once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def write(self, decided: Decided) -> None:
        """Append a decision, unless the same one was made before for any session of the role."""
        raw = asdict(decided)
        raw["context"] = {key: value for key, value in decided.context.items() if key not in _TIMES}
        line = json.dumps(raw, sort_keys=True)
        same = line.replace(decided.session, "") if decided.session else line
        with self._lock:
            if same not in self._seen:
                self._seen.add(same)
                with self._path.open("a") as file:
                    file.write(line + "\n")


class Authorizer:
    """Decides calls."""

    def __init__(self, record: Record, region: str) -> None:
        self._record = record
        self._region = region

    def refusal(self, environ: Environ, asked: Asked) -> ErrorAnswer | None:
        """Return what a call is refused with, None when it is allowed."""
        service = _PREFIXES.get(asked.service, asked.service)
        kind = str(environ.get("CONTENT_TYPE", ""))
        try:
            caller = callers.caller(environ)
            if caller.administrator or (not caller.anonymous and (service, asked.operation) in _FREE):
                return None
            for demand, decided in self._decisions(environ, service, asked, caller):
                if not decided.allowed:
                    return _denied(service, kind, caller, demand, decided)
        except CredentialsRefused as refused:
            code, status = _CREDENTIALS.get(_shape(service, kind), _CREDENTIALS["query"])
            expired = "RequestExpired" if service == "ec2" else "ExpiredToken"
            return error_answer(service, kind, expired if refused.expired else code, str(refused), status)
        except PolicyInvalid as invalid:
            return error_answer(service, kind, "MalformedPolicyDocument", str(invalid))
        return None

    def _decisions(
        self, environ: Environ, service: str, asked: Asked, caller: Caller
    ) -> Iterator[tuple[Demand, Decision]]:
        given = parameters(environ, service, asked.operation)
        place = lookups.place(asked.region or self._region)
        if service == "sts" and asked.operation in _ASSUME:
            yield self._assume(asked.operation, given, caller, place)
            return
        for demand in _demands(service, asked.operation, given, place):
            if caller.anonymous and demand.action == "s3:GetObject":
                continue  # by the object's ACL, which moto looks at
            yield demand, self._decide(caller, demand, place, resource_policy(demand))

    def _assume(self, operation: str, given: actions.Parameters, who: Caller, place: Place) -> tuple[Demand, Decision]:
        role = str(given.get("RoleArn", ""))
        if operation == "AssumeRoleWithWebIdentity":
            who = callers.by_web_identity(str(given.get("WebIdentityToken", "")))
        context = {"sts:rolesessionname": (str(given.get("RoleSessionName", "")),)}
        if external := given.get("ExternalId"):
            context["sts:externalid"] = (str(external),)
        demand = Demand(f"sts:{operation}", role, context)
        return demand, self._decide(who, demand, place, callers.trust(role), decides=True)

    def _decide(
        self, caller: Caller, demand: Demand, place: Place, there: tuple[Statement, ...], *, decides: bool = False
    ) -> Decision:
        context = {**_everywhere(place), **caller.context, **demand.context}
        request = Request(demand.action, demand.resource, context, lambda key: knows(key, demand.action))
        decision = decide(
            request,
            caller.principal,
            caller.identity,
            resource=there,
            session=caller.session,
            resource_decides=decides or (demand.action.startswith("kms:") and bool(there)),
        )
        role = caller.principal.arn.rpartition("/")[2] or caller.principal.provider
        session = caller.principal.session_arn.rpartition("/")[2]
        self._record.write(Decided(role, session, demand.action, demand.resource, context, decision))
        return decision


def _demands(service: str, operation: str, given: actions.Parameters, place: Place) -> Iterable[Demand]:
    if service in _BY_SERVICE:
        return _BY_SERVICE[service](operation, given, place)
    return [Demand(f"{service}:{operation}")]


def _everywhere(place: Place) -> dict[str, tuple[str, ...]]:
    now = utcnow()
    return {
        "aws:requestedregion": (place.region,),
        "aws:principalaccount": (place.account,),
        "aws:resourceaccount": (place.account,),
        # The link to the host stands for the way to AWS's endpoints, which is TLS.
        "aws:securetransport": ("true",),
        "aws:currenttime": (now.strftime("%Y-%m-%dT%H:%M:%SZ"),),
        "aws:epochtime": (str(int(now.timestamp())),),
        "kms:calleraccount": (place.account,),
    }


# Protocol (or service) -> code and status of a refusal, of unknown credentials.
_DENIED = {
    "ec2": ("UnauthorizedOperation", 403),
    "json": ("AccessDeniedException", 400),
    "rest-json": ("AccessDeniedException", 403),
    "query": ("AccessDenied", 403),
    "rest-xml": ("AccessDenied", 403),
}
_CREDENTIALS = {
    "ec2": ("AuthFailure", 401),
    "json": ("UnrecognizedClientException", 400),
    "rest-json": ("UnrecognizedClientException", 403),
    "query": ("InvalidClientTokenId", 403),
    "rest-xml": ("InvalidAccessKeyId", 403),
}


def _shape(service: str, kind: str) -> str:
    if service == "ec2":
        return "ec2"
    from_errors = protocol_of(service, kind)
    return "query" if from_errors == "smithy-rpc-v2-cbor" else from_errors


def _denied(service: str, kind: str, caller: Caller, demand: Demand, decision: Decision) -> ErrorAnswer:
    code, status = _DENIED.get(_shape(service, kind), _DENIED["query"])
    where = "" if demand.resource == "*" else f" on resource: {demand.resource}"
    because = f"{decision.reason} ({decision.policy}, {decision.sid})" if decision.policy else decision.reason
    message = f"User: {caller.name} is not authorized to perform: {demand.action}{where} because {because}"
    if service == "ec2":
        message = f"You are not authorized to perform this operation. {message}"
    return error_answer(service, kind, code, message, status)
