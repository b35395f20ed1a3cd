"""The AWS CLI, for what no boot waits for (client.py says why)."""

from __future__ import annotations

from zmanim_host.host import run


def aws(service: str, operation: str, *arguments: str, region: str, attempts: int = 2) -> str:
    """Run one operation of an AWS service and return what it prints; HostError when it does not succeed."""
    command = ["aws", service, operation, "--region", region, *arguments, "--no-cli-pager", "--output", "text"]
    command += ["--cli-connect-timeout", "5", "--cli-read-timeout", "15"]
    # No file of settings that anybody left.
    environment = {"HOME": "/nonexistent", "AWS_MAX_ATTEMPTS": str(attempts)}
    return run(command, timeout=30 * attempts, environment=environment).stdout
