from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.errors import BadInput
from tests.support import ROOT, bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from zmanim_ami.pipeline.account import changes, network, requirements, roles, workflow_roles
from zmanim_ami.pipeline.account.keys import release_key, signing_key
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings

PROJECTS = ROOT / "infrastructure" / "iam"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "ssm:GetParameter",
            "Resource": "arn:aws:ssm:${region}:${account}:parameter/zmanim/${environment}/*",
            "Condition": {"StringEquals": {"aws:PrincipalTag/user": "${aws:username}"}},
        }
    ],
}


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    (tmp_path / "instance.json").write_text(json.dumps(POLICY))
    (tmp_path / "build.json").write_text("not for instances")
    for name in ("instance-trust.json", "release.json", "operate.json", "people-trust.json"):
        shutil.copyfile(PROJECTS / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def clients() -> Iterator[Clients]:
    with cloud.account() as made:
        yield made


def rows(clients: Clients, policies: Path, environment: str = "prod") -> list[tuple[str, str]]:
    return [(change.action, change.resource) for change in requirements.plan(clients, environment, policies=policies)]


def apply(clients: Clients, policies: Path, environment: str = "prod") -> None:
    changes.apply(requirements.plan(clients, environment, policies=policies))


@pytest.mark.parametrize("environment", ["prod", "verify"])
def test_after_an_apply_the_next_plan_is_empty(clients: Clients, policies: Path, environment: str) -> None:
    assert rows(clients, policies, environment)
    apply(clients, policies, environment)
    assert rows(clients, policies, environment) == []


def test_an_environment_s_key_signs_and_is_its_own(clients: Clients, policies: Path) -> None:
    assert ("create", "KMS key alias/zmanim-release-prod") in rows(clients, policies)
    for environment in ("prod", "verify"):
        apply(clients, policies, environment)
    signature = signing_key.sign(clients, release_key.of("prod"), b"payload")
    assert signing_key.is_signed(clients, release_key.of("prod"), b"payload", signature)
    assert not signing_key.is_signed(clients, release_key.of("verify"), b"payload", signature)
    assert not signing_key.is_signed(clients, release_key.of("prod"), b"another", signature)
    # AWS says it in another way than moto.
    cloud.answer(clients.kms, "Verify", lambda request: "KMSInvalidSignatureException")
    assert not signing_key.is_signed(clients, release_key.of("prod"), b"payload", signature)


def test_a_plan_changes_nothing_and_each_row_has_its_reason(clients: Clients, policies: Path) -> None:
    first = requirements.plan(clients, "verify", policies=policies)
    assert all(change.reason for change in first)
    assert requirements.plan(clients, "verify", policies=policies) == first
    assert clients.s3.list_buckets()["Buckets"] == []
    assert clients.iam.list_roles()["Roles"] == []


def test_buckets_are_encrypted_closed_and_versioned(clients: Clients, policies: Path) -> None:
    apply(clients, policies)
    for name in (bucket_name("backups"), bucket_name("releases")):
        assert clients.s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-west-1"
        assert clients.s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        assert all(clients.s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
        rules = clients.s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_a_bucket_that_has_drifted_is_put_right(clients: Clients, policies: Path) -> None:
    apply(clients, policies)
    clients.s3.put_bucket_versioning(Bucket=bucket_name("backups"), VersioningConfiguration={"Status": "Suspended"})
    clients.s3.delete_public_access_block(Bucket=bucket_name("releases"))
    assert rows(clients, policies) == [
        ("version", f"bucket {bucket_name('backups')}"),
        ("close", f"bucket {bucket_name('releases')}"),
    ]


def test_a_bucket_of_somebody_else_is_an_error_and_no_plan(clients: Clients, policies: Path) -> None:
    cloud.answer(clients.s3, "HeadBucket", lambda request: "403")
    with raises("bucket-not-ours"):
        requirements.plan(clients, "prod", policies=policies)


def test_secrets_are_random_encrypted_and_told_to_nobody(
    clients: Clients, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(clients, policies)
    names = [f"/zmanim/prod/{name}" for name in ("redis-password", "jwt-secret", "restic-password")]
    parameters = clients.ssm.get_parameters(Names=names, WithDecryption=True)["Parameters"]
    values = {item["Value"] for item in parameters}
    assert len(values) == 3
    assert all(len(value) >= 64 for value in values)
    assert {item["Type"] for item in parameters} == {"SecureString"}
    output = "".join(capsys.readouterr())
    assert not any(value in output for value in values)


def test_a_secret_that_exists_is_never_overwritten_even_when_it_appears_after_the_plan(
    clients: Clients, policies: Path
) -> None:
    clients.ssm.put_parameter(Name="/zmanim/prod/jwt-secret", Value="kept", Type="SecureString")
    planned = requirements.plan(clients, "prod", policies=policies)
    clients.ssm.put_parameter(Name="/zmanim/prod/redis-password", Value="came between", Type="SecureString")
    changes.apply(planned)
    for name, value in (("jwt-secret", "kept"), ("redis-password", "came between")):
        answer = clients.ssm.get_parameter(Name=f"/zmanim/prod/{name}", WithDecryption=True)
        assert answer["Parameter"]["Value"] == value


def test_a_plan_reads_no_secret(clients: Clients, policies: Path) -> None:
    apply(clients, policies)
    secret = {f"/zmanim/prod/{name}" for name in requirements.SECRETS}
    for operation in ("GetParameters", "GetParametersByPath"):
        cloud.answer(clients.ssm, operation, lambda request: "AccessDeniedException")

    def refuse_secrets(request: Mapping[str, Any]) -> str | None:
        asked = cloud.json_body(request)
        return "AccessDeniedException" if asked["Name"] in secret or asked.get("WithDecryption") else None

    cloud.answer(clients.ssm, "GetParameter", refuse_secrets)
    assert rows(clients, policies) == []


def test_the_role_may_do_what_the_files_say_for_this_environment_account_and_region(
    clients: Clients, policies: Path
) -> None:
    apply(clients, policies)
    role = "zmanim-prod-instance"
    document: Any = clients.iam.get_role_policy(RoleName=role, PolicyName="instance")["PolicyDocument"]
    (statement,) = document["Statement"]
    assert statement["Resource"] == f"arn:aws:ssm:eu-west-1:{cloud.ACCOUNT}:parameter/zmanim/prod/*"
    assert statement["Condition"]["StringEquals"]["aws:PrincipalTag/user"] == "${aws:username}"
    profile = clients.iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]
    assert [item["RoleName"] for item in profile["Roles"]] == [role]


def test_a_role_that_may_more_than_its_files_say_is_cut_back(clients: Clients, policies: Path) -> None:
    apply(clients, policies)
    role = "zmanim-prod-instance"
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    for policy in ("instance", "by-hand"):
        clients.iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(everything))
    assert rows(clients, policies) == [
        ("update", f"policy instance of {role}"),
        ("delete", f"policy by-hand of {role}"),
    ]
    apply(clients, policies)
    assert rows(clients, policies) == []
    assert clients.iam.list_role_policies(RoleName=role)["PolicyNames"] == ["instance"]


def test_instance_trust_json_says_who_may_take_the_role(clients: Clients, policies: Path) -> None:
    apply(clients, policies)
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    (policies / "instance-trust.json").write_text(json.dumps(trust))
    assert rows(clients, policies) == [("update", "role zmanim-prod-instance")]
    apply(clients, policies)
    assert clients.iam.get_role(RoleName="zmanim-prod-instance")["Role"]["AssumeRolePolicyDocument"] == trust


@pytest.mark.incident("the role that publishes the API's releases was made by hand, or not at all")
def test_each_environment_has_a_role_of_its_own_that_publishes_the_api_s_releases(
    clients: Clients, policies: Path
) -> None:
    assert ("create", "role zmanim-release-prod") in rows(clients, policies)
    for environment in ("prod", "verify"):
        apply(clients, policies, environment)
        role = f"zmanim-release-{environment}"
        document: Any = clients.iam.get_role_policy(RoleName=role, PolicyName="release")["PolicyDocument"]
        assert f"arn:aws:s3:::{bucket_name('releases', environment)}/*" in json.dumps(document)
    trust: Any = clients.iam.get_role(RoleName="zmanim-release-prod")["Role"]["AssumeRolePolicyDocument"]
    assert [each["Principal"] for each in trust["Statement"]] == [{"AWS": f"arn:aws:iam::{cloud.ACCOUNT}:root"}]
    # It is put right like the others, and then there is nothing to do.
    clients.iam.delete_role_policy(RoleName="zmanim-release-prod", PolicyName="release")
    assert rows(clients, policies) == [("create", "policy release of zmanim-release-prod")]
    apply(clients, policies)
    assert rows(clients, policies) == []


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"Statement": [{"Resource": "$acount"}]}'])
def test_a_policy_that_is_none_is_an_error_that_names_the_file(clients: Clients, policies: Path, content: str) -> None:
    (policies / "instance-more.json").write_text(content)
    with raises("policies-invalid", match=r"instance-more\.json"):
        requirements.plan(clients, "prod", policies=policies)


