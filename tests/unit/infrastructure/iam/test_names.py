"""One name for whoever makes a thing, uses it and is allowed to; the instance can't read what the pipeline reads."""

from __future__ import annotations

import json

from tests.support import ROOT, bucket_name
from tests.support import pipeline_cloud as cloud
from zmanim_ami.pipeline.account import alarms, changes, requirements
from zmanim_ami.pipeline.settings import Settings
from zmanim_host.aws import metrics
from zmanim_host.aws.cloudwatch import configuration
from zmanim_host.secrets import public

FILES = ROOT / "infrastructure/packer/files"
POLICY = (ROOT / "infrastructure/iam/instance.json").read_text()


def test_what_account_apply_tells_a_machine_is_what_it_looks_for_and_what_it_finds() -> None:
    with cloud.account() as clients:
        settings = Settings(mail_to="somebody+else@example.org")
        changes.apply(requirements.plan(clients, "prod", policies=ROOT / "infrastructure/iam", settings=settings))
        path = "/zmanim/prod/"
        values = {
            item["Name"].removeprefix(path): item["Value"]
            for page in clients.ssm.get_paginator("get_parameters_by_path").paginate(Path=path)
            for item in page["Parameters"]
            if item["Type"] == "String"
        }
    assert values.keys() == public.PUBLIC.keys()
    assert dict(line.split("=") for line in public.content(values).splitlines()) == {
        "BACKUPS_BUCKET": bucket_name("backups"),
        "RELEASES_BUCKET": bucket_name("releases"),
        "MAIL_FROM": settings.mail_from,
        "MAIL_TO": "somebody+else@example.org",
    }


def test_an_environment_s_metrics() -> None:
    template = (FILES / "cloudwatch-agent.json.template").read_text()
    agent = json.loads(configuration(template, {"ZMANIM_ENVIRONMENT": "prod"}))
    for watch in alarms.WATCHES:
        alarm = alarms.definition(watch, Settings(), "prod", "1" * 12, "eu-west-1")
        assert alarm["Namespace"] == agent["metrics"]["namespace"] == metrics.namespace("prod")
        assert f'"cloudwatch:namespace": "{alarm["Namespace"]}' in POLICY.replace("${environment}", "prod")
