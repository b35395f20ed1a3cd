"""Systems Manager: parameters, and commands on machines."""

from __future__ import annotations

from tests.contract.rows import UNSUPPORTED, Refused, Row, Step, row

ONE = {"Name": "$parameter"}
NONE = {"Name": "/contract/none"}
SHELL = "AWS-RunShellScript"
PUBLIC = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
PARAMETERS = (
    row("ssm:PutParameter", "the first version", {"Name": "/x", "Value": "v", "Type": "String"}, {"Version": 1, "Tier": "Standard"}),
    row("ssm:PutParameter", "one that is there", {**ONE, "Value": "v", "Type": "String"}, "ParameterAlreadyExists"),
    row("ssm:PutParameter", "a new version", {**ONE, "Value": "second", "Type": "String", "Overwrite": True}, {"Version": 2}, then=(Step("ssm:GetParameter", ONE, {"Parameter.Value": "second", "Parameter.Version": 2}),)),
    row("ssm:PutParameter", "without a type", {"Name": "/x", "Value": "v"}, "ValidationException"),
    row("ssm:PutParameter", "empty", {"Name": "/x", "Value": "", "Type": "String"}, "ValidationException"),
    row("ssm:PutParameter", "a name that is AWS's", {"Name": "/aws/x", "Value": "v", "Type": "String"}, Refused("ValidationException|AccessDeniedException")),
    row("ssm:PutParameter", "beyond 4 KB", {"Name": "/x", "Value": "v" * 4097, "Type": "String"}, "ValidationException"),
    row("ssm:PutParameter", "tags with an overwrite", {**ONE, "Value": "v", "Overwrite": True, "Tags": [{"Key": "a", "Value": "b"}]}, "ValidationException"),
    row("ssm:PutParameter", "an image", {"Name": "/x", "Value": "$base", "Type": "String", "DataType": "aws:ec2:image"}, {"Version": 1}, then=(Step("ssm:GetParameter", {"Name": "/x"}, {"Parameter.DataType": "aws:ec2:image"}),), page="systems-manager/latest/userguide/parameter-store-ec2-aliases.html"),
    row("ssm:PutParameter", "an image that is none", {"Name": "/x", "Value": "image", "Type": "String", "DataType": "aws:ec2:image"}, "ValidationException", page="systems-manager/latest/userguide/parameter-store-ec2-aliases.html"),
    row("ssm:GetParameter", "one that does not exist", NONE, "ParameterNotFound"),
    row("ssm:GetParameter", "a secret is not told unasked", {"Name": "/s"}, {"Parameter.Type": "SecureString", "Parameter.Value != 'v'": True}, before=(Step("ssm:PutParameter", {"Name": "/s", "Value": "v", "Type": "SecureString"}),)),
    row("ssm:GetParameter", "a secret is told when asked", {"Name": "/s", "WithDecryption": True}, {"Parameter.Value": "v"}, before=(Step("ssm:PutParameter", {"Name": "/s", "Value": "v", "Type": "SecureString"}),)),
    row("ssm:GetParameter", "a version", {"Name": "$parameter:1"}, {"Parameter.Value": "first", "Parameter.Selector": ":1"}),
    row("ssm:GetParameter", "a version that does not exist", {"Name": "$parameter:7"}, "ParameterVersionNotFound"),
    row("ssm:GetParameter", "a public one names an image that exists", {"Name": PUBLIC}, {"Parameter.Value": "$base"}, page="systems-manager/latest/userguide/parameter-store-public-parameters-ami.html"),
    row("ssm:GetParameter", "nobody may", ONE, "AccessDeniedException", caller="$nobody"),
    row("ssm:GetParameter", "a key that no account has", ONE, "UnrecognizedClientException", caller="$stranger"),
    row("ssm:GetParameters", "those that are there", {"Names": ["$parameter", "/contract/none"]}, {"length(Parameters)": 1, "InvalidParameters": ["/contract/none"]}),
    row("ssm:GetParametersByPath", "below a path", {"Path": "/contract"}, {"Parameters": []}),
    row("ssm:GetParametersByPath", "one of them", {"Path": "/contract/"}, {"length(Parameters)": 1}, before=(Step("ssm:GetParameter", ONE),)),
    row("ssm:GetParametersByPath", "what is no path", {"Path": "contract"}, "ValidationException"),
    row("ssm:GetParametersByPath", "too many at a time", {"Path": "/contract", "MaxResults": 11}, "ValidationException"),
    row("ssm:GetParameterHistory", "every version", ONE, {"length(Parameters)": 2}, before=(Step("ssm:PutParameter", {**ONE, "Value": "second", "Overwrite": True}),)),
    row("ssm:GetParameterHistory", "one that does not exist", NONE, "ParameterNotFound"),
    row("ssm:DescribeParameters", "by path", {"ParameterFilters": [{"Key": "Path", "Values": ["/contract"]}]}, {"length(Parameters)": 1}, before=(Step("ssm:GetParameter", ONE),)),
    row("ssm:DescribeParameters", "a filter that does not exist", {"ParameterFilters": [{"Key": "Colour", "Values": ["red"]}]}, Refused("InvalidFilterKey|ValidationException")),
    row("ssm:DeleteParameter", "gone afterwards", ONE, {}, then=(Step("ssm:GetParameter", {"Name": "/contract/one"}, Refused("ParameterNotFound")),)),
    row("ssm:DeleteParameter", "one that does not exist", NONE, "ParameterNotFound"),
    row("ssm:DeleteParameters", "those that are there", {"Names": ["$parameter", "/contract/none"]}, {"DeletedParameters": ["$parameter"], "InvalidParameters": ["/contract/none"]}),
    row("ssm:AddTagsToResource", "on a parameter", {"ResourceType": "Parameter", "ResourceId": "$parameter", "Tags": [{"Key": "a", "Value": "b"}]}, {}, then=(Step("ssm:ListTagsForResource", {"ResourceType": "Parameter", "ResourceId": "$parameter"}, {"TagList[0].Value": "b"}),)),
)  # fmt: skip
COMMANDS = (
    row("ssm:SendCommand", "on a machine", {"DocumentName": SHELL, "InstanceIds": ["$instance"], "Parameters": {"commands": ["true"]}}, {"Command.CommandId": ..., "Command.Status": ...}),
    row("ssm:SendCommand", "by a tag that none has", {"DocumentName": SHELL, "Targets": [{"Key": "tag:kind", "Values": ["x"]}], "Parameters": {"commands": ["true"]}}, Refused("InvalidInstanceId|InvalidTarget")),
    row("ssm:SendCommand", "on one that does not exist", {"DocumentName": SHELL, "InstanceIds": ["i-0123456789abcdef0"], "Parameters": {"commands": ["true"]}}, "InvalidInstanceId"),
    row("ssm:SendCommand", "on a stopped one", {"DocumentName": SHELL, "InstanceIds": ["$stopped"], "Parameters": {"commands": ["true"]}}, "InvalidInstanceId"),
    row("ssm:SendCommand", "another document", {"DocumentName": "AWS-None", "InstanceIds": ["$instance"]}, "InvalidDocument"),
    row("ssm:SendCommand", "without commands", {"DocumentName": SHELL, "InstanceIds": ["$instance"]}, "InvalidParameters"),
    row("ssm:GetCommandInvocation", "success", {"CommandId": "$command", "InstanceId": "$instance"}, {"CommandId": "$command", "DocumentName": SHELL}, then=(Step("ssm:GetCommandInvocation", {"CommandId": "$command", "InstanceId": "$instance"}, {"Status": "Success", "ResponseCode": 0}),)),
    row("ssm:GetCommandInvocation", "a command that does not exist", {"CommandId": "00000000-0000-0000-0000-000000000000", "InstanceId": "$instance"}, "InvocationDoesNotExist"),
    row("ssm:ListCommandInvocations", "of a command", {"CommandId": "$command"}, {"CommandInvocations[0].InstanceId": "$instance"}),
    row("ssm:ListCommands", "of a command", {"CommandId": "$command"}, {"Commands[0].DocumentName": SHELL}),
    row("ssm:DescribeInstanceInformation", "which machines answer", {"Filters": [{"Key": "InstanceIds", "Values": ["$instance"]}]}, {"InstanceInformationList[0].PingStatus": "Online"}),
    row("ssm:StartSession", "no sessions", {"Target": "$instance"}, UNSUPPORTED),
    row("ssm:DescribeSessions", "no sessions", {"State": "Active"}, UNSUPPORTED),
)  # fmt: skip
ROWS: tuple[Row, ...] = (*PARAMETERS, *COMMANDS)