@pytest.mark.parametrize("name", ["instance.json", "instance-trust.json"])
def test_a_policy_that_is_not_there_is_an_error(clients: Clients, policies: Path, name: str) -> None:
    (policies / name).unlink()
    with raises("policies-invalid"):
        requirements.plan(clients, "prod", policies=policies)


def test_the_projects_own_policies_can_be_used() -> None:
    names = ["environment", "account", "region", "mail_from", "mail_to", "backups_bucket", "releases_bucket"]
    trust, inline = roles.policies(PROJECTS, [dict.fromkeys(names, "x")])
    assert "ec2.amazonaws.com" in json.dumps(trust)
    assert list(inline) == ["instance"]


def test_the_network_is_planned_only_where_this_project_launches_instances(clients: Clients, policies: Path) -> None:
    assert not any("security group" in resource for _, resource in rows(clients, policies, "prod"))
    assert ("create", "security group zmanim-verification") in rows(clients, policies, "verify")


def test_nobody_gets_in_by_the_security_group(clients: Clients, policies: Path) -> None:
    apply(clients, policies, "verify")
    place = network.find(clients, "")
    rule: Any = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    clients.ec2.authorize_security_group_ingress(GroupId=place.security_group_id, IpPermissions=rule)
    with raises("account-not-prepared", match="open ports"):
        network.find(clients, "")
    assert rows(clients, policies, "verify") == [("close", "security group zmanim-verification")]
    apply(clients, policies, "verify")
    assert network.find(clients, "") == place


