"""What the pages say to type, typed."""

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
    beside = images.describe(served)
    of_vpc = [{"Name": "vpc-id", "Values": [beside["VpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
    (group,) = images.ec2.describe_security_groups(Filters=of_vpc)["SecurityGroups"]
    given = {"<id>": images.image, "<subnet>": beside["SubnetId"], "<group>": group["GroupId"]}
    command = result[1]
    for name, value in given.items():
        command = command.replace(name, value)
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


def test_the_documented_way_of_what_may_not_run_in_a_transaction(images: ImageLab, served: str) -> None:
    page = (ROOT / "docs/releases.md").read_text("utf-8")
    commands = re.findall(r"^sudo systemd-run .*\\\n  psql .*$", page, re.MULTILINE)
    assert len(commands) == 2
    # As the session of a person begins, who has a home of their own.
    create, look = (images.run(served, f"cd /tmp; {command} 2>&1") for command in commands)
    assert create.strip() == "CREATE INDEX"
    assert "(0 rows)" in look
    # And the migration finds it, as the page says.
    found = "CREATE INDEX IF NOT EXISTS cities_country ON public.cities (country)"
    images.query(served, found)
    images.query(served, "DROP INDEX public.cities_country")
