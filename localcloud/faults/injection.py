"""The faults of a bad day, where the API, the console and Run Command ask for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from werkzeug.wrappers import Response

from localcloud.api.calls import ApiCall, parameters
from localcloud.api.errors import error_response
from localcloud.api.one_form import Environ
from localcloud.api.retries import attempt
from localcloud.bad_day import Weather
from localcloud.faults.late import IMAGE_TYPE, Late

# How each service says that it was asked too often (their "Common errors"); the others say it as SSM does.
_THROTTLED = {
    "ec2": ("RequestLimitExceeded", 503),
    "s3": ("SlowDown", 503),
    **dict.fromkeys(("iam", "sts", "monitoring", "email", "cloudwatch", "ses"), ("Throttling", 400)),
}
# What AWS refuses when it is repeated, or does once more: there is no client token, or none that every SDK sends.
UNREPEATABLE = frozenset(
    [
        *(("ec2", f"Create{kind}") for kind in ("Image", "KeyPair", "SecurityGroup", "Vpc", "Subnet", "Route")),
        *(("ec2", name) for name in ("CreateInternetGateway", "ImportKeyPair", "AuthorizeSecurityGroupIngress")),
        *(("ec2", name) for name in ("CopyImage", "RevokeSecurityGroupIngress", "AttachInternetGateway")),
        *(("ssm", "SendCommand"), ("ses", "SendEmail"), ("email", "SendEmail"), ("kms", "CreateKey")),
    ]
)
_LONG_LINE = 200
_KERNEL = b"[   97.531864] audit: type=1334 audit(1764374400.123:456): prog-id=78 op=LOAD\r\n"


class Faults:
    """The faults of one cloud, by its directory; `clock` is in seconds."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._weather = Weather(directory)
        self.late = Late(clock)
        self._clock = clock
        self._online: dict[str, float] = {}
        self._consoles: dict[str, list[tuple[float, int]]] = {}

    def refusal(self, environ: Environ, call: ApiCall) -> Response | None:
        """Return what a call is refused with for no fault of its own: too many calls, no capacity. Else None."""
        self.late.catch_up()
        day, kind = self._weather.today, str(environ.get("CONTENT_TYPE", ""))
        name = f"{call.service}/{call.operation}"
        if day.throttled and self._weather.dice(f"throttled/{name}").random() < day.throttled:
            code, status = _THROTTLED.get(call.service, ("ThrottlingException", 400))
            return error_response(call.service, kind, code, "Rate exceeded", status)
        if day.no_capacity and name == "ec2/RunInstances":
            image = parameters(environ, "ec2", call.operation).get("ImageId")
            if self._weather.count(f"capacity/{image}") < day.no_capacity:
                message = "We currently do not have sufficient capacity in the Availability Zone you requested."
                return error_response("ec2", kind, "InsufficientInstanceCapacity", message, 500)
        return None

    def carry_out(self, environ: Environ, call: ApiCall, work: Callable[[], Response]) -> Response:
        """Return what `work` (moto's part of a call) answers, its writes to be seen as late as the day has it."""
        day = self._weather.today
        if not (day.lag_seconds or day.check_seconds):
            return self.late.carry_out(0, call, {}, work)
        given, seconds = parameters(environ, call.service, call.operation), day.lag_seconds
        if given.get("DataType") == IMAGE_TYPE:
            seconds = day.check_seconds
        elif call.operation in {"CreateImage", "CopyImage"} and day.late_images is not None:
            seconds = seconds if self._weather.count("image") < day.late_images else 0
        return self.late.carry_out(seconds, call, given, work)

    def loses(self, environ: Environ, call: ApiCall, response: Response) -> bool:
        """Say whether the answer to a call that was carried out is not to arrive."""
        day = self._weather.today
        if not day.lost or response.status_code >= 300 or attempt(environ) > 1:
            return False
        if (call.service, call.operation) in UNREPEATABLE and not day.lost_unrepeatable:
            return False
        return self._weather.dice(f"lost/{call.service}/{call.operation}").random() < day.lost

    def unregistered(self, instance_id: str) -> str:
        """Return how SSM refuses a command for an instance whose agent has only just started; "" once it does not.

        AWS's documentation does not say which of the two it is for a role that may send commands by the instance's tag.
        """
        now, day = self._clock(), self._weather.today
        if now - self._online.setdefault(instance_id, now) >= day.agent_seconds:
            return ""
        return self._weather.dice("agent").choice(("InvalidInstanceId", "AccessDeniedException"))

    def console(self, instance_id: str, output: bytes) -> bytes:
        """Return of what an instance has written to its console what is shown now, with the kernel's words in it."""
        day, now = self._weather.today, self._clock()
        if day.console_seconds:
            # What was there at an earlier look is as old as that look.
            looks = self._consoles.setdefault(instance_id, [])
            looks.append((now, len(output)))
            output = output[: max((size for at, size in looks if now - at >= day.console_seconds), default=0)]
        return _torn(output, self._weather.dice_of("console")) if day.torn_console else output


def _torn(output: bytes, dice: Random) -> bytes:
    """Return a console's text with a line of the kernel's within the 1st, 2nd, 4th, 8th, … of its long lines.

    Whatever is written three times is whole once.
    """
    lines, long_lines = output.split(b"\n"), 0
    for number, line in enumerate(lines):
        if len(line) >= _LONG_LINE:
            long_lines += 1
            at = dice.randrange(1, _LONG_LINE)
            if long_lines & (long_lines - 1) == 0:
                lines[number] = line[:at] + _KERNEL + line[at:]
    return b"\n".join(lines)
