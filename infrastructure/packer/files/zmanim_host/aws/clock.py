"""Whether this machine's clock is right, by S3's: S3 refuses what was signed at another time, whoever has signed it."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from zmanim_host.aws.client import https
from zmanim_host.host import HostError

# Seconds that S3 lets a clock be wrong by ("RequestTimeTooSkewed", Error responses, Amazon S3 API reference).
LIMIT = 900.0

# Opens a connection to a host, with a limit in seconds for each of its steps.
Connect = Callable[[str, float], http.client.HTTPConnection]


def server_time(host: str, connect: Connect = https) -> datetime | None:
    """Return what time it is by a server's answer to a request that nobody has signed; None when it does not say."""
    connection = connect(host, 10)
    try:
        connection.request("HEAD", "/")
        said = connection.getresponse().getheader("Date")
        return parsedate_to_datetime(said) if said else None
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        # Whatever it is, the request that counts says it better.
        return None
    finally:
        connection.close()


def now_in_utc() -> datetime:
    """Return this machine's own time."""
    return datetime.now(timezone.utc)


def check(
    host: str,
    *,
    ask: Callable[[str], datetime | None] = server_time,
    now: Callable[[], datetime] = now_in_utc,
) -> None:
    """Raise HostError when this machine's clock differs from a server's by more than S3 puts up with.

    restic would be refused, and try again for a quarter of an hour; and what is dated wrong takes another one's place.
    """
    theirs = ask(host)
    if theirs is None:
        return
    ahead = (now() - theirs).total_seconds()
    if abs(ahead) > LIMIT:
        which = "ahead of" if ahead > 0 else "behind"
        raise HostError(
            f"this machine's clock is {abs(ahead) / 60:.0f} minutes {which} S3's ({host}), which refuses whatever was"
            " signed at another time: nothing was done (chronyc tracking; systemctl status chronyd)"
        )
