"""Packer's ways to fail, each as an error of its own: Packer itself ends with exit code 1 for all of them."""

from __future__ import annotations

import re
from pathlib import Path

from support.errors import Error, HostLacks

_TAIL_LINES = 20


_SESSION_ENDED = (
    "the session's credentials ended before the build did",
    "credentials that last for the whole build (a role's session: an hour)",
    (
        "log in again (aws sso login, or new session keys); Packer could take nothing away any more: "
        "./inv sweep --run {run} shows what it left, with --apply it goes; then build again"
    ),
)


class ImageNotSeen(Error):
    """Packer has made an image, did not find it in its first look, and gave up; the image stays, without its tags.

    Its plugin's waiter takes InvalidAMIID.NotFound for the end (common/state.go, WaitUntilAMIAvailable of 1.8.2).
    """


# (what Packer says, the code, what happened, what was expected, what to do). The first that matches wins, so what has
# a cause comes before what is only where it happened.
_KNOWN: tuple[tuple[str, str, str, str, str], ...] = (
    (
        r"Cleanly cancelled builds",
        "build-cancelled",
        "Packer was stopped from outside, and has cleaned up",
        "to build to the end",
        "build again",
    ),
    (
        r"No AMI was found matching filters",
        "source-image-missing",
        "no image matches the source filter",
        "an Amazon Linux image of the release and kernel that versions.json pins",
        "correct base.release and base.kernel in versions.json, or name an image with --source-ami-id",
    ),
    (r"RequestExpired|ExpiredToken", "session-ended", *_SESSION_ENDED),
    (
        (
            r"No valid credential sources found|failed to refresh cached credentials|no EC2 IMDS role found|"
            r"InvalidClientTokenId|SignatureDoesNotMatch|AuthFailure|InvalidAccessKeyId"
        ),
        "builder-credentials",
        "AWS does not accept Packer's credentials",
        "credentials that last for the whole build",
        "log in again (aws sso login, or new session keys), then build again",
    ),
    (
        r"UnauthorizedOperation|AccessDenied",
        "builder-credentials",
        "these credentials may not build an image",
        "the rights that Packer needs (EC2 instances, images, key pairs, security groups)",
        "use the build role (infrastructure/iam/)",
    ),
    (
        r"error validating regions|[Ii]nvalid region|Not a valid region|Unknown region|not enabled in this account",
        "builder-region",
        "Packer does not accept the region",
        "a region that exists and is enabled",
        "set region in pyproject.toml, ZMANIM_REGION or --region",
    ),
    (
        r"is used by an existing AMI|InvalidAMIName\.Duplicate",
        "name-taken",
        "an image of that name exists by now",
        "no other build of this version at the same time",
        "build again: an equal image is reused, another needs --replace",
    ),
    (
        r"Timeout waiting for SSH|ssh: handshake failed|Error waiting for SSH",
        "builder-unreachable",
        "the builder does not answer SSH",
        "SSH within the template's ssh_timeout",
        "check the subnet's route to this machine (setting subnet_id) and the source image",
    ),
    (
        r"VPCIdNotSpecified|No default VPC|No subnets found for the default VPC",
        "no-default-vpc",
        "this account has no default VPC for the builder",
        "the setting subnet_id, or a default VPC with its subnets",
        (
            "set subnet_id (ZMANIM_SUBNET_ID) to a subnet whose instances get a public address; "
            "./inv account.apply --environment verify makes one, called zmanim-verification"
        ),
    ),
    (
        r"Unsupported: Your requested instance type",
        "zone-without-type",
        "the builder's zone does not have its instance type",
        "a subnet (setting subnet_id) in a zone that has the type of the setting instance_type",
        "set subnet_id to a subnet of a zone that AWS names there, or choose another instance_type",
    ),
    (
        r"Snapshots encrypted with the AWS Managed CMK|Encrypted snapshots with EBS default key",
        "image-not-shareable",
        "AWS's own key encrypts the image, so it can't be shared (setting ami_users)",
        "a key of your own (setting kms_key_id)",
        "set kms_key_id = alias/NAME; with root_encrypted = false, see whether the account encrypts every volume",
    ),
    (
        (
            r"InsufficientInstanceCapacity|VcpuLimitExceeded|InstanceLimitExceeded|"
            r"InvalidSubnetID|Error launching source instance|Unsupported:"
        ),
        "builder-not-launched",
        "AWS does not launch the builder",
        "an instance of the type that the settings name",
        "choose another instance_type or subnet_id, or have the limit raised",
    ),
    (
        r"Unknown error waiting for AMI.*InvalidAMIID\.NotFound",
        "image-not-seen",
        "Packer does not find the image that it has just made",
        "the image to be visible at once: EC2 is eventually consistent",
        "build again with --replace",
    ),
    (
        r"Missing plugins|no plugin installed for|Did you run packer init|plugin.*not found",
        "plugin-missing",
        "Packer does not find its Amazon plugin",
        "the plugin below PACKER_PLUGIN_PATH",
        'eval "$(./inv tools.env)" sets the path; ./inv doctor says what is missing',
    ),
)
_SCRIPT_FAILED = re.compile(r"Script exited with non-zero|Script disconnected|Error uploading|Upload failed")
_NO_SUCH_PACKAGE = re.compile(r"Unable to find a match: *(.+)")
_SUMMARY = re.compile(r"--> |Build '[^']+' errored after|Cleanly cancelled")
_SCRIPTS_BEGIN = "Provisioning with shell script"
_SCRIPTS_END = re.compile(r"^==> [\w.-]+: (?:Provisioning step had errors|Terminating the source)", re.MULTILINE)
_PREFIX = re.compile(r"^(?:==>|-->) (?:[\w-]+(?:\.[\w-]+)+: )?")


