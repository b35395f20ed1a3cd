"""What docs/on-aws.md says to type, typed."""

from __future__ import annotations

import json
import re

from localcloud.environment import environment
from tests.support import ROOT
from tests.support.machines.image import ENVIRONMENT, ImageLab


def test_the_documented_launch_makes_a_machine_that_serves(images: ImageLab, served: str) -> None:
    page = (ROOT / "docs/on-aws.md").read_text("utf-8")
    result = re.search(r"```sh\n(aws ec2 run-instances .*?)```", page, re.DOTALL)
    assert result
    subnet = images.describe(served)["SubnetId"]
    command = result[1].replace("<id>", images.image).replace("<subnet>", subnet)
    # The tests have an environment of their own, and its data is nobody's afterwards.
    command = command.replace("prod", ENVIRONMENT).replace("DeleteOnTermination=false", "DeleteOnTermination=true")
    assert "<" not in command
    # The AWS CLI is in every machine of ours; the host may have none.
    known = environment(images.cloud, {})
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    operator = " ".join(f"{name}={known[name]}" for name in names)
    made = json.loads(images.run(served, f"export {operator}; {command}"))
    (launched,) = made["Instances"]
    images.expect_ready(launched["InstanceId"])
    images.terminate(launched["InstanceId"])
