"""What an environment is watched by, whom that tells, and whether SES sends mail for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.cloudwatch import alarms as evaluated
from tests.support import ROOT
from tests.support import pipeline_cloud as cloud
from zmanim_ami.pipeline.account import alarms, changes, mail, requirements, topic
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings

POLICIES = ROOT / "infrastructure" / "iam"
HOST = ROOT / "infrastructure/packer/files/zmanim_host"
ARN = f"arn:aws:sns:eu-west-1:{cloud.ACCOUNT}:zmanim-prod-alarms"


@pytest.fixture
def clients() -> Iterator[Clients]:
    with cloud.account() as made:
        yield made


def plan(clients: Clients) -> list[changes.Change]:
    return requirements.plan(clients, "prod", policies=POLICIES)


def rows(planned: list[changes.Change], *words: str) -> list[tuple[str, str]]:
    return [(each.action, each.resource) for each in planned if any(word in each.resource for word in words)]


# ---- Alarms ----


def test_every_alarm_is_made_with_its_topic_and_a_dashboard(clients: Clients) -> None:
    names = ("not-ready", "disk-full", "no-backup", "proof-put-off", "mail-refused")
    assert rows(plan(clients), "alarm zmanim", "topic", "dashboard") == [
        ("create", "topic zmanim-prod-alarms"),
        ("subscribe", "admin@shtetl.io to topic zmanim-prod-alarms"),
        *(("create", f"alarm zmanim-prod-{name}") for name in names),
        ("create", "dashboard zmanim-prod"),
    ]
    changes.apply(plan(clients))
    assert plan(clients) == []
    for alarm in clients.cloudwatch.describe_alarms()["MetricAlarms"]:
        assert alarm["AlarmActions"] == alarm["OKActions"] == [ARN]
        assert alarm["Dimensions"] == []
        assert alarm["Namespace"] == "zmanim/prod"


@pytest.mark.parametrize("watch", alarms.WATCHES, ids=lambda watch: watch.name)
def test_silence_is_what_sets_an_alarm_on_good_news_off(watch: alarms.Watch) -> None:
    made: Any = alarms.definition(watch, Settings(), "prod", cloud.ACCOUNT, "eu-west-1")
    assert (made["TreatMissingData"] == "breaching") is watch.good
    # AWS takes it: the local cloud refuses what AWS does.
    assert (
        evaluated.refusal(
            {
                "period": made["Period"],
                "evaluation_periods": made["EvaluationPeriods"],
                "datapoints_to_alarm": made["DatapointsToAlarm"],
                "comparison_operator": made["ComparisonOperator"],
                "statistic": made["Statistic"],
                "treat_missing_data": made["TreatMissingData"],
            }
        )
        == ""
    )


def test_each_alarm_s_metric_is_sent_by_the_image_under_that_name() -> None:
    sources = [path.read_text() for path in HOST.rglob("*.py")]
    for watch in alarms.WATCHES:
        assert any(f'Metric("{watch.metric}",' in source for source in sources), watch.metric


def test_what_only_a_healthy_machine_sends_is_what_good_alarms_are_about() -> None:
    assert {watch.metric for watch in alarms.WATCHES if watch.good} == {"Ready", "DiskFree", "BackupCompleted"}


def test_nobody_watches_machines_that_live_for_minutes(clients: Clients) -> None:
    planned = requirements.plan(clients, "verify", policies=POLICIES)
    assert rows(planned, "alarm", "topic", "dashboard") == []


def test_a_nearer_threshold_is_kept_and_a_farther_one_is_not(clients: Clients) -> None:
    changes.apply(plan(clients))
    (disk,) = (watch for watch in alarms.WATCHES if watch.name == "disk-full")
    wanted: Any = alarms.definition(disk, Settings(), "prod", cloud.ACCOUNT, "eu-west-1")
    for threshold, expected in ((30.0, []), (5.0, [("update", "alarm zmanim-prod-disk-full")])):
        clients.cloudwatch.put_metric_alarm(**{**wanted, "Threshold": threshold})
        assert rows(plan(clients), "alarm zmanim") == expected


def test_names_of_topic_and_alarms_are_settings(clients: Clients) -> None:
    chosen = Settings(alarms_topic="pager-{environment}", alarm_prefix="{environment}-z-", mail_to="a@x.org")
    planned = list(alarms.plan(clients, chosen, "prod", cloud.ACCOUNT, watched=True))
    assert rows(planned, "topic", "alarm ")[:3] == [
        ("create", "topic pager-prod"),
        ("subscribe", "a@x.org to topic pager-prod"),
        ("create", "alarm prod-z-not-ready"),
    ]


# ---- The dashboard ----


def dashboard(clients: Clients) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(clients.cloudwatch.get_dashboard(DashboardName="zmanim-prod")["DashboardBody"])
    return body


def test_the_dashboard_shows_every_metric_that_an_alarm_is_about(clients: Clients) -> None:
    changes.apply(plan(clients))
    widgets = dashboard(clients)["widgets"]
    assert len(widgets[0]["properties"]["alarms"]) == len(alarms.WATCHES)
    shown = {metric[1] for widget in widgets[1:] for metric in widget["properties"]["metrics"]}
    assert {watch.metric for watch in alarms.WATCHES} - {"MailRefused"} <= shown
    places = [(widget["x"], widget["y"]) for widget in widgets]
    assert len(set(places)) == len(places)
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)  # the page's columns


def test_what_its_owner_added_to_the_dashboard_stays(clients: Clients) -> None:
    changes.apply(plan(clients))
    mine: Any = {"type": "text", "x": 0, "y": 30, "width": 6, "height": 3, "properties": {"markdown": "mine"}}
    widgets = dashboard(clients)["widgets"]
    body = json.dumps({"widgets": [mine, *widgets[:-1]], "start": "-P7D"})
    clients.cloudwatch.put_dashboard(DashboardName="zmanim-prod", DashboardBody=body)
    assert rows(plan(clients), "dashboard") == [("update", "dashboard zmanim-prod")]
    changes.apply(plan(clients))
    assert plan(clients) == []
    assert dashboard(clients)["start"] == "-P7D"
    assert mine in dashboard(clients)["widgets"]


# ---- The topic ----


@pytest.mark.incident("an alarm told a topic that did not exist, or one to which nobody had subscribed")
@pytest.mark.parametrize(
    ("listed", "expected", "said"),
    [
        ([], [("subscribe", "a@x to topic zmanim-prod-alarms")], ""),
        (
            [("a@x", topic.PENDING)],
            [("confirm", "subscription of a@x to topic zmanim-prod-alarms")],
            "confirmed nobody; pending a@x",
        ),
        ([("a@x", f"{ARN}:1")], [], "confirmed a@x (email); pending nobody"),
        # A pager that listens is enough.
        ([("b@x", f"{ARN}:1"), ("a@x", topic.PENDING)], [], "confirmed b@x (email); pending a@x"),
    ],
)
def test_the_plan_says_who_is_told_and_who_has_to_click(
    clients: Clients,
    listed: list[tuple[str, str]],
    expected: list[tuple[str, str]],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clients.sns.create_topic(Name="zmanim-prod-alarms")
    found = [{"Endpoint": each, "Protocol": "email", "SubscriptionArn": arn} for each, arn in listed]
    cloud.answer(clients.sns, "ListSubscriptionsByTopic", lambda request: {"Subscriptions": found})
    planned = list(topic.plan(clients, ARN, "a@x"))
    assert [(each.action, each.resource) for each in planned] == expected
    assert said in capsys.readouterr().err
    if expected and expected[0][0] == "confirm":
        assert planned[0].do is None


def test_an_apply_says_what_is_left_to_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    changes.apply([changes.Change("confirm", "address a@x", "SES waits")])
    assert "left to you: confirm address a@x (SES waits)" in capsys.readouterr().err


# ---- SES ----


@pytest.mark.incident("an address that SES merely knew was taken for verified: it was Pending, and nothing was sent")
@pytest.mark.parametrize(
    ("statuses", "production", "expected"),
    [
        ({}, True, [("verify", "from@mail.x.org")]),
        ({"from@mail.x.org": "Success"}, True, []),
        ({"x.org": "Success"}, True, []),
        ({"from@mail.x.org": "Pending"}, True, [("confirm", "from@mail.x.org")]),
        ({"mail.x.org": "Pending"}, True, [("confirm", "from@mail.x.org")]),
        ({"from@mail.x.org": "Failed"}, True, [("verify", "from@mail.x.org")]),
        ({"from@mail.x.org": "Pending", "x.org": "Success"}, True, []),
        # In the sandbox whoever is mailed to as well.
        ({"from@mail.x.org": "Success"}, False, [("verify", "to@y.org")]),
        ({"from@mail.x.org": "Success", "to@y.org": "Pending"}, False, [("confirm", "to@y.org")]),
        ({"from@mail.x.org": "Success", "y.org": "Success"}, False, []),
    ],
)
def test_the_plan_says_whom_ses_does_not_send_for_or_to(
    clients: Clients,
    statuses: dict[str, str],
    production: bool,
    expected: list[tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    attributes = {name: {"VerificationStatus": status} for name, status in statuses.items()}
    cloud.answer(clients.sesv2, "GetAccount", lambda request: {"ProductionAccessEnabled": production})
    asked: list[str] = []

    def reply(request: Any) -> Any:
        names = [value for key, value in sorted(request["body"].items()) if key.startswith("Identities")]
        asked.extend(names)
        return {"VerificationAttributes": {name: attributes[name] for name in names if name in attributes}}

    cloud.answer(clients.ses, "GetIdentityVerificationAttributes", reply)
    planned = list(mail.plan(clients, "from@mail.x.org", "to@y.org"))
    assert [(each.action, each.resource.removeprefix("address ")) for each in planned] == expected
    assert all((each.do is None) is (each.action == "confirm") for each in planned)
    assert ("in its sandbox" if not production else "out of its sandbox") in capsys.readouterr().err
    assert {"from@mail.x.org", "mail.x.org", "x.org"} <= set(asked)
