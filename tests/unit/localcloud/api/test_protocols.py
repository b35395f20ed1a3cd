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

from localcloud.settings import KEY_PREFIX
from tests.support.localcloud.iam import KEY, REGION, IamLab, iam_lab, refused

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


@pytest.mark.incident("what a JSON service lacks hung until the client's time-out: the body was read a second time")
@pytest.mark.parametrize(
    ("service", "operation", "given"),
    [
        ("ssm", "start_session", {"Target": "i-1"}),
        ("ssm", "describe_sessions", {"State": "Active"}),
        ("cloudtrail", "lookup_events", {}),
        ("ec2", "describe_fast_launch_images", {}),
        ("iam", "list_organizations_features", {}),
        ("sts", "decode_authorization_message", {"EncodedMessage": "x"}),
        ("sesv2", "list_suppressed_destinations", {}),
        ("lambda", "list_provisioned_concurrency_configs", {"FunctionName": "f"}),
        ("cloudwatch", "list_managed_insight_rules", {"ResourceARN": "arn:aws:ec2:x"}),
        ("s3", "list_bucket_metrics_configurations", {"Bucket": "box"}),
        ("route53", "list_traffic_policies", {}),
        ("dynamodb", "list_global_tables", {}),
        ("braket", "search_devices", {"filters": []}),
    ],
)
def test_what_the_cloud_lacks_is_refused_at_once_to_every_kind_of_client(
    lab: IamLab, service: str, operation: str, given: dict[str, Any]
) -> None:
    made = lab.client("s3")
    if service == "s3":
        made.create_bucket(Bucket="box", CreateBucketConfiguration={"LocationConstraint": REGION})
    assert refused(getattr(lab.client(service), operation), **given) == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("service", "operation", "given", "expected"),
    [
        ("ec2", "describe_instances", {}, "UnauthorizedOperation"),
        ("iam", "list_users", {}, "AccessDenied"),
        ("ssm", "describe_parameters", {}, "AccessDeniedException"),
        ("sesv2", "list_email_identities", {}, "AccessDeniedException"),
        ("lambda", "list_functions", {}, "AccessDeniedException"),
        ("s3", "list_buckets", {}, "AccessDenied"),
        ("route53", "list_hosted_zones", {}, "AccessDenied"),
        ("cloudwatch", "list_metrics", {}, "AccessDeniedException"),
        ("stepfunctions", "list_state_machines", {}, "AccessDeniedException"),
        ("apigateway", "get_rest_apis", {}, "AccessDeniedException"),
        ("elbv2", "describe_load_balancers", {}, "AccessDenied"),
        ("resourcegroupstaggingapi", "get_resources", {}, "AccessDeniedException"),
    ],
)
def test_who_may_not_is_told_so_in_the_service_s_words_and_so_is_a_key_of_a_cloud_that_is_gone(
    lab: IamLab, service: str, operation: str, given: dict[str, Any], expected: str
) -> None:
    gone = {"AccessKeyId": f"{KEY_PREFIX}0000000000", "SecretAccessKey": "localcloud", "SessionToken": ""}
    assert refused(getattr(lab.client(service, gone), operation), **given) == "InvalidClientTokenId"
    nobody = lab.role(f"of-{service}", {"Effect": "Allow", "Action": "codestar:*", "Resource": "*"})
    assert refused(getattr(lab.client(service, nobody), operation), **given) == expected
