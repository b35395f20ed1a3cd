"""One name for whoever makes a thing, uses it and is allowed to; the instance can't read what the pipeline reads."""

from __future__ import annotations

import json
import re

from tests.support import ROOT
from zmanim_ami.pipeline.account import alarms, requirements, roles
from zmanim_ami.pipeline.channel.bucket import bucket
from zmanim_ami.pipeline.settings import Settings
from zmanim_host.aws import metrics
from zmanim_host.aws.cloudwatch import configuration

FILES = ROOT / "infrastructure/packer/files"
POLICY = json.dumps(
    roles.policies(ROOT / "infrastructure/iam", environment="prod", account="1" * 12, region="eu-west-1")[1]
)


def test_an_environment_s_buckets() -> None:
    made = {f"zmanim-{kind}-prod" for kind in requirements.BUCKETS}
    assert set(re.findall(r"arn:aws:s3:::([a-z-]+)", POLICY)) == made
    (prefix,) = re.findall(r"(?m)^BACKUP_BUCKET_PREFIX=(.*)$", (FILES / "backup.conf").read_text())
    assert {f"{prefix}-prod", bucket("prod")} == made


def test_an_environment_s_metrics() -> None:
    template = (FILES / "cloudwatch-agent.json.template").read_text()
    agent = json.loads(configuration(template, {"ZMANIM_ENVIRONMENT": "prod"}))
    for watch in alarms.WATCHES:
        alarm = alarms.definition(watch, Settings(), "prod", "1" * 12, "eu-west-1")
        assert alarm["Namespace"] == agent["metrics"]["namespace"] == metrics.namespace("prod")
        assert f'"cloudwatch:namespace": "{alarm["Namespace"]}' in POLICY
