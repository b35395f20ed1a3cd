"""Which condition keys this cloud knows the values of, or knows to be absent from a request."""

from __future__ import annotations

_KNOWN = {
    "aws:currenttime", "aws:epochtime", "aws:principalaccount", "aws:principalarn", "aws:principaltype",
    "aws:requestedregion", "aws:resourceaccount", "aws:securetransport", "aws:userid", "aws:username",
    "cloudwatch:namespace", "ec2:createaction", "ec2:instanceprofile", "ec2:instancetype", "ec2:metadatahttptokens",
    "ec2:sourceinstancearn", "iam:passedtoservice", "kms:calleraccount", "kms:keyspec", "kms:keyusage",
    "kms:messagetype", "kms:requestalias", "kms:signingalgorithm", "kms:viaservice", "s3:delimiter", "s3:max-keys",
    "s3:prefix", "s3:versionid", "s3:x-amz-acl", "s3:x-amz-content-sha256", "s3:x-amz-copy-source",
    "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id", "s3:x-amz-storage-class",
    "ses:fromaddress", "ses:recipients", "sts:externalid", "sts:rolesessionname",
}  # fmt: skip
_KNOWN_FAMILIES = ("aws:principaltag/", "ec2:resourcetag/", "ssm:resourcetag/")
# Services whose calls are searched for the tags that they bring, and whose resources' tags are looked up.
_TAGGING = {"ec2", "ssm", "kms", "iam"}
_TAGGED = {"ec2"}


def knows(key: str, action: str) -> bool:
    """Say whether a key's value in a request for `action` is known, if only to be none. Both in lower case.

    The claims of an identity provider's token are all in it.
    """
    service = action.partition(":")[0]
    if key in _KNOWN or key.startswith(_KNOWN_FAMILIES):
        return True
    if key == "aws:tagkeys" or key.startswith("aws:requesttag/"):
        return service in _TAGGING
    if key.startswith("aws:resourcetag/"):
        return service in _TAGGED or action.lower() == "ssm:sendcommand"
    return action.lower() == "sts:assumerolewithwebidentity" and "." in key.partition(":")[0]
