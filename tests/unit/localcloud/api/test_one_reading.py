"""What IAM decides and what moto does is one call: no request means one thing to the one and another to the other.

All of it against moto itself: a stand-in for it would have let each of these pass.
"""

from __future__ import annotations

import gzip
import io
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response

from localcloud.api.calls import ApiCall, for_moto
from localcloud.api.one_form import RequestRefused
from localcloud.settings import ACCOUNT
from tests.support.localcloud.iam import INSTANCE_TRUST, REGION, IamLab, iam_lab, signed

JSON = "application/x-amz-json-1.1"
FORM = "application/x-www-form-urlencoded"
BOX = "https://box.s3.eu-west-1.amazonaws.com"
SSM, STS, IAM = (f"https://{name}.eu-west-1.amazonaws.com" for name in ("ssm", "sts", "iam"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    with iam_lab(tmp_path) as made:
        s3 = made.client("s3")
        s3.create_bucket(Bucket="box", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket="box", Key="secret", Body=b"the secret")
        s3.put_object(Bucket="box", Key="Signature=0", Body=b"the secret")
        s3.put_object(Bucket="box", Key="mine", Body=b"mine")
        ssm = made.client("ssm")
        ssm.put_parameter(Name="/mine", Value="mine", Type="String")
        ssm.put_parameter(Name="/secret", Value="the secret", Type="String")
        made.client("iam").create_role(RoleName="prod", AssumeRolePolicyDocument=json.dumps(INSTANCE_TRUST))
        yield made


class Machine:
    """A machine's role, which may read one parameter and one object, and say that it lives."""

    def __init__(self, lab: IamLab) -> None:
        self._lab = lab
        parameter = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/mine"
        self.credentials = lab.role(
            "machine",
            {"Effect": "Allow", "Action": "ssm:UpdateInstanceInformation", "Resource": "*"},
            {"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": parameter},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::box/mine"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::box",
             "Condition": {"StringEquals": {"s3:prefix": "mine"}}},
        )  # fmt: skip

    def scope(self, service: str, region: str = REGION) -> str:
        return f"{self.credentials['AccessKeyId']}/20261129/{region}/{service}/aws4_request"

    def ask(
        self, service: str, url: str, body: str | bytes = "", method: str = "POST", **given: str
    ) -> tuple[int, bytes]:
        """Make a signed request; return status and content of the answer."""
        named = {name.replace("_", "-"): value for name, value in given.items()}
        sent = body.encode() if isinstance(body, str) else body
        headers = signed(self.credentials, service, (method, url, sent), named)
        status, _, content = self._lab.send(method, url, sent, headers)
        return status, content

    def get_parameter(self, body: str | bytes, **headers: str) -> tuple[int, bytes]:
        target = {"X_Amz_Target": "AmazonSSM.GetParameter", "Content_Type": JSON}
        return self.ask("ssm", f"{SSM}/", body, **{**target, **headers})


@pytest.fixture
def machine(lab: IamLab) -> Machine:
    return Machine(lab)


def refused(answer: tuple[int, bytes]) -> bool:
    return answer[0] in {400, 403} and b"the secret" not in answer[1]


def test_the_machine_can_do_what_it_may_and_is_refused_the_rest(machine: Machine) -> None:
    assert machine.get_parameter('{"Name": "/mine"}')[0] == 200
    assert refused(machine.get_parameter('{"Name": "/secret"}'))
    assert machine.ask("s3", f"{BOX}/mine", method="GET") == (200, b"mine")
    assert refused(machine.ask("s3", f"{BOX}/secret", method="GET"))
    assert machine.ask("s3", f"{BOX}/?list-type=2&prefix=mine", method="GET")[0] == 200
    assert refused(machine.ask("s3", f"{BOX}/?list-type=2", method="GET"))


@pytest.mark.incident("a machine's role sent commands to every machine: its query named one action, its header another")
@pytest.mark.parametrize(
    ("query", "body", "headers"),
    [
        ("?Action=GetParameter&Name=/secret", "{}", {}),
        ("", "Action=GetParameter&Name=/secret", {"Content_Type": FORM}),
        ("", '{"a": "&Action=GetParameter&Name=/secret&"}', {}),
        ("", "", {"Action": "GetParameter", "Name": "/secret"}),
        ("", '{"a": "b"}', {"X_Amz_Target": "AmazonSSM.UpdateInstanceInformation,AmazonSSM.GetParameter"}),
    ],
)
def test_a_target_stands_alone(machine: Machine, query: str, body: str, headers: Mapping[str, str]) -> None:
    said = {"X_Amz_Target": "AmazonSSM.UpdateInstanceInformation", "Content_Type": JSON, **headers}
    status, content = machine.ask("ssm", f"{SSM}/{query}", body, **said)
    assert b"the secret" not in content
    assert status != 200 or b"Parameter" not in content


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ('{"Name": "/mine", "x": "&Name=/secret&"}', {}),
        ('{"Name": "/mine", "Name": "/secret"}', {}),
        (b'{"Name": "/mine"}', {"Content_Type": f"{FORM}; x={JSON}"}),
        (gzip.compress(b'{"Name": "/secret"}', mtime=0), {"Content_Encoding": "gzip"}),
        (b'{"Name": "/secret"}', {"Content_Encoding": "deflate"}),
        ('["/secret"]', {}),
        (b"\xff\xfe", {}),
    ],
)
def test_parameters_in_json_are_the_ones_that_were_decided(
    machine: Machine, body: str | bytes, headers: Mapping[str, str]
) -> None:
    status, content = machine.get_parameter(body, **headers)
    assert b"the secret" not in content
    assert status == 400 or b'"mine"' in content


