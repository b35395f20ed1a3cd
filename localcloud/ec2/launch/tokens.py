"""Client tokens: a call that is repeated with its token is made once, and one with other parameters is refused.

https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses.launch_templates import LaunchTemplates

from localcloud.api.patches import ApiError, patch

_lock = threading.Lock()


@dataclass
class _Call:
    """What was answered to a call, and its parameters; None before it was."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    given: str | None = None
    result: Any = None


def once(response: Any, operation: str, work: Callable[[], Any]) -> Any:
    """Return what a call answers: what its first answered when its ClientToken was there before.

    Raises ApiError (IdempotentParameterMismatch) when that one had other parameters.
    """
    token = response._get_param("ClientToken")
    if not token:
        return work()
    given = json.dumps(_parameters(response), default=str, sort_keys=True)
    with _lock:
        call = vars(response.ec2_backend).setdefault("answered_tokens", {}).setdefault((operation, token), _Call())
    # One after the other: a client that has lost patience asks again while the first call is still under way.
    with call.lock:
        if call.given is None:
            call.result = work()
            call.given = given
    if call.given != given:
        raise ApiError(
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        )
    return call.result


def _parameters(response: Any) -> dict[str, Any]:
    return {name: value for name, value in response.params.items() if name not in {"ClientToken", "DryRun"}}


@patch(LaunchTemplates.create_launch_template, wraps=True)
def create_launch_template(original: Any, response: Any) -> ActionResult:
    """CreateLaunchTemplate, once for a client token."""
    result: ActionResult = once(response, "CreateLaunchTemplate", lambda: original(response))
    return result
