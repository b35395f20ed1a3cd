"""What the CloudWatch agent is told to send, and to whom.

The form is what the agent's own schema says (amazon-cloudwatch-agent-schema.json, which its package brings): the build
asks the agent itself. Here stands what the schema can't know: that it is ours, complete, and no secret's way out.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import ROOT
from zmanim_host.aws import cloudwatch
from zmanim_host.host import HostError

FILES = ROOT / "infrastructure/packer/files"
TEMPLATE = (FILES / "cloudwatch-agent.json.template").read_text()
# The agent is told units' names, and an instance of this one is called after the unit that failed.
NOT_SENT = {"backup-notify@.service"}


@pytest.fixture
def prod() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(cloudwatch.configuration(TEMPLATE, {"ZMANIM_ENVIRONMENT": "prod"}))
    return result


def test_metrics_and_logs_go_where_the_role_may_send_them_and_nowhere_else(prod: dict[str, Any]) -> None:
    policy = {
        statement["Sid"]: statement
        for statement in json.loads((ROOT / "infrastructure/iam/instance.json").read_text())["Statement"]
    }
    allowed = policy["SendMetrics"]["Condition"]["StringEquals"]["cloudwatch:namespace"]
    assert prod["metrics"]["namespace"] == allowed.replace("${environment}", "prod")
    groups = policy["SendLogs"]["Resource"].rpartition("log-group:")[2].replace("${environment}/*", "prod/")
    entries = prod["logs"]["logs_collected"]["journald"]["collect_list"]
    assert entries
    for entry in entries:
        assert entry["log_group_name"].startswith(groups)
        assert entry["log_stream_name"] == "{instance_id}"
        # The role may not set it, and the agent would stop at that.
        assert "retention_in_days" not in entry


def test_memory_and_both_disks_are_measured(prod: dict[str, Any]) -> None:
    collected = prod["metrics"]["metrics_collected"]
    assert "used_percent" in collected["mem"]["measurement"]
    assert collected["disk"]["resources"] == ["/", "/data"]
    assert "used_percent" in collected["disk"]["measurement"]
    assert prod["metrics"]["append_dimensions"] == {"InstanceId": "${aws:InstanceId}"}


@pytest.mark.incident("a boot script printed secrets into logs that were shipped to CloudWatch")
def test_only_the_journal_of_our_units_and_the_kernel_s_warnings_leave_the_machine(prod: dict[str, Any]) -> None:
    assert set(prod) == {"agent", "metrics", "logs"}
    assert set(prod["logs"]) == {"logs_collected"}
    assert set(prod["logs"]["logs_collected"]) == {"journald"}  # no file
    units, kernel = prod["logs"]["logs_collected"]["journald"]["collect_list"]
    ours = {path.name for path in FILES.iterdir() if path.suffix in {".service", ".mount"}}
    assert set(units["units"]) == ours - NOT_SENT
    assert (kernel["matches"], kernel["priority"]) == ([{"_TRANSPORT": "kernel"}], "warning")
    assert prod["agent"]["logfile"] == ""


def test_the_agent_is_no_root_and_older_agents_that_read_no_journal_are_refused(prod: dict[str, Any]) -> None:
    assert prod["agent"]["run_as_user"] == "cwagent"
    versions = json.loads((ROOT / "infrastructure/packer/versions.json").read_text())
    assert versions["packages"]["amazon-cloudwatch-agent"]["minimum"] >= "1.300070"


@pytest.mark.parametrize("environment", [{}, {"ZMANIM_ENVIRONMENT": ""}, {"ZMANIM_ENVIRONMENT": 'a", "x": "'}])
def test_without_an_environment_s_name_nothing_is_configured(environment: dict[str, str]) -> None:
    with pytest.raises(HostError, match=r"zmanim-environment\.service"):
        cloudwatch.configuration(TEMPLATE, environment)


def test_a_template_that_is_no_json_is_told() -> None:
    with pytest.raises(HostError, match="is no JSON"):
        cloudwatch.configuration("# a comment\n{", {"ZMANIM_ENVIRONMENT": "prod"})