@pytest.mark.incident("a machine took the release role of prod: its query asked who it is, its form for that role")
@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?Action=GetCallerIdentity", "Action=AssumeRole&RoleArn={role}&RoleSessionName=me"),
        ("", "Action=GetCallerIdentity&Action=AssumeRole&RoleArn={role}&RoleSessionName=me"),
        ("?Action=AssumeRole&RoleArn={role}&RoleSessionName=me", "Action=GetCallerIdentity"),
        ("?Action=GetCallerIdentity&Action=AssumeRole&RoleArn={role}&RoleSessionName=me", ""),
        ("", "Action=AssumeRole&RoleArn={role}&RoleSessionName=me"),
    ],
)
@pytest.mark.parametrize("kind", [FORM, f"{FORM}; charset=utf-16", f"{FORM}x", "multipart/form-data; boundary=x", ""])
def test_an_action_is_named_once(machine: Machine, query: str, body: str, kind: str) -> None:
    role = urllib.parse.quote(f"arn:aws:iam::{ACCOUNT}:role/prod")
    url, form = f"{STS}/{query.format(role=role)}", f"Version=2011-06-15&{body.format(role=role)}"
    headers = {"Content_Type": kind} if kind else {}
    status, content = machine.ask("sts", url, form, **headers)
    assert status in {400, 403}
    assert b"SecretAccessKey" not in content


@pytest.mark.parametrize(
    "names", ["InstanceId.1={0}&InstanceId.3={1}", "InstanceId.1={0}&InstanceId.member.1={1}", "InstanceId.01={1}",
              "InstanceId.1={0}&InstanceIds.1={1}", "InstanceId.1={0}&InstanceId={1}"]
)  # fmt: skip
def test_a_form_s_lists_are_the_ones_that_were_decided(lab: IamLab, machine: Machine, names: str) -> None:
    ec2 = lab.client("ec2")
    image = ec2.register_image(Name="image", RootDeviceName="/dev/xvda")["ImageId"]
    made = ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2)["Instances"]
    mine, other = (one["InstanceId"] for one in made)
    ec2.create_tags(Resources=[mine], Tags=[{"Key": "owner", "Value": "me"}])
    condition = {"StringEquals": {"ec2:ResourceTag/owner": "me"}}
    lab.policy("machine", {"Effect": "Allow", "Action": "ec2:*", "Resource": "*", "Condition": condition})
    form = f"Action=TerminateInstances&Version=2016-11-15&{names.format(mine, other)}"
    machine.ask("ec2", "https://ec2.eu-west-1.amazonaws.com/", form, Content_Type=FORM)
    state = ec2.describe_instances(InstanceIds=[other])["Reservations"][0]["Instances"][0]["State"]["Name"]
    assert state == "running"


