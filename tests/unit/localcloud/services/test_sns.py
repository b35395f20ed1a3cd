"""Topics: who is told, and who has to click first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from localcloud.journal import Journal
from localcloud.services import sns
from localcloud.services.confirmations import Confirmations


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_subscription_by_mail_waits_for_its_click_and_is_told_nothing_before(
    changed: Callable[..., None], tmp_path: Path
) -> None:
    mailed, delivered = tmp_path / "confirmations", tmp_path / "notifications"
    changed(sns.Notifications(Journal(delivered), Confirmations(Journal(mailed), "http://cloud")))
    client = boto3.client("sns", "eu-west-1")
    topic = client.create_topic(Name="people")["TopicArn"]
    for address in ("a@example.org", "b@example.org", "a@example.org"):
        made = client.subscribe(TopicArn=topic, Protocol="email", Endpoint=address)["SubscriptionArn"]
        assert made == "pending confirmation"
    listed = client.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [(each["Endpoint"], each["SubscriptionArn"]) for each in listed] == [
        ("a@example.org", sns.PENDING),
        ("b@example.org", sns.PENDING),
    ]
    sns.publish("eu-west-1", topic, "first", "nobody")
    assert lines(delivered) == []
    token = lines(mailed)[0]["link"].rpartition("/")[2]
    confirmed = client.confirm_subscription(TopicArn=topic, Token=token)["SubscriptionArn"]
    assert confirmed.startswith(f"{topic}:")
    sns.publish("eu-west-1", topic, "second", "one")
    assert [(each["endpoint"], each["subject"]) for each in lines(delivered)] == [("a@example.org", "second")]
    numbers = client.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert (numbers["SubscriptionsConfirmed"], numbers["SubscriptionsPending"]) == ("1", "1")
    with pytest.raises(ClientError, match="Token"):
        client.confirm_subscription(TopicArn=topic, Token=token)
