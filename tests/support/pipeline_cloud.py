"""What the tests of the pipeline share: an empty account (moto's, in process), and images in it.

An operation that moto only pretends to do is answered by the test itself, at botocore's own seam (`answer`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from moto import mock_aws

from tests.support import bucket_name
from zmanim_ami.pipeline import attestation, aws
from zmanim_ami.pipeline.account.keys import signing_key
from zmanim_ami.pipeline.account.requirements import VERIFICATION_KEY, VERIFY
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.aws import Clients, Poller
from zmanim_ami.pipeline.visibility import Written

ACCOUNT = "123456789012"  # moto's
SHA = "ab" * 32
COMMIT = "c0ffee" + "0" * 34
TREE = "cd" * 32


_BLOCKED = "block-new-sharing"
_withdraw: dict[tuple[int, str], Callable[[], None]] = {}


_connected: dict[str, Clients] = {}


def _clients(region: str) -> Clients:
    # Made once: parsing botocore's model of EC2 for every test would take most of the tests' time.
    if region not in _connected:
        poller = hurried()
        _connected[region] = aws.connect(region, Written(poller.sleep, poller.clock))
    return _connected[region]


def clients(region: str) -> Clients:
    """Clients of a region of that account."""
    made = _clients(region)
    # moto has no such operation; out of SES's sandbox, unless a test says something else.
    answer(made.sesv2, "GetAccount", lambda request: {"ProductionAccessEnabled": True})
    # Nor these: nothing is shared with everybody.
    answer(made.ec2, "GetImageBlockPublicAccessState", lambda request: {"ImageBlockPublicAccessState": _BLOCKED})
    answer(made.ec2, "GetSnapshotBlockPublicAccessState", lambda request: {"State": _BLOCKED})
    return made


@contextmanager
def environment() -> Iterator[None]:
    """An environment with credentials that are good for nothing, whatever the caller's shell says about AWS."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    clean |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # hundreds of images that no test is about
    }
    with mock.patch.dict(os.environ, clean, clear=True):
        yield


@contextmanager
def account(region: str = "eu-west-1") -> Iterator[Clients]:
    """Clients of an empty account."""
    with environment(), mock_aws():
        made = clients(region)
        try:
            yield made
        finally:
            # Of every region: what was written in one account is never seen in the next, and would be waited for.
            for each in _connected.values():
                each.written.forget()
            while _withdraw:
                _withdraw.popitem()[1]()


def answer(client: Any, operation: str, reply: Callable[[Mapping[str, Any]], Mapping[str, Any] | str | None]) -> None:
    """Answer a client's operation: a parsed response, an error code (text), or None to let moto answer.

    `reply` is called with the request as botocore has serialised it, under the key "body". A later answer to the same
    operation takes the place of an earlier one.
    """

    def handler(params: Mapping[str, Any], **_: Any) -> Any:
        given = reply(params)
        if given is None:
            return None
        if isinstance(given, str):
            return SimpleNamespace(status_code=400), {"Error": {"Code": given, "Message": "by the test"}}
        return SimpleNamespace(status_code=200), {"ResponseMetadata": {}, **given}

    event = f"before-call.{client.meta.service_model.service_id.hyphenize()}.{operation}"
    if earlier := _withdraw.pop((id(client), event), None):
        earlier()
    client.meta.events.register_first(event, handler)
    _withdraw[id(client), event] = lambda: client.meta.events.unregister(event, handler)


def json_body(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a request of a JSON service holds."""
    body: Mapping[str, Any] = json.loads(request["body"])
    return body


def make_image(clients: Clients, name: str = "zmanim-v1.2.3", **tags: str) -> str:
    """Make an image with a snapshot of its own; tags are given by their names behind `zmanim:`, `_` for `-`."""
    instance = clients.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ami_id = clients.ec2.create_image(InstanceId=instance, Name=name)["ImageId"]
    clients.ec2.terminate_instances(InstanceIds=[instance])
    given = [{"Key": f"zmanim:{tag.replace('_', '-')}", "Value": value} for tag, value in tags.items() if value]
    clients.ec2.create_tags(Resources=[ami_id], Tags=[{"Key": "Name", "Value": name}, *given])  # type: ignore[list-item]
    return ami_id


def make_bucket(clients: Clients, kind: str, environment: str) -> None:
    """Make a bucket and the parameter that names it, as account.apply does."""
    name = bucket_name(kind, environment)
    here: Any = {"CreateBucketConfiguration": {"LocationConstraint": clients.region}}
    clients.s3.create_bucket(Bucket=name, BucketNamespace="account-regional", **here)
    clients.ssm.put_parameter(Name=f"/zmanim/{environment}/{kind}-bucket", Value=name, Type="String", Overwrite=True)


def prepare_reports(clients: Clients) -> None:
    """Make what reports are kept in and signed with, unless an account has it."""
    if signing_key.find(clients, VERIFICATION_KEY) is None:
        signing_key.create(clients, VERIFICATION_KEY)
        make_bucket(clients, "releases", VERIFY)


def attest(clients: Clients, ami_id: str, **content: object) -> str:
    """Let an image be as a passed verification leaves it, with `content` in its report; return the report's digest."""
    prepare_reports(clients)
    report = json.dumps({"ami_id": ami_id, "ok": True, **content}).encode()
    digest = attestation.keep(clients, image.of_id(clients, ami_id), report)
    clients.ec2.create_tags(Resources=[ami_id], Tags=[{"Key": image.VERIFIED_TAG, "Value": digest}])
    return digest


def image_tags(clients: Clients, ami_id: str) -> dict[str, str]:
    """Return an image's tags."""
    return {tag["Key"]: tag["Value"] for tag in clients.ec2.describe_images(ImageIds=[ami_id])["Images"][0]["Tags"]}


def alive(clients: Clients) -> list[str]:
    """Return every instance that is not terminated."""
    return [
        instance["InstanceId"]
        for item in clients.ec2.describe_instances()["Reservations"]
        for instance in item["Instances"]
        if instance["State"]["Name"] not in {"terminated", "shutting-down"}
    ]


def hurried() -> Poller:
    """A poller whose clock runs on by what is slept, without sleeping."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return Poller(1.0, sleep=sleep, clock=lambda: now[0])
