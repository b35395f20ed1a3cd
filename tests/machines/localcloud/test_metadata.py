from __future__ import annotations

import json
from typing import Any

from tests.support.machines.lab import Lab

# A function `imds PATH` for scripts: one token, one answer.
IMDS = """
imds() {
  token=$(curl -sS -f -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
  curl -sS -f -H "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/$1"
}
"""
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def profile(lab: Lab, name: str, *actions: str) -> None:
    iam = lab.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName=name, PolicyName="allowed", PolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


def v1_status(lab: Lab, instance: str) -> str:
    command = "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/instance-id"
    return lab.run(instance, command)


def test_version_1_is_refused_and_version_2_answered_where_tokens_are_required(lab: Lab) -> None:
    instance = lab.launch_and_wait(MetadataOptions={"HttpTokens": "required"})
    assert v1_status(lab, instance) == "401"
    assert lab.run(instance, IMDS + "imds meta-data/instance-id") == instance
    document = json.loads(lab.run(instance, IMDS + "imds dynamic/instance-identity/document"))
    assert (document["instanceId"], document["architecture"]) == (instance, "arm64")
    lab.terminate(instance)


def test_the_image_s_own_imds_support_requires_tokens_and_the_launch_may_say_otherwise(lab: Lab) -> None:
    as_the_image_says = lab.launch_and_wait()
    as_the_launch_says = lab.launch_and_wait(MetadataOptions={"HttpTokens": "optional"})
    assert v1_status(lab, as_the_image_says) == "401"
    assert v1_status(lab, as_the_launch_says) == "200"
    assert lab.describe(as_the_image_says)["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    lab.terminate(as_the_image_says, as_the_launch_says)


# Asks for a token as a program one router further away would: such a packet arrives there only with a hop to spare.
ONE_HOP_FURTHER = """
python3 - <<'END'
import socket
IP_MINTTL = 21
connection = socket.create_connection(("169.254.169.254", 80), timeout=2)
connection.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 2)
connection.sendall(b"PUT /latest/api/token HTTP/1.0\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n")
try:
    print(connection.recv(15).decode())
except TimeoutError:
    print("nothing came")
END
"""


def test_a_token_does_not_travel_further_than_the_hop_limit(lab: Lab) -> None:
    instance = lab.launch_and_wait(MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1})
    assert lab.run(instance, IMDS + "imds meta-data/instance-id") == instance
    assert lab.run(instance, ONE_HOP_FURTHER) == "nothing came"
    lab.ec2.modify_instance_metadata_options(InstanceId=instance, HttpPutResponseHopLimit=2)
    assert lab.run(instance, ONE_HOP_FURTHER) == "HTTP/1.1 200 OK"
    lab.terminate(instance)


def test_a_disabled_endpoint_says_nothing(lab: Lab) -> None:
    instance = lab.launch_and_wait()
    lab.ec2.modify_instance_metadata_options(InstanceId=instance, HttpEndpoint="disabled")
    assert v1_status(lab, instance) == "403"
    lab.terminate(instance)


def test_tags_are_shown_only_when_the_launch_asks_for_it(lab: Lab) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "some:tag", "Value": "a value"}]}]
    shown = lab.launch_and_wait(TagSpecifications=tags, MetadataOptions={"InstanceMetadataTags": "enabled"})
    hidden = lab.launch_and_wait(TagSpecifications=tags)
    assert lab.run(shown, IMDS + "imds meta-data/tags/instance/some:tag") == "a value"
    assert lab.try_run(hidden, IMDS + "imds meta-data/tags/instance/some:tag")["Status"] == "Failed"
    lab.terminate(shown, hidden)


def test_role_credentials_work_inside_with_no_setting_at_all(lab: Lab) -> None:
    profile(lab, "inside", "s3:*", "ec2:DescribeInstances")
    lab.client("s3").create_bucket(
        Bucket="inside-bucket", CreateBucketConfiguration={"LocationConstraint": lab.cloud.region}
    )
    instance = lab.launch_and_wait(IamInstanceProfile={"Name": "inside"})
    who = json.loads(lab.run(instance, "aws sts get-caller-identity --output json"))
    assert who["Arn"].endswith(f":assumed-role/inside/{instance}")
    lab.run(instance, "echo content >/root/file && aws s3 cp --quiet /root/file s3://inside-bucket/key")
    assert lab.run(instance, "aws s3 cp --quiet s3://inside-bucket/key -") == "content"
    body: Any = lab.client("s3").get_object(Bucket="inside-bucket", Key="key")["Body"]
    assert body.read() == b"content\n"
    described = "aws ec2 describe-instances --query 'Reservations[].Instances[].InstanceId' --output text"
    assert instance in lab.run(instance, described)
    calls = [json.loads(line) for line in (lab.cloud.directory / "api.jsonl").read_text().splitlines()]
    assert {"source": instance, "service": "s3", "operation": "PutObject", "emulated": True}.items() <= {
        key: value for call in calls if call["operation"] == "PutObject" for key, value in call.items()
    }.items()
    lab.terminate(instance)


def test_a_program_inside_reads_its_secret_parameter_with_no_setting_at_all(lab: Lab) -> None:
    profile(lab, "reader", "ssm:GetParameter")
    lab.client("ssm").put_parameter(Name="/reader/secret", Value="told", Type="SecureString")
    instance = lab.launch_and_wait(IamInstanceProfile={"Name": "reader"})
    read = "aws ssm get-parameter --name /reader/secret --with-decryption --query Parameter.Value --output text"
    assert lab.run(instance, read) == "told"
    lab.run(instance, "dnf --assumeyes --quiet install python3-boto3")
    parameter = "boto3.client('ssm').get_parameter(Name='/reader/secret', WithDecryption=True)['Parameter']"
    script = f"python3 -c \"import boto3; print({parameter}['Value'])\""
    assert lab.run(instance, f"AWS_DEFAULT_REGION={lab.cloud.region} {script}") == "told"
    write = lab.try_run(instance, "aws ssm put-parameter --name /reader/secret --value mine --overwrite")
    assert write["Status"] == "Failed"
    assert "AccessDeniedException" in write["StandardErrorContent"]
    assert lab.client("ssm").get_parameter(Name="/reader/secret", WithDecryption=True)["Parameter"]["Value"] == "told"
    lab.terminate(instance)