CHUNKED = {"X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "Content-Encoding": "aws-chunked"}
DELETE = b"<Delete><Object><Key>secret</Key></Object></Delete>"


@pytest.mark.incident("IAM could not read which objects were to be deleted, asked for none, and moto deleted them")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (DELETE, {}),
        (b"%x\r\n%s\r\n0\r\n\r\n" % (len(DELETE), DELETE), CHUNKED),
        (DELETE.replace(b"secret", b" secret\n"), {}),
        (DELETE.replace(b"<Delete>", b"<Delete>&none;"), {}),
        (b"<Delete></Delete>", {}),
        (b"<Delete><Object></Object></Delete>", {}),
        (b"", {}),
    ],
)
def test_objects_are_deleted_only_where_iam_could_read_which(
    lab: IamLab, machine: Machine, body: bytes, headers: Mapping[str, str]
) -> None:
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    status, answer = machine.ask("s3", f"{BOX}/?delete", body, **named)
    # What becomes of each object is told one by one, where it can be read which.
    assert status in {400, 403} or (b"<Code>AccessDenied</Code>" in answer and b"<Deleted>" not in answer)
    assert lab.client("s3").get_object(Bucket="box", Key="secret")["Body"].read() == b"the secret"


@pytest.mark.parametrize(
    ("service", "body", "headers"),
    [
        ("iam", b'{"RoleName": "prod"}', {"X_Amz_Target": "x.DeleteRole", "Content_Type": JSON}),
        ("iam", b"Action=DeleteRole&RoleName=prod&Version=2010-05-08", {"Content_Type": FORM}),
        ("ssm", b"Action=GetParameter&Name=/secret", {"Content_Type": FORM}),
        ("ssm", b'{"Name": ["/secret"]}', {"X_Amz_Target": "AmazonSSM.GetParameter", "Content_Type": JSON}),
        ("ssm", b'{"Name": "/secret", "WithDecryption": {}}', {"X_Amz_Target": "a.GetParameter", "Content_Type": JSON}),
    ],
)
def test_parameters_that_iam_can_not_read_are_refused(
    lab: IamLab, machine: Machine, service: str, body: bytes, headers: Mapping[str, str]
) -> None:
    everything_but_one = {
        "Effect": "Deny",
        "Action": "*",
        "Resource": ["arn:aws:iam::*:role/prod", "arn:aws:ssm:*:*:parameter/secret"],
    }
    lab.policy("machine", {"Effect": "Allow", "Action": "*", "Resource": "*"}, everything_but_one)
    assert refused(machine.ask(service, f"https://{service}.eu-west-1.amazonaws.com/", body, **headers))
    assert lab.client("iam").get_role(RoleName="prod")["Role"]


@pytest.mark.incident("two scopes in one header: IAM read the first, moto the second")
@pytest.mark.parametrize(
    "header",
    [
        "{0} Credential={1}, x",
        "AWS4-HMAC-SHA256 Credential={0}, SignedHeaders=host, Signature=00, Credential={1}",
        "AWS4-HMAC-SHA256 Credential={1}, Credential={0}, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential={0}, SignedHeaders=host, Signature=00,AWS4-HMAC-SHA256 Credential={1}",
        "AWS4-HMAC-SHA256 Credential={0}",
        "AWS4-HMAC-SHA256 x Credential={0}, SignedHeaders=host, Signature=00",
        "AWS {0}:{1}",
        "Bearer {0}",
    ],
)
def test_a_signature_has_one_form(lab: IamLab, machine: Machine, header: str) -> None:
    token = {"X-Amz-Security-Token": machine.credentials["SessionToken"], "Content-Type": FORM}
    said = header.format(machine.scope("sts"), machine.scope("iam"))
    for form in (b"Action=ListRoles&Version=2010-05-08", b"Action=GetCallerIdentity&Version=2011-06-15"):
        status, _, content = lab.send("POST", f"{IAM}/", form, {"Authorization": said, **token})
        assert status == 403
        assert b"<RoleName>" not in content


