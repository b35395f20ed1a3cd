"""The SNS topic that an environment's alarms tell, and whether anybody listens."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change

# What SNS lists in the place of a subscription's ARN until its mail is confirmed.
PENDING = "PendingConfirmation"


def plan(clients: aws.Clients, arn: str, address: str) -> Iterator[Change]:
    """Yield the topic `arn` where there is none, a subscription of `address` where nobody subscribed, and what waits.

    Other subscriptions (a pager's) are as good: with one that is confirmed, nothing is left to do. Raises botocore's
    errors.
    """
    name = arn.rpartition(":")[2]
    # Not encrypted: CloudWatch may not use AWS's own key for SNS, and would tell nobody ("Amazon SNS encryption",
    # Amazon CloudWatch User Guide). What alarms say is no secret.
    create = partial(clients.sns.create_topic, Name=name)
    subscribe = partial(clients.sns.subscribe, TopicArn=arn, Protocol="email", Endpoint=address)
    if (
        aws.unless_refused(lambda: clients.sns.get_topic_attributes(TopicArn=arn), "NotFound", "NotFoundException")
        is None
    ):
        yield Change("create", f"topic {name}", "there is none, and alarms would tell nobody", create)
        listed = []
    else:
        pages = clients.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
        listed = [each for page in pages for each in page["Subscriptions"]]
    waiting = [each["Endpoint"] for each in listed if each["SubscriptionArn"] == PENDING]
    confirmed = [f"{each['Endpoint']} ({each['Protocol']})" for each in listed if each["SubscriptionArn"] != PENDING]
    if not listed:
        reason = "nobody has subscribed; confirm the mail that comes there"
        yield Change("subscribe", f"{address} to topic {name}", reason, subscribe)
    elif not confirmed:
        reason = "nobody is told before the mail that came there is confirmed (SNS forgets it after three days)"
        yield Change("confirm", f"subscription of {', '.join(waiting)} to topic {name}", reason)
    if listed:
        say(f"topic {name}: confirmed {', '.join(confirmed) or 'nobody'}; pending {', '.join(waiting) or 'nobody'}")
