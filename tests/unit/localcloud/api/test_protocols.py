"""Every service that botocore knows is refused in the words that its own client reads.

A client that can't read an error has no code, and retries or guesses.
"""

from __future__ import annotations

import urllib.parse
from collections import Counter
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import HeadersDict
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from tests.support.localcloud_iam import KEY, REGION, IamLab, iam_lab

PROTOCOLS = ("ec2", "query", "json", "rest-json", "rest-xml", "smithy-rpc-v2-cbor")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IamLab]:
    with iam_lab(tmp_path_factory.mktemp("lab")) as made:
        yield made


def services() -> Iterator[ServiceModel]:
    loader = botocore.session.get_session().get_component("data_loader")
    for name in loader.list_available_services("service-2"):
        yield ServiceModel(loader.load_service_model(name, "service-2"), name)


def asked(operation: OperationModel, protocol: str, key: str, signature: str = "00") -> dict[str, Any]:
    """Return the request of an operation, with something in its path, as its client makes it and signs it."""
    shape = operation.input_shape
    inside: dict[str, Any] = {}
    for name, member in shape.members.items() if shape else ():
        if member.serialization.get("location") == "uri" or member.serialization.get("hostLabel"):
            inside[name] = 1 if member.type_name in {"integer", "long"} else "name"
    made: dict[str, Any] = create_serializer(protocol, False).serialize_to_request(inside, operation)
    model = operation.service_model
    scope = f"{key}/20261129/{REGION}/{model.signing_name}/aws4_request"
    made["headers"] = {name: str(value) for name, value in made["headers"].items()}
    if key:
        made["headers"]["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={signature}"
        )
    return made


def code(lab: IamLab, operation: OperationModel, protocol: str, key: str, signature: str = "00") -> str:
    """Ask for an operation; return the code of the error that its client reads."""
    made = asked(operation, protocol, key, signature)
    body = urllib.parse.urlencode(made["body"]) if isinstance(made["body"], dict) else made["body"] or b""
    content = body.encode() if isinstance(body, str) else bytes(body)
    host = f"https://{operation.service_model.endpoint_prefix}.{REGION}.amazonaws.com"
    status, headers, answer = lab.send(made["method"], f"{host}{made['url_path']}", content, made["headers"])
    response = {"status_code": status, "headers": HeadersDict(dict(headers.items())), "body": answer}
    shape: Any = operation.output_shape
    parsed = create_parser(protocol).parse(response, shape)
    return f"{parsed['Error']['Code']}" if status >= 400 else f"status {status}"


def protocols(model: ServiceModel) -> list[str]:
    return [each for each in model.metadata.get("protocols", [model.metadata["protocol"]]) if each in PROTOCOLS]


@pytest.mark.incident("a REST-JSON service got XML, and its client an error without a code")
def test_the_client_of_every_service_reads_why_it_is_refused(lab: IamLab) -> None:
    seen: Counter[str] = Counter()
    wrong = {}
    for model in services():
        for protocol in protocols(model):
            operation = model.operation_model(model.operation_names[0])
            got = code(lab, operation, protocol, KEY, "made up")
            if got != "IncompleteSignature":
                wrong[f"{model.service_name} by {protocol}"] = got
            seen[protocol] += 1
    assert wrong == {}
    assert sorted(seen) == sorted(PROTOCOLS)
    assert seen.total() > 400
