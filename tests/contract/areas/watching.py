"""Mail, notifications, metrics, alarms, logs."""

from __future__ import annotations

from tests.contract.rows import UNSUPPORTED, Refused, Row, Step, row

ALARM = {
    "AlarmName": "a", "MetricName": "M", "Namespace": "N", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1,
    "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold",
}  # fmt: skip
MAIL = {
    "Source": "a@example.org",
    "Destination": {"ToAddresses": ["a@example.org"]},
    "Message": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}},
}
MAIL2 = {
    "FromEmailAddress": "a@example.org",
    "Destination": {"ToAddresses": ["a@example.org"]},
    "Content": {"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}}}},
}
NO_TOPIC = "arn:aws:sns:eu-west-1:$account:none"
GROUP = (Step("logs:CreateLogGroup", {"logGroupName": "g"}),)
STREAM = (*GROUP, Step("logs:CreateLogStream", {"logGroupName": "g", "logStreamName": "s"}))
MAILS = (
    row("ses:VerifyEmailIdentity", "waits for a click", {"EmailAddress": "a@example.org"}, {}, then=(Step("ses:GetIdentityVerificationAttributes", {"Identities": ["a@example.org"]}, {"VerificationAttributes.\"a@example.org\".VerificationStatus": "Pending"}),)),
    row("ses:GetIdentityVerificationAttributes", "one that nobody asked for", {"Identities": ["b@example.org"]}, {"VerificationAttributes": {}}),
    row("ses:SendEmail", "from an address that is not verified", MAIL, "MessageRejected"),
    row("sesv2:SendEmail", "from an address that is not verified, by the second version", MAIL2, "MessageRejected"),
    row("sesv2:GetAccount", "in the sandbox", {}, {"ProductionAccessEnabled": False, "SendingEnabled": True}),
    row("sesv2:GetEmailIdentity", "one that does not exist", {"EmailIdentity": "none@example.org"}, "NotFoundException"),
    row("sesv2:CreateEmailIdentity", "waits for a click", {"EmailIdentity": "a@example.org"}, {"VerifiedForSendingStatus": False}),
    row("sesv2:PutAccountDetails", "out of the sandbox", {"MailType": "TRANSACTIONAL", "WebsiteURL": "https://example.org", "ProductionAccessEnabled": True}, {}, then=(Step("sesv2:GetAccount", {}, {"ProductionAccessEnabled": True}),)),
    row("sesv2:GetAccount", "nobody may", {}, "AccessDeniedException", caller="$nobody"),
    row("sns:CreateTopic", "made, and again the same", {"Name": "t"}, {"TopicArn": "arn:aws:sns:eu-west-1:$account:t"}, then=(Step("sns:CreateTopic", {"Name": "t"}),)),
    row("sns:CreateTopic", "a name that is none", {"Name": "a b"}, "InvalidParameter"),
    row("sns:GetTopicAttributes", "one that does not exist", {"TopicArn": NO_TOPIC}, "NotFound"),
    row("sns:GetTopicAttributes", "its owner", {"TopicArn": "$topic"}, {"Attributes.Owner": "$account"}),
    row("sns:Publish", "to a topic that does not exist", {"TopicArn": NO_TOPIC, "Message": "m"}, "NotFound"),
    row("sns:Subscribe", "waits for a click", {"TopicArn": "$topic", "Protocol": "email", "Endpoint": "a@example.org"}, {"SubscriptionArn": "pending confirmation"}, then=(Step("sns:ListSubscriptionsByTopic", {"TopicArn": "$topic"}, {"Subscriptions[0].SubscriptionArn": "PendingConfirmation"}),)),
    row("sns:ListSubscriptionsByTopic", "of a topic that does not exist", {"TopicArn": NO_TOPIC}, "NotFound"),
    row("sns:Subscribe", "to a topic that does not exist", {"TopicArn": NO_TOPIC, "Protocol": "email", "Endpoint": "a@example.org"}, "NotFound"),
)  # fmt: skip
METRICS = (
    row("cloudwatch:PutMetricData", "a point", {"Namespace": "N", "MetricData": [{"MetricName": "M", "Value": 1.0}]}, {}, then=(Step("cloudwatch:ListMetrics", {"Namespace": "N"}, {"Metrics[0].MetricName": "M"}),)),
    row("cloudwatch:PutMetricData", "nobody may", {"Namespace": "N", "MetricData": [{"MetricName": "M", "Value": 1.0}]}, Refused("AccessDenied|AccessDeniedException"), caller="$nobody", guess="the first was seen by the query protocol, the second stands among CloudWatch's common errors; by CBOR neither was seen"),
    row("cloudwatch:PutMetricAlarm", "without data at first", ALARM, {}, then=(Step("cloudwatch:DescribeAlarms", {"AlarmNames": ["a"]}, {"MetricAlarms[0].StateValue": "INSUFFICIENT_DATA", "MetricAlarms[0].AlarmArn": "arn:aws:cloudwatch:eu-west-1:$account:alarm:a"}),)),
    row("cloudwatch:PutMetricAlarm", "without a period", {**ALARM, "Period": None}, Refused("ValidationError|MissingParameter")),
    row("cloudwatch:PutMetricAlarm", "a percentile", {**ALARM, "Statistic": None, "ExtendedStatistic": "p99"}, UNSUPPORTED),
    row("cloudwatch:PutCompositeAlarm", "of alarms", {"AlarmName": "c", "AlarmRule": "ALARM(a)"}, UNSUPPORTED),
    row("cloudwatch:DescribeAlarms", "one that does not exist", {"AlarmNames": ["none"]}, {"MetricAlarms": []}),
    row("cloudwatch:DescribeAlarms", "one that is there", {"AlarmNames": ["$alarm"]}, {"MetricAlarms[0].ActionsEnabled": True}),
    row("cloudwatch:DeleteAlarms", "gone afterwards", {"AlarmNames": ["$alarm"]}, {}, then=(Step("cloudwatch:DescribeAlarms", {}, {"MetricAlarms": []}),)),
    row("cloudwatch:SetAlarmState", "one that does not exist", {"AlarmName": "none", "StateValue": "OK", "StateReason": "r"}, Refused("ResourceNotFound|ResourceNotFoundException")),
    row("cloudwatch:GetDashboard", "one that does not exist", {"DashboardName": "none"}, Refused("ResourceNotFound|DashboardNotFoundError")),
    row("cloudwatch:PutDashboard", "and back", {"DashboardName": "d", "DashboardBody": "{\"widgets\": []}"}, {}, then=(Step("cloudwatch:GetDashboard", {"DashboardName": "d"}, {"DashboardBody": ...}),)),
    row("cloudwatch:GetMetricStatistics", "nothing yet", {"Namespace": "N", "MetricName": "M", "StartTime": "2026-01-01T00:00:00Z", "EndTime": "2026-01-02T00:00:00Z", "Period": 60, "Statistics": ["Sum"]}, {"Datapoints": []}),
    row("logs:CreateLogGroup", "twice", {"logGroupName": "g"}, "ResourceAlreadyExistsException", before=GROUP),
    row("logs:CreateLogStream", "in a group that does not exist", {"logGroupName": "none", "logStreamName": "s"}, "ResourceNotFoundException"),
    row("logs:DescribeLogStreams", "of a group that does not exist", {"logGroupName": "none"}, "ResourceNotFoundException"),
    row("logs:PutLogEvents", "to a stream that does not exist", {"logGroupName": "g", "logStreamName": "none", "logEvents": [{"timestamp": 0, "message": "m"}]}, "ResourceNotFoundException", before=GROUP),
    row("logs:DescribeLogStreams", "made ones", {"logGroupName": "g"}, {"logStreams[0].logStreamName": "s"}, before=STREAM),
    row("cloudtrail:LookupEvents", "no trail", {}, UNSUPPORTED, page="awscloudtrail/latest/APIReference/API_LookupEvents.html"),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*MAILS, *METRICS)
