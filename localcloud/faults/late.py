"""Reads that lag: what is written is carried out, taken back, and done again some seconds later.

So everything sees it late that looks at moto's state, as everything does on AWS: reads, filters, IAM's decisions, a
launch with a new profile. Where the state is a mapping that nothing but calls reads, that is all it takes. Instances
are also read by the fleet and the metadata service, which are no clients: they are hidden from calls alone.

Writes see what was written before, as AWS's own checks do: a name is taken as soon as somebody has it.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import InstanceBackend
from moto.iam.models import iam_backends
from moto.ssm.models import ssm_backends
from werkzeug.wrappers import Response

from localcloud import ended
from localcloud.api.calls import ApiCall
from localcloud.api.patches import patch
from localcloud.settings import ACCOUNT

_ABSENT: Any = object()
IMAGE_TYPE = "aws:ec2:image"
_in_call: ContextVar[bool] = ContextVar("in_call", default=False)

# Part of moto's state: a mapping, and those of its keys that a call may change (None: any).
Part = tuple[Any, "list[str] | None"]


@dataclass(frozen=True)
class _Change:
    """A value that a mapping gets at `due` (of the clock), unless `holds` says then that it must not."""

    due: float
    mapping: Any
    key: str
    value: Any
    holds: Callable[[], bool]


class Late:
    """Writes that are seen late. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._changes: list[_Change] = []
        self._hidden: dict[str, float] = {}

    def carry_out(
        self, seconds: float, call: ApiCall, given: Mapping[str, Any], work: Callable[[], Response]
    ) -> Response:
        """Return what `work` (moto's part of a call) answers; what it has written is seen `seconds` later."""
        parts_of = _PARTS.get((call.service, call.operation))
        launches = call.operation == "RunInstances"
        token = _in_call.set(True)
        try:
            if not seconds or not (parts_of or launches):
                return work()
            with self._lock:
                if launches:
                    return self._launched(call, seconds, work)
                assert parts_of is not None
                with self._taken_back(parts_of(given, call.region), seconds, _check(call, given)):
                    return work()
        finally:
            _in_call.reset(token)

    def _launched(self, call: ApiCall, seconds: float, work: Callable[[], Response]) -> Response:
        reservations = ec2_backends[ACCOUNT][call.region].reservations
        before = set(reservations)
        response = work()
        self._hidden.update({name: self._clock() + seconds for name in set(reservations) - before})
        return response

    @contextmanager
    def _taken_back(self, parts: list[Part], seconds: float, holds: Callable[[], bool]) -> Iterator[None]:
        """Let the body see all that was written before, and put what it writes off."""
        shown = [(mapping, key, value) for mapping, keys in parts for key, value in self._latest(mapping, keys)]
        before = [_copy(mapping, keys) for mapping, keys in parts]
        try:
            yield
        finally:
            for (mapping, keys), old in zip(parts, before, strict=True):
                new = _copy(mapping, keys)
                for key in {*old, *new}:
                    if old.get(key, _ABSENT) != new.get(key, _ABSENT):
                        value = new.get(key, _ABSENT)
                        self._changes.append(_Change(self._clock() + seconds, mapping, key, value, holds))
                        _put(mapping, key, old.get(key, _ABSENT))
            for mapping, key, value in reversed(shown):
                _put(mapping, key, value)

    def _latest(self, mapping: Any, keys: list[str] | None) -> Iterator[tuple[str, Any]]:
        """Give a mapping what is written and not seen yet; yield what was there instead."""
        for change in self._changes:
            if change.mapping is mapping and (keys is None or change.key in keys):
                seen = mapping.get(change.key, _ABSENT)
                _put(mapping, change.key, _copied(change.value))
                yield change.key, seen

    def catch_up(self) -> None:
        """Let be seen what is to be seen by now: before each call, and before IAM decides on it."""
        now = self._clock()
        with self._lock:
            for change in [each for each in self._changes if each.due <= now]:
                self._changes.remove(change)
                if change.holds():
                    _put(change.mapping, change.key, change.value)
            self._hidden = {name: due for name, due in self._hidden.items() if due > now}

    @patch(InstanceBackend.all_reservations, wraps=True)
    def all_reservations(self, original: Any, backend: Any, filters: Any = None) -> Any:
        """Return the reservations that are shown: none that ended long ago; calls don't see the newest ones."""
        hidden = self._hidden if _in_call.get() else {}
        return [each for each in ended.shown(original(backend, filters)) if each.id not in hidden]


