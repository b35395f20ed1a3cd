"""Packer's ways to fail, each as a fault of its own: Packer itself ends with exit code 1 for all of them."""

from __future__ import annotations

import re
from pathlib import Path

from support.errors import Fault, HostLacks

_TAIL_LINES = 20


class PackerFailed(Fault):
    """Packer failed in a way that is not known here; its own last words are in `found`."""


class TemplateNotFormatted(Fault):
    """A file of the template is not as `packer fmt` writes it."""


class TemplateInvalid(Fault):
    """The template, or a value that was given to it, is wrong."""


class PluginMissing(HostLacks):
    """Packer does not find the plugin that the template requires."""


class SourceImageMissing(Fault):
    """No image matches the template's source filter."""


class BuilderCredentials(Fault):
    """Packer was refused by AWS for who it is or what it may do."""


class BuilderRegion(Fault):
    """The region is none, or not one of this account's."""


class BuilderUnreachable(Fault):
    """The builder runs but never answers SSH."""


class BuilderNotLaunched(Fault):
    """AWS does not give us the builder: no capacity, a limit, no network."""


class ProvisionerFailed(Fault):
    """A script that runs on the builder failed."""


class NameTaken(Fault):
    """Another image got the name between our look and Packer's."""


class BuildCancelled(Fault):
    """Somebody else stopped Packer, which has cleaned up after itself."""


class NoImageMade(Fault):
    """Packer says that it succeeded, and its manifest names no image of this region."""


# (what Packer says, the fault, what happened, what was expected, what to do). The first that matches wins, so what has
# a cause comes before what is only where it happened.
_KNOWN: tuple[tuple[str, type[Fault], str, str, str], ...] = (
    (
        r"Cleanly cancelled builds",
        BuildCancelled,
        "Packer was stopped from outside, and has cleaned up",
        "to build to the end",
        "build again",
    ),
    (
        r"No AMI was found matching filters",
        SourceImageMissing,
        "no image matches the source filter",
        "an Amazon Linux image of the release and kernel that versions.json pins",
        "correct base.release and base.kernel in versions.json, or name an image with --source-ami-id",
    ),
    (
        (
            r"No valid credential sources found|failed to refresh cached credentials|no EC2 IMDS role found|"
            r"InvalidClientTokenId|SignatureDoesNotMatch|AuthFailure|ExpiredToken|RequestExpired|InvalidAccessKeyId"
        ),
        BuilderCredentials,
        "AWS does not accept Packer's credentials",
        "credentials that last for the whole build",
        "log in again (aws sso login, or new session keys), then build again",
    ),
    (
        r"UnauthorizedOperation|AccessDenied",
        BuilderCredentials,
        "these credentials may not build an image",
        "the rights that Packer needs (EC2 instances, images, key pairs, security groups)",
        "use the build role (infrastructure/iam/)",
    ),
    (
        r"error validating regions|[Ii]nvalid region|Not a valid region|Unknown region|not enabled in this account",
        BuilderRegion,
        "Packer does not accept the region",
        "a region that exists and is enabled",
        "set region in pyproject.toml, ZMANIM_REGION or --region",
    ),
    (
        r"is used by an existing AMI|InvalidAMIName\.Duplicate",
        NameTaken,
        "an image of that name exists by now",
        "no other build of this version at the same time",
        "build again: an equal image is reused, another needs --replace",
    ),
    (
        r"Timeout waiting for SSH|ssh: handshake failed|Error waiting for SSH",
        BuilderUnreachable,
        "the builder does not answer SSH",
        "SSH within the template's ssh_timeout",
        "check the subnet's route to this machine (setting subnet_id) and the source image",
    ),
    (
        (
            r"InsufficientInstanceCapacity|VcpuLimitExceeded|InstanceLimitExceeded|VPCIdNotSpecified|No default VPC|"
            r"InvalidSubnetID|Error launching source instance|Unsupported: Your requested instance type"
        ),
        BuilderNotLaunched,
        "AWS does not launch the builder",
        "an instance of the type that the settings name",
        "choose another instance_type or subnet_id, or have the limit raised",
    ),
    (
        r"Missing plugins|no plugin installed for|Did you run packer init|plugin.*not found",
        PluginMissing,
        "Packer does not find its Amazon plugin",
        "the plugin below PACKER_PLUGIN_PATH",
        'eval "$(./inv tools.env)" sets the path; ./inv doctor says what is missing',
    ),
)
_SCRIPT_FAILED = re.compile(r"Script exited with non-zero|Script disconnected|Error uploading|Upload failed")
_SUMMARY = re.compile(r"--> |Build '[^']+' errored after|Cleanly cancelled")
_SCRIPTS_BEGIN = "Provisioning with shell script"
_SCRIPTS_END = re.compile(r"^==> [\w.-]+: (?:Provisioning step had errors|Terminating the source)", re.MULTILINE)
_PREFIX = re.compile(r"^(?:==>|-->) (?:[\w-]+(?:\.[\w-]+)+: )?")


def build_failure(output: str, log: Path) -> Fault:
    """Return the fault that Packer's output tells of; `log` is where all of it can be read."""
    words = _own_words(output)
    for pattern, cause, summary, expected, fix in _KNOWN:
        if match := re.search(rf"^.*(?:{pattern}).*$", words, re.MULTILINE):
            return cause(summary, expected=expected, found=_plain(match[0]), fix=f"{fix}; all of it: {log}")
    if _SCRIPT_FAILED.search(words):
        return _script_failure(output, log)
    if re.search(r"^Error: ", output, re.MULTILINE):
        return TemplateInvalid(
            "Packer does not accept the template", expected="packer validate to pass", found=_tail(output), fix=str(log)
        )
    return PackerFailed("Packer failed", expected="exit code 0", found=_tail(output), fix=f"all of it: {log}")


def template_failure(output: str) -> Fault:
    """Return the fault that `packer init` or `packer validate` tells of."""
    if re.search(_KNOWN[-1][0], output):
        _, cause, summary, expected, fix = _KNOWN[-1]
        return cause(summary, expected=expected, found=_tail(output), fix=fix)
    return TemplateInvalid(
        "Packer does not accept the template",
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


def _script_failure(output: str, log: Path) -> Fault:
    said = _SCRIPTS_END.split(output.partition(_SCRIPTS_BEGIN)[2])[0]
    status = re.search(r"exit status: (\d+)", "\n".join(output.splitlines()[-12:]))
    return ProvisionerFailed(
        "a script failed on the builder",
        expected="exit code 0",
        found=(f"exit code {status[1]}; the last words:" if status else "the last words:") + "\n" + _tail(said),
        fix=f"correct the script; all of it: {log}",
    )


def _plain(line: str) -> str:
    return _PREFIX.sub("", line).strip()


def _tail(text: str) -> str:
    lines = [_plain(line) for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])
