"""Which operations of AWS the product calls: the pipeline, the image, Packer, the documents, the local cloud's clients.

From the sources, so that a new call is seen: methods of the pipeline's clients, targets that the image asks for, what
the roles' policies allow (Packer's are in the build role's), and commands of the AWS CLI in documents and scripts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import botocore.session
from botocore import xform_name

from tests.support import ROOT

# The services of the pipeline's clients (zmanim_ami.pipeline.aws), and of what the image's agents ask.
SERVICES = ("cloudwatch", "ec2", "iam", "kms", "logs", "s3", "ses", "sesv2", "sns", "ssm", "sts")
# Actions of policies whose operations have another name (AWS's "Service Authorization Reference").
_ACTIONS = {
    "s3:ListBucket": "s3:ListObjectsV2",
    "s3:ListBucketVersions": "s3:ListObjectVersions",
    "s3:GetObjectVersion": "s3:GetObject",
    "kms:ReEncrypt*": "kms:ReEncrypt",
}
# What AWS's services ask each other, and agents that the local cloud has none of: no operation of these is served.
_AGENTS = re.compile(r"(ec2messages|ssmmessages):|iam:PassRole|ssm:UpdateInstanceInformation")
# boto3's own methods, and the operations that they make.
_TRANSFERS = {"upload_file": "PutObject", "download_file": "GetObject"}


def operations() -> set[str]:
    """Return the operations, as SERVICE:NAME."""
    found = {*_by_clients(), *_by_policies(), *_by_commands(), *_by_image()}
    return {each for each in found if not _AGENTS.match(each)}


@cache
def _names(service: str) -> dict[str, str]:
    """Return a service's operations by their names in Python."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): str(name) for name in model.operation_names}


@cache
def _waiters(service: str) -> dict[str, str]:
    session = botocore.session.get_session()
    try:
        waiters = session.get_waiter_model(service)
    except Exception:  # a service without any
        return {}
    return {xform_name(name): waiters.get_waiter(name).operation for name in waiters.waiter_names}


def _by_clients() -> Iterator[str]:
    for path in sorted((ROOT / "zmanim_ami").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute | ast.Name):
                service = node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id
                if service in SERVICES:
                    names = {**_names(service), **(_TRANSFERS if service == "s3" else {})}
                    if node.attr in names:
                        yield f"{service}:{names[node.attr]}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield from _indirect(node, node.func)


def _indirect(node: ast.Call, called: ast.Attribute) -> Iterator[str]:
    """Yield the operation of a paginator or a waiter."""
    if called.attr not in {"get_paginator", "get_waiter"} or not isinstance(called.value, ast.Attribute):
        return
    service = called.value.attr
    names = _names(service) if called.attr == "get_paginator" else _waiters(service)
    if node.args and isinstance(node.args[0], ast.Constant):
        yield f"{service}:{names[str(node.args[0].value)]}"


def _by_policies() -> Iterator[str]:
    for path in sorted((ROOT / "infrastructure/iam").glob("*.json")):
        for action in re.findall(r'"(\w+:[A-Z][A-Za-z]+\*?)"', path.read_text()):
            named = _ACTIONS.get(action, action)
            service, _, operation = named.partition(":")
            # The other words of that form are conditions' keys.
            if service in SERVICES and operation in _names(service).values():
                yield named


def _by_commands() -> Iterator[str]:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    scripts = [path for path in (ROOT / "infrastructure/packer").rglob("*") if path.suffix in {".sh", ".hcl", ""}]
    for path in [*pages, *(path for path in scripts if path.is_file())]:
        yield from _commands(path.read_text(), r"\baws (\w+) (wait )?([a-z][a-z0-9-]+)")


def _commands(text: str, pattern: str) -> Iterator[str]:
    for service, waits, command in re.findall(pattern, text):
        model = {"s3api": "s3"}.get(service, service)
        if model in SERVICES:
            names = _waiters(model) if waits else _names(model)
            if name := names.get(command.replace("-", "_")):
                yield f"{model}:{name}"


def _by_image() -> Iterator[str]:
    for path in sorted((ROOT / "infrastructure/packer/files/zmanim_host").rglob("*.py")):
        text = path.read_text()
        yield from (f"ssm:{name}" for name in re.findall(r"AmazonSSM\.(\w+)", text))
        yield from _commands(text, r'aws\("(\w+)", (wait )?"([a-z][a-z0-9-]+)"')


# restic's, by the source of its S3 client: what a backup in a bucket is made of.
RESTIC = tuple(
    f"s3:{name}"
    for name in (
        *("PutObject", "GetObject", "HeadObject", "DeleteObject", "ListObjectsV2", "CreateMultipartUpload"),
        *("UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload", "GetBucketLocation"),
    )
)


def lacking(rows: set[str]) -> list[str]:
    """Return the operations that the product calls and that no row is about."""
    return sorted({*operations(), *RESTIC} - rows)
