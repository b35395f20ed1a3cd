"""SNS: subscriptions by mail wait for a click, as on AWS, and what is delivered is written down.

state/NAME/notifications.jsonl has one line for each delivery: topic, protocol, endpoint, subject, message.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.sns.models import SNSBackend, Subscription, sns_backends
from moto.sns.responses import SNSResponse

from localcloud.api.patches import ApiError, patch
from localcloud.journal import Journal
from localcloud.services.confirmations import Confirmations, Question
from localcloud.settings import ACCOUNT

PENDING = "PendingConfirmation"
_BY_MAIL = {"email", "email-json"}


def publish(region: str, topic: str, subject: str, message: str) -> object:
    """Publish to a topic of this account; raises moto's errors."""
    return sns_backends[ACCOUNT][region].publish(message, topic, subject=subject)


class Notifications:
    """moto's SNS with a journal of deliveries, and with subscriptions that have to be confirmed."""

    def __init__(self, journal: Journal, confirmations: Confirmations) -> None:
        self._journal = journal
        self._confirmations = confirmations

    @patch(SNSBackend.subscribe, wraps=True)
    def subscribe(self, original: Any, backend: SNSBackend, topic_arn: str, endpoint: str, protocol: str) -> Any:
        """Subscribe; who is to be mailed to is asked first, and has no ARN until then."""
        before = set(backend.subscriptions)
        subscription: Subscription = original(backend, topic_arn, endpoint, protocol)
        topic = subscription.topic
        if protocol not in _BY_MAIL or set(backend.subscriptions) == before:
            return subscription
        arn, subscription.arn = subscription.arn, PENDING
        subscription.attributes[PENDING] = True
        topic.subscriptions_pending += 1

        def confirm() -> None:
            subscription.arn, subscription.confirmed = arn, True
            subscription.attributes[PENDING] = False
            topic.subscriptions_pending -= 1
            topic.subscriptions_confimed += 1  # as moto spells it

        def expire() -> None:
            topic.subscriptions_pending -= 1
            backend.subscriptions.pop(arn, None)

        self._confirmations.ask(
            endpoint, f"AWS Notification - Subscription Confirmation ({topic_arn})", Question(confirm, expire)
        )
        return subscription

    @patch(SNSResponse.subscribe, wraps=True)
    def answer_subscribe(self, original: Any, response: Any) -> ActionResult:
        """Subscribe: its answer has other words for what waits than lists have."""
        result: ActionResult = original(response)
        made: Any = result.result
        return (
            ActionResult({"SubscriptionArn": "pending confirmation"}) if made["SubscriptionArn"] == PENDING else result
        )

    @patch(SNSBackend.list_subscriptions_by_topic)
    def list_subscriptions_by_topic(self, backend: SNSBackend, topic_arn: str, next_token: Any = None) -> Any:
        """List a topic's subscriptions; moto's own goes by their ARNs, and those that wait share one."""
        listed = backend._get_topic_subscriptions(backend.get_topic(topic_arn))
        return backend._get_values_nexttoken({str(number): each for number, each in enumerate(listed)}, next_token)

    @patch(Subscription.publish, wraps=True)
    def deliver(self, original: Any, subscription: Subscription, message: str, *rest: Any, **more: Any) -> None:
        """Deliver a message, unless the subscription waits for its click."""
        if subscription.arn == PENDING:
            return
        self._journal.append(
            {
                "topic": subscription.topic.arn,
                "protocol": subscription.protocol,
                "endpoint": subscription.endpoint,
                "subject": more.get("subject") or "",
                "message": message,
            }
        )
        original(subscription, message, *rest, **more)

    @patch(SNSResponse.confirm_subscription)
    def confirm_subscription(self, response: Any) -> ActionResult:
        """ConfirmSubscription with the token of the mail's link."""
        topic = response.backend.get_topic(response._get_param("TopicArn"))
        before = {id(each): each.arn for each in response.backend._get_topic_subscriptions(topic)}
        if not self._confirmations.confirm(str(response._get_param("Token"))):
            raise ApiError("InvalidParameter", "Invalid parameter: Token")
        made = [each for each in response.backend._get_topic_subscriptions(topic) if before.get(id(each)) == PENDING]
        return ActionResult({"SubscriptionArn": next((each.arn for each in made if each.arn != PENDING), "")})
