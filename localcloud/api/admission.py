"""What reaches the API at all, before anybody asks what a call means or who makes it.

Whoever has no key of this cloud gets nothing, on no path: moto serves more than AWS does (/moto-api resets everything),
and answers wherever a page in a browser lets a name of its own lead here. (That a caller is told its own address, as
checkip.amazonaws.com does, is not even a call: application.py.) The two exceptions are AWS's own: what an object's ACL
or its bucket's policy lets everybody do, for machines alone, and the call that makes credentials from a token, which
the token has to earn.
"""

from __future__ import annotations

import re
import urllib.parse

from werkzeug.wrappers import Response

from localcloud.api.calls import ApiCall
from localcloud.api.errors import error_response
from localcloud.api.one_form import Environ, bucket_and_key, service_named
from localcloud.settings import Cloud

# moto's own pages, and what it takes for S3's control plane, by the path alone, whatever the call is signed for.
_MOTOS_OWN = ("/moto-api", "/favicon.ico", "/latest/meta-data/", "/latest/api/", "/v20180820/")
_AWS = re.compile(r"(?:[a-z0-9_.-]+\.)?amazonaws\.com(?::443)?", re.IGNORECASE)
_BY_TOKEN = {("sts", "AssumeRoleWithWebIdentity"), ("sts", "AssumeRoleWithSAML")}


class Admission:
    """Knows by which names a cloud may be called: by AWS's from its machines, by its address from the host."""

    def __init__(self, cloud: Cloud) -> None:
        self._host_names = {cloud.link_address, f"{cloud.link_address}:5000"}

    def refusal(self, environ: Environ, call: ApiCall) -> Response | None:
        """Return what a request is refused with, None when it is let on."""
        kind = str(environ.get("CONTENT_TYPE", ""))
        host = str(environ.get("HTTP_HOST", ""))
        # Machines come by TLS, the host without (application.py).
        from_machine = environ.get("wsgi.url_scheme") == "https"
        if not (_AWS.fullmatch(host) if from_machine else host in self._host_names):
            return error_response(call.service, kind, "InvalidHostHeader", f"this is not {host[:100]!r}", 421)
        if urllib.parse.unquote(str(environ.get("PATH_INFO", ""))).startswith(_MOTOS_OWN):
            return error_response(call.service, kind, "AccessDenied", "the local cloud keeps this to itself", 403)
        if not call.key and not self._needs_no_key(environ, call, from_machine=from_machine):
            return error_response(call.service, kind, "MissingAuthenticationToken", "the call is not signed", 403)
        return None

    @staticmethod
    def _needs_no_key(environ: Environ, call: ApiCall, *, from_machine: bool) -> bool:
        # What a bucket lets everybody do is IAM's matter (localcloud.iam), as long as it is in a bucket.
        s3 = call.service == "s3" == service_named(environ) and " " not in call.operation
        in_bucket = from_machine and s3 and bool(bucket_and_key(environ)[0])
        return (call.service, call.operation) in _BY_TOKEN or in_bucket