def test_without_a_default_vpc_one_of_our_own_is_made(clients: Clients, policies: Path) -> None:
    for item in clients.ec2.describe_subnets()["Subnets"]:
        clients.ec2.delete_subnet(SubnetId=item["SubnetId"])
    with raises("account-not-prepared", match="no subnet"):
        network.find(clients, "")
    apply(clients, policies, "verify")
    place = network.find(clients, "")
    (made,) = clients.ec2.describe_subnets(SubnetIds=[place.subnet_id])["Subnets"]
    assert made["MapPublicIpOnLaunch"]
    routes = clients.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [made["VpcId"]]}])["RouteTables"]
    assert any(route.get("GatewayId", "").startswith("igw-") for table in routes for route in table["Routes"])
    assert rows(clients, policies, "verify") == []


@pytest.mark.incident(
    "who could push a tag took the build role with a workflow of their own; the page said they could not"
)
def test_with_the_workflows_roles_comes_what_has_to_be_set_on_github(
    clients: Clients, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*workflow_roles.STEPS, "workflow-trust"):
        shutil.copyfile(PROJECTS / f"{name}.json", policies / f"{name}.json")
    settings = Settings(github_subject="repo:o/r:environment:{environment}")
    for environment, told in (("prod", False), ("verify", True)):
        requirements.plan(clients, environment, policies=policies, settings=settings)
        output = capsys.readouterr().err
        for words in (
            "tag ruleset for v*-ami",
            "branch ruleset for main",
            "ami-build, ami-verify, ami-publish, ami-retire, ami-look",
            "reviewers",
        ):
            assert (words in output) is told
    requirements.plan(clients, "verify", policies=policies)
    assert "ruleset" not in capsys.readouterr().err


@pytest.mark.incident("the token of a new repository carried ids, and every job was refused its role")
def test_a_subject_without_ids_is_told_of_and_one_with_them_is_a_row_of_the_next_plan(
    clients: Clients, policies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*workflow_roles.STEPS, "workflow-trust"):
        shutil.copyfile(PROJECTS / f"{name}.json", policies / f"{name}.json")

    def planned(repository: str) -> list[changes.Change]:
        settings = Settings(github_subject=f"repo:{repository}:environment:{{environment}}")
        return requirements.plan(clients, "verify", policies=policies, settings=settings)

    changes.apply(planned("o/r"))
    assert planned("o/r") == []
    assert "repo:OWNER@ID/NAME@ID" in capsys.readouterr().err
    renamed = planned("o@1/r@2")
    assert "OWNER@ID" not in capsys.readouterr().err
    assert [each.resource for each in renamed] == [f"role {workflow_roles.name(step)}" for step in workflow_roles.STEPS]
    changes.apply(renamed)
    assert planned("o@1/r@2") == []


def test_a_subnet_that_was_chosen_is_used(clients: Clients, policies: Path) -> None:
    vpc = clients.ec2.create_vpc(CidrBlock="10.1.0.0/24")["Vpc"]["VpcId"]
    chosen = clients.ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/25")["Subnet"]["SubnetId"]
    changes.apply(requirements.plan(clients, "verify", policies=policies, settings=Settings(subnet_id=chosen)))
    place = network.find(clients, chosen)
    assert place.subnet_id == chosen
    (group,) = clients.ec2.describe_security_groups(GroupIds=[place.security_group_id])["SecurityGroups"]
    assert group["VpcId"] == vpc


@pytest.mark.parametrize("environment", ["", "Prod", "a b", "../prod", "prod/", "x" * 30, "1st"])
def test_what_can_not_name_an_environment_is_bad_input(clients: Clients, policies: Path, environment: str) -> None:
    with raises("environment-invalid") as error:
        requirements.plan(clients, environment, policies=policies)
    assert isinstance(error.value, BadInput)


@pytest.mark.incident("account.plan --environment nope planned a whole new environment without a word")
def test_a_plan_tells_an_environment_that_the_account_has_nothing_of(clients: Clients, policies: Path) -> None:
    planned = requirements.plan(clients, "nope", policies=policies)
    assert requirements.is_new(planned, "nope")
    changes.apply(planned)
    assert not requirements.is_new(requirements.plan(clients, "nope", policies=policies), "nope")
