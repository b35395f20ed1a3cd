"""A row of the contract: an operation, a request, and what AWS answers, with the page that says so.

Requests are as boto3 takes them, for no client checks them here. In a text, `$name` is what the stage makes of that
name (stage.py): an instance, a volume, … Answers are looked at by JMESPath.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Request = Mapping[str, Any]
# JMESPath -> what is there: a value, `...` for anything but nothing, None for nothing, a pattern for a whole text.
Answer = Mapping[str, Any]

UNSUPPORTED = "UnsupportedOperation"
_REFERENCES = {
    "cloudwatch": "AmazonCloudWatch/latest/APIReference/API_{}.html",
    "ec2": "AWSEC2/latest/APIReference/API_{}.html",
    "iam": "IAM/latest/APIReference/API_{}.html",
    "kms": "kms/latest/APIReference/API_{}.html",
    "logs": "AmazonCloudWatchLogs/latest/APIReference/API_{}.html",
    "s3": "AmazonS3/latest/API/API_{}.html",
    "ses": "ses/latest/APIReference/API_{}.html",
    "sesv2": "ses/latest/APIReference-V2/API_{}.html",
    "sns": "sns/latest/api/API_{}.html",
    "ssm": "systems-manager/latest/APIReference/API_{}.html",
    "sts": "STS/latest/APIReference/API_{}.html",
}


@dataclass(frozen=True)
class Refused:
    """A refusal: AWS's code, with `|` where its pages have two; a pattern that is somewhere in its message."""

    code: str
    message: str = ""


@dataclass(frozen=True)
class Step:
    """One call: `operation` is SERVICE:NAME, `caller` the credentials on the stage that make it ("": the owner's).

    `keep` names parts of the answer (JMESPath) for later requests.
    """

    operation: str
    request: Request = field(default_factory=dict)
    expected: Answer | Refused = field(default_factory=dict)
    region: str = ""
    caller: str = ""
    keep: Mapping[str, str] = field(default_factory=dict)

    @property
    def service(self) -> str:
        """The name of its service's model."""
        return self.operation.partition(":")[0]

    @property
    def name(self) -> str:
        """The operation's own name."""
        return self.operation.partition(":")[2]


@dataclass(frozen=True)
class Row:
    """What AWS says of one call. `before` has to succeed, `then` is seen afterwards, within seconds.

    `page` is a page below https://docs.aws.amazon.com/, by default the operation's own in the API reference. `guess`
    says of a code that no page names it for this, and what it was taken from.
    """

    call: Step
    says: str
    page: str
    before: tuple[Step, ...] = ()
    then: tuple[Step, ...] = ()
    guess: str = ""

    @property
    def refused(self) -> str:
        """The code that it is refused with, "" when it is carried out."""
        return self.call.expected.code if isinstance(self.call.expected, Refused) else ""

    @property
    def url(self) -> str:
        """Where AWS says so."""
        return f"https://docs.aws.amazon.com/{self.page}"

    def __str__(self) -> str:
        return f"{self.call.name}: {self.says}"


def row(
    operation: str,
    says: str,
    request: Request,
    expected: Answer | Refused | str,
    *,
    page: str = "",
    before: tuple[Step, ...] = (),
    then: tuple[Step, ...] = (),
    region: str = "",
    caller: str = "",
    guess: str = "",
) -> Row:
    """Make a row; an `expected` text is the code of a refusal."""
    answer = Refused(expected) if isinstance(expected, str) else expected
    call = Step(operation, request, answer, region, caller)
    return Row(call, says, page or _REFERENCES[call.service].format(call.name), before, then, guess)


def matches(found: Any, wanted: Any) -> bool:
    """Tell whether a part of an answer is what a row says."""
    if wanted is ...:
        return found not in (None, "", [], {})
    if wanted is None:
        return found in (None, "", [], {})
    if isinstance(wanted, re.Pattern):
        return isinstance(found, str) and wanted.fullmatch(found) is not None
    return bool(found == wanted)