def _copy(mapping: Any, keys: list[str] | None) -> dict[str, Any]:
    return {key: _copied(mapping[key]) for key in list(mapping) if keys is None or key in keys}


def _copied(value: Any) -> Any:
    # moto changes a parameter's versions, a resource's tags and a role's policies in place.
    return copy.copy(value) if isinstance(value, list | dict) else value


def _put(mapping: Any, key: str, value: Any) -> None:
    if value is _ABSENT:
        mapping.pop(key, None)
    else:
        mapping[key] = value


def _check(call: ApiCall, given: Mapping[str, Any]) -> Callable[[], bool]:
    """Return what decides in the end: of a parameter that names an image, whether there is such an image."""
    if given.get("DataType") != IMAGE_TYPE:
        return lambda: True
    return lambda: given.get("Value") in ec2_backends[ACCOUNT][call.region].amis


def _tags(given: Mapping[str, Any], region: str) -> list[Part]:
    return [(ec2_backends[ACCOUNT][region].tags, list(given.get("Resources", [])))]


def _images(_given: Mapping[str, Any], region: str) -> list[Part]:
    return [(ec2_backends[ACCOUNT][region].amis, None)]


def _parameters(given: Mapping[str, Any], region: str) -> list[Part]:
    parameters = ssm_backends[ACCOUNT][region]._parameters
    return [(parameters, [parameters.normalize_name(str(given.get("Name", "")))])]


def _roles(_given: Mapping[str, Any], _region: str) -> list[Part]:
    return [(iam_backends[ACCOUNT]["aws"].roles, None)]


def _of_role(attribute: str) -> Callable[[Mapping[str, Any], str], list[Part]]:
    def parts(given: Mapping[str, Any], _region: str) -> list[Part]:
        roles = iam_backends[ACCOUNT]["aws"].roles.values()
        return [(vars(role), [attribute]) for role in roles if role.name == given.get("RoleName")]

    return parts


def _profiles(_given: Mapping[str, Any], _region: str) -> list[Part]:
    return [(iam_backends[ACCOUNT]["aws"].instance_profiles, None)]


def _roles_of_profile(given: Mapping[str, Any], _region: str) -> list[Part]:
    profiles = iam_backends[ACCOUNT]["aws"].instance_profiles.values()
    return [(vars(profile), ["roles"]) for profile in profiles if profile.name == given.get("InstanceProfileName")]


# Which part of moto's state a call writes.
_PARTS: dict[tuple[str, str], Callable[[Mapping[str, Any], str], list[Part]]] = {
    ("ec2", "CreateTags"): _tags,
    ("ec2", "DeleteTags"): _tags,
    ("ec2", "CreateImage"): _images,
    ("ec2", "CopyImage"): _images,
    ("ec2", "RegisterImage"): _images,
    ("ssm", "PutParameter"): _parameters,
    ("iam", "CreateRole"): _roles,
    ("iam", "PutRolePolicy"): _of_role("policies"),
    ("iam", "DeleteRolePolicy"): _of_role("policies"),
    ("iam", "UpdateAssumeRolePolicy"): _of_role("assume_role_policy_document"),
    ("iam", "CreateInstanceProfile"): _profiles,
    ("iam", "AddRoleToInstanceProfile"): _roles_of_profile,
}