@pytest.mark.parametrize("host", ["ssm.us-east-1.amazonaws.com", "iam.amazonaws.com", "box.s3.eu-west-1.amazonaws.com"])
def test_a_call_is_made_in_the_region_and_the_service_that_it_is_signed_for(
    lab: IamLab, machine: Machine, host: str
) -> None:
    lab.send("POST", f"https://{host}/", b"{}", {})
    status, content = machine.ask(
        "ssm", f"https://{host}/", '{"Name": "/mine"}', X_Amz_Target="AmazonSSM.GetParameter", Content_Type=JSON,
        User_Agent="x region/us-east-1", X_Moto_Account_Id="999999999999",
    )  # fmt: skip
    assert status == 200
    assert json.loads(content)["Parameter"]["ARN"] == f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/mine"


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/mine?acl", "GET"),
        ("/mine?list-type=2", "GET"),
        ("/mine?versionId=null&acl", "GET"),
        ("/mine?Action=GetCallerIdentity", "GET"),
        ("/?prefix=mine&prefix=secret&list-type=2", "GET"),
        ("/?prefix=mine&versions&list-type=2", "GET"),
        ("/?prefix=mine&policy&list-type=2", "GET"),
        ("/mine", "POST"),
        ("/mine", "TRACE"),
    ],
)
def test_a_query_says_nothing_but_what_the_operation_takes(machine: Machine, path: str, method: str) -> None:
    assert refused(machine.ask("s3", f"{BOX}{path}", method=method))


def test_a_list_in_the_address_has_its_name_before_each_member_and_nothing_else_is_there_twice(lab: IamLab) -> None:
    ses = lab.client("sesv2")
    identity = f"arn:aws:ses:{REGION}:{ACCOUNT}:configuration-set/c"
    tags = [{"Key": key, "Value": "1"} for key in ("a", "b", "c")]
    ses.create_configuration_set(ConfigurationSetName="c")
    ses.tag_resource(ResourceArn=identity, Tags=tags)
    ses.untag_resource(ResourceArn=identity, TagKeys=["a", "b"])
    assert ses.list_tags_for_resource(ResourceArn=identity)["Tags"] == tags[2:]
    ses.meta.events.register(
        "before-sign.sesv2.*", lambda request, **_: setattr(request, "url", f"{request.url}&ResourceArn=other")
    )
    with pytest.raises(ClientError, match="InvalidRequest"):
        ses.list_tags_for_resource(ResourceArn=identity)


