"""Somebody who runs an environment's instances."""

from __future__ import annotations

import json
from typing import Any

from localcloud.settings import ACCOUNT
from tests.support.machines.image import ImageLab
from zmanim_ami.pipeline.account import roles


class Operator:
    """Somebody who runs the environment's instances, with the rights that account.apply gives for that."""

    def __init__(self, lab: ImageLab, environment: str) -> None:
        """`environment` has to have been given its account."""
        self.lab = lab
        self.environment = environment
        self.place = ["--subnet", self._subnet(), "--security-group", self._group()]
        self.address = str(lab.ec2.allocate_address(Domain="vpc")["AllocationId"])
        arn = f"arn:aws:iam::{ACCOUNT}:role/{roles.operate_name(environment)}"
        taken = lab.client("sts").assume_role(RoleArn=arn, RoleSessionName="operator")["Credentials"]
        self.credentials = {
            "AWS_ACCESS_KEY_ID": taken["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": taken["SecretAccessKey"],
            "AWS_SESSION_TOKEN": taken["SessionToken"],
        }

    def _subnet(self) -> str:
        found = self.lab.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        return str(found[0]["SubnetId"])

    def _group(self) -> str:
        return str(self.lab.ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"])

    def task(self, name: str, *arguments: str) -> Any:
        given = ["--environment", self.environment, "--json", *arguments]
        return json.loads(self.lab.task(name, *given, **self.credentials))

    def refused(self, name: str, *arguments: str) -> str:
        done = self.lab.try_task(name, "--environment", self.environment, *arguments, **self.credentials)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def leads_to(self) -> str:
        (found,) = self.lab.ec2.describe_addresses(AllocationIds=[self.address])["Addresses"]
        return str(found.get("InstanceId", ""))


def end_instances(lab: ImageLab, environment: str) -> None:
    """End every instance of an environment, also those that a swap has protected."""
    alive = [{"Name": "tag:zmanim:environment", "Values": [environment]}]
    for item in lab.ec2.describe_instances(Filters=alive)["Reservations"]:
        for each in item["Instances"]:
            if each["State"]["Name"] != "terminated":
                lab.ec2.modify_instance_attribute(InstanceId=each["InstanceId"], DisableApiTermination={"Value": False})
                lab.terminate(each["InstanceId"])