def build_failure(output: str, log: Path, run: str) -> Error:
    """Return the error that Packer's output tells of; `log` is where all of it can be read, `run` the setting."""
    words = _own_words(output)
    for pattern, code, summary, expected, fix in _KNOWN:
        if match := re.search(rf"^.*(?:{pattern}).*$", words, re.MULTILINE):
            kind = {"plugin-missing": HostLacks, "image-not-seen": ImageNotSeen}.get(code, Error)
            way = f"{fix.replace('{run}', run)}; all of it: {log}"
            return kind(summary, code=code, expected=expected, found=_plain(match[0]), fix=way)
    if _SCRIPT_FAILED.search(words):
        return _script_failure(output, log)
    if re.search(r"^Error: ", output, re.MULTILINE):
        return Error(
            "Packer does not accept the template",
            code="template-invalid",
            expected="packer validate to pass",
            found=_tail(output),
            fix=str(log),
        )
    return Error(
        "Packer failed", code="packer-failed", expected="exit code 0", found=_tail(output), fix=f"all of it: {log}"
    )


def session_ended(found: str, run: str) -> Error:
    """Return the error of a build whose credentials have ended, as AWS says it (`found`); `run` is the setting."""
    summary, expected, fix = _SESSION_ENDED
    return Error(summary, code="session-ended", expected=expected, found=found, fix=fix.replace("{run}", run))


def template_failure(output: str) -> Error:
    """Return the error that `packer init` or `packer validate` tells of."""
    if re.search(_KNOWN[-1][0], output):
        _, code, summary, expected, fix = _KNOWN[-1]
        return HostLacks(summary, code=code, expected=expected, found=_tail(output), fix=fix)
    return Error(
        "Packer does not accept the template",
        code="template-invalid",
        expected="packer validate to pass",
        found=_tail(output),
        fix="correct the file that is named, or the setting behind the variable",
    )


def _own_words(output: str) -> str:
    """Return what Packer and AWS say, without what the scripts on the builder say.

    What a script prints may hold any of the words above, and must not decide what failed. Packer prints it just like
    its own words, so only the lines that sum up are taken once scripts have begun.
    """
    if _SCRIPTS_BEGIN not in output:
        return output
    return "\n".join(line for line in output.splitlines() if _SUMMARY.match(line))


def _script_failure(output: str, log: Path) -> Error:
    script_output = _SCRIPTS_END.split(output.partition(_SCRIPTS_BEGIN)[2])[0]
    if missing := _NO_SUCH_PACKAGE.search(script_output):
        return Error(
            "dnf does not find a package on the builder",
            code="package-missing",
            expected="every package of versions.json in the repositories of the release that it pins",
            found=f"no {_plain(missing[1])}",
            fix="correct versions.json; ./inv resolve-packages inside an Amazon Linux 2023 asks for all of them; "
            f"all of it: {log}",
        )
    status = re.search(r"exit status: (\d+)", "\n".join(output.splitlines()[-12:]))
    return Error(
        "a script failed on the builder",
        code="provisioner-failed",
        expected="exit code 0",
        found=(f"exit code {status[1]}; the last words:" if status else "the last words:")
        + "\n"
        + _tail(script_output),
        fix=f"correct the script; all of it: {log}",
    )


def _plain(line: str) -> str:
    return _PREFIX.sub("", line).strip()


def _tail(text: str) -> str:
    lines = [_plain(line) for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