def test_a_bucket_is_what_the_host_s_whole_name_says(lab: IamLab, machine: Machine) -> None:
    lab.policy("machine", {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::www.box/*"})
    assert machine.ask("s3", "https://www.box.s3.eu-west-1.amazonaws.com/secret", method="GET")[0] != 200
    assert refused(machine.ask("s3", "https://BOX.S3.eu-west-1.amazonaws.com/secret", method="GET"))


def test_an_object_that_looks_like_a_form_or_a_call_is_an_object(lab: IamLab, machine: Machine) -> None:
    lab.policy("machine", {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::box/mine"})
    for kind in (FORM, "multipart/form-data; boundary=x", "application/json"):
        assert machine.ask("s3", f"{BOX}/mine", "key=secret&file=x", method="PUT", Content_Type=kind)[0] == 200
        assert lab.client("s3").get_object(Bucket="box", Key="mine")["Body"].read() == b"key=secret&file=x"
    assert refused(machine.ask("s3", f"{BOX}/mine", method="PUT", X_Amz_Copy_Source="box/secret"))
    assert refused(machine.ask("s3", f"{BOX}/mine", method="PUT", X_Amz_Copy_Source="box/%73ecret"))


PRESIGNED = {
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Date": "20261129T000000Z", "X-Amz-Expires": "60",
    "X-Amz-SignedHeaders": "host", "X-Amz-Signature": "00",
}  # fmt: skip


@pytest.mark.incident("?Signature=x read every private object without a key")
@pytest.mark.parametrize(
    "query",
    [
        *("Signature=x", "AWSAccessKeyId=AKIA&Signature=x&Expires=9", "X-Amz-Signature=0", "x-amz-signature=0"),
        *("%53ignature=x", "versionId=null&Signature=x", "response-content-type=Signature=x", "versionId=Signature%3D"),
        *("X-Amz-Credential={0}&X-Amz-Signature=0&Action=GetCallerIdentity", "X-Amz-Credential={1}&{2}"),
    ],
)
@pytest.mark.parametrize("address", [f"{BOX}/secret", "https://s3.eu-west-1.amazonaws.com/box/secret"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_made_up_signature_in_the_address_is_none(
    lab: IamLab, machine: Machine, query: str, address: str, method: str
) -> None:
    said = query.format(
        urllib.parse.quote(machine.scope("sts"), ""),
        urllib.parse.quote(machine.scope("s3"), ""),
        urllib.parse.urlencode({**PRESIGNED, "X-Amz-Security-Token": machine.credentials["SessionToken"]}),
    )
    status, _, content = lab.send(method, f"{address}?{said}", b"changed" if method == "PUT" else b"", {})
    assert status in {400, 403}
    assert b"the secret" not in content
    assert lab.client("s3").get_object(Bucket="box", Key="secret")["Body"].read() == b"the secret"


def test_without_a_key_an_object_is_read_only_by_its_own_acl_or_its_bucket_s_policy(lab: IamLab) -> None:
    s3 = lab.client("s3")
    s3.delete_public_access_block(Bucket="box")
    s3.put_object(Bucket="box", Key="public", Body=b"public", ACL="public-read")
    upload = s3.create_multipart_upload(Bucket="box", Key="parts")["UploadId"]
    part = s3.upload_part(Bucket="box", Key="parts", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    s3.complete_multipart_upload(Bucket="box", Key="parts", UploadId=upload, MultipartUpload=parts)

    def status(key: str, method: str = "GET") -> int:
        return lab.send(method, f"{BOX}/{key}", b"", {})[0]

    assert [status(key) for key in ("public", "secret", "Signature%3D0", "parts", "none")] == [200, 403, 403, 403, 403]
    assert [status("public", method) for method in ("HEAD", "PUT", "DELETE", "POST")] == [200, 403, 403, 403]
    assert lab.send("GET", "https://s3.eu-west-1.amazonaws.com/iam_us-east-1/?Action=ListRoles", b"", {})[0] == 403
    everybody = {"Principal": "*", "Action": "s3:GetObject"}
    allow = {**everybody, "Effect": "Allow", "Resource": "arn:aws:s3:::box/parts"}
    deny = {**everybody, "Effect": "Deny", "Resource": "arn:aws:s3:::box/public"}
    policy = {"Version": "2012-10-17", "Statement": [allow, deny]}
    s3.put_bucket_policy(Bucket="box", Policy=json.dumps(policy))
    assert [status(key) for key in ("public", "secret", "parts")] == [403, 403, 200]


@pytest.mark.incident("who named another's call and a second attempt at it was given its answer, with any key")
def test_the_answer_of_an_earlier_attempt_is_given_to_who_made_it_and_still_may(lab: IamLab, machine: Machine) -> None:
    attempt = {"Amz_Sdk_Invocation_Id": "one", "Amz_Sdk_Request": "attempt={}; max=10"}

    def asked(number: int, by: Machine = machine) -> tuple[int, bytes]:
        headers = {name: value.format(number) for name, value in attempt.items()}
        return by.get_parameter('{"Name": "/mine"}', **headers)

    first = asked(1)
    assert first[0] == 200
    lab.client("ssm").put_parameter(Name="/mine", Value="the secret", Type="String", Overwrite=True)
    assert asked(2) == first, "the answer that was lost"
    other = lab.role("other", {"Effect": "Allow", "Action": "ssm:*", "Resource": "*"})
    machine.credentials, own = other, machine.credentials
    assert asked(2) != first, "another caller's call is its own"
    machine.credentials = {**own, "SessionToken": "wrong"}
    assert refused(asked(2))
    machine.credentials = own
    lab.policy("machine", {"Effect": "Allow", "Action": "ssm:UpdateInstanceInformation", "Resource": "*"})
    assert refused(asked(2))


def test_what_moto_would_do_instead_is_not_done(lab: IamLab) -> None:
    """Should a way be left to name another action to moto: it is compared with what was decided, and refused."""
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/", "SERVER_NAME": "x", "SERVER_PORT": "443", "CONTENT_TYPE": FORM,
        "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(b"Action=ListRoles"), "CONTENT_LENGTH": "16",
    }  # fmt: skip
    moto = DomainDispatcherApplication(create_backend_app)
    with pytest.raises(RequestRefused, match="GetUser was asked for, and ListRoles too"):
        Response.from_app(moto, for_moto(environ, ApiCall("iam", "GetUser", "eu-west-1", "KEY")), buffered=True)
