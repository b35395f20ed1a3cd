"""An instance of one environment reaches nothing of another one: its role says so, asked call by call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import bucket_name
from tests.support.machines.image import ENVIRONMENT, ImageLab, files_with

# Runs every command with the instance's role and prints, by the command, its exit code and what it wrote.
ASK = """
import concurrent.futures, json, os, subprocess, sys

def ask(command):
    done = subprocess.run(["aws", "--output=json", *command.split()], capture_output=True, text=True,
                          env={**os.environ, "AWS_DEFAULT_REGION": "eu-west-1", "HOME": "/nonexistent"})
    return [done.returncode, done.stdout + done.stderr]

commands = COMMANDS
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(json.dumps(dict(zip(commands, pool.map(ask, commands)))))
"""
BACKUPS, RELEASES = bucket_name("backups", "ENV"), bucket_name("releases", "ENV")
# What an instance of ENV may do with what is its own; the same of another environment it may not.
OWN = (
    "ssm get-parameters-by-path --path /zmanim/ENV/ --with-decryption",
    f"s3api list-objects-v2 --bucket {BACKUPS}",
    f"s3api put-object --bucket {BACKUPS} --key restic/probe --body /etc/os-release",
    f"s3api get-object --bucket {BACKUPS} --key restic/kept /dev/null",
    f"s3api delete-object --bucket {BACKUPS} --key restic/kept",
    f"s3api list-objects-v2 --bucket {RELEASES}",
    f"s3api get-object --bucket {RELEASES} --key kept /dev/null",
)
# What it may do with nobody's: publish a release, write a parameter, take another role, look at what is above.
NEVER = (
    f"s3api put-object --bucket {RELEASES} --key kept --body /etc/os-release",
    "ssm put-parameter --overwrite --type SecureString --name /zmanim/ENV/jwt-secret --value guessed",
    "sts assume-role --role-session-name probe --role-arn arn:aws:iam::123456789012:role/zmanim-ENV-instance",
    "ssm get-parameters-by-path --path /zmanim/ --recursive",
    # Its own it reads by their path; nothing of it asks for one alone.
    "ssm get-parameter --name /zmanim/ENV/jwt-secret --with-decryption",
)
OTHER = "prod"
DENIED = ("AccessDenied", "AccessDeniedException", "403")


@pytest.fixture(scope="module")
def answers(images: ImageLab, served: str) -> dict[str, Any]:
    images.prepare(OTHER)
    s3 = images.client("s3")
    for environment in (ENVIRONMENT, OTHER):
        s3.put_object(Bucket=bucket_name("backups", environment), Key="restic/kept", Body=b"precious")
        s3.put_object(Bucket=bucket_name("releases", environment), Key="kept", Body=b"precious")
    commands = [command.replace("ENV", name) for name in (ENVIRONMENT, OTHER) for command in (*OWN, *NEVER)]
    script = ASK.replace("COMMANDS", json.dumps(commands))
    result: dict[str, Any] = json.loads(images.enter(served, ["python3", "-"], script))
    return result


def test_what_is_its_own_it_reaches(answers: dict[str, Any]) -> None:
    wanted = [command.replace("ENV", ENVIRONMENT) for command in OWN]
    # So that a refusal below is one of the environment and not of everything.
    assert {command: answers[command][1] for command in wanted if answers[command][0] != 0} == {}


@pytest.mark.incident("a test instance wrote into production's backups")
def test_of_another_environment_it_reaches_nothing(images: ImageLab, served: str, answers: dict[str, Any]) -> None:
    refused = [command.replace("ENV", OTHER) for command in (*OWN, *NEVER)]
    refused += [command.replace("ENV", ENVIRONMENT) for command in NEVER]
    reached = {
        command: answers[command]
        for command in refused
        if answers[command][0] == 0 or not any(f"({code})" in answers[command][1] for code in DENIED)
    }
    assert reached == {}
    s3 = images.client("s3")
    existing = {name: [item["Key"] for item in s3.list_objects_v2(Bucket=bucket_name(name, OTHER))["Contents"]]
             for name in ("backups", "releases")}  # fmt: skip
    assert existing == {"backups": ["restic/kept"], "releases": ["kept"]}


def test_no_secret_of_another_environment_is_on_it(images: ImageLab, served: str, answers: dict[str, Any]) -> None:
    values = list(images.secrets(OTHER).values())
    assert len(values) >= 3
    search = ["grep", "--recursive", "--devices=skip", "--fixed-strings", "--files-with-matches", "--file=-"]
    result = images.enter(
        served, ["sh", "-c", '"$@" || test $? = 1', "sh", *search, "/run", "/data", "/tmp"], "\n".join(values)
    )
    assert result == ""
    assert list(files_with(images.root_disk(served), [value.encode() for value in values])) == []
