"""Which processors the image's programs are for: the API and restic, by `programs` of the versions file.

What ships is for ARM64. Another versions file may say otherwise, so that a cloud of one's own can run the programs of
its host. On AWS nothing of the kind is built, published or released: that is refused, wherever it is asked for, by who
answers. Were it not, an instance there, which is ARM64, could not start them, and no verification would pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from support.errors import BadInput
from zmanim_ami.pipeline import aws

SHIPPED: Final = "aarch64"
# On the image: what its programs are for. Images without it were made when there was nothing else.
TAG: Final = "zmanim:programs"


def architecture(versions: Mapping[str, Any]) -> str:
    """Return what a versions file says."""
    return str(versions["programs"]["architecture"])


def check(clients: aws.Clients, made_for: str, what: str) -> None:
    """Raise `programs-not-shipped` where programs for other processors than what ships would get into AWS."""
    if made_for == SHIPPED or _is_ones_own(clients.ec2.meta.endpoint_url):
        return
    raise BadInput(
        f"the programs of {what} are not for the processors that they ship for",
        code="programs-not-shipped",
        expected=SHIPPED,
        found=made_for,
        fix="the setting versions_file names a file for rehearsals: leave it out (unset ZMANIM_VERSIONS_FILE)",
    )


def _is_ones_own(endpoint: str) -> bool:
    """Say whether an endpoint can't be AWS's: that has a name always, and only what is near has a private address."""
    try:
        return ip_address(urlsplit(endpoint).hostname or "").is_private
    except ValueError:
        return False
