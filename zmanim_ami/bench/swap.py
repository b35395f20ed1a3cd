"""swap: how long nobody is served while an instance with a database goes from one image to the next, step by step."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from zmanim_ami.bench.backup import FRESH
from zmanim_ami.bench.figures import repeat
from zmanim_ami.bench.lab import TIMEOUT, VERSION, Lab, built_image
from zmanim_ami.pipeline import attestation, aws, instance, run_command
from zmanim_ami.pipeline.account import network
from zmanim_ami.pipeline.account.requirements import VERIFY
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.instances import journal
from zmanim_ami.pipeline.instances.launch import Launched, Wanted, launch
from zmanim_ami.pipeline.instances.swap import Swapped, swap
from zmanim_ami.pipeline.version import parse

NOTES = (
    "An instance with a table of 200 MB, swapped for one of another image with the same content, forth and back.",
    "downtime: from when the API of the old one is told to stop until the new one is healthy; the goal is 20.",
    "step …: from its note on the volume until the note that it is done; quiet to ready are the downtime.",
    "The backup before it is made by the shipped restic, which is emulated on x86-64.",
)
_VERSIONS = (f"{VERSION}-one", f"{VERSION}-two")
_NOTED = re.compile(r"step=(\w+) done=(\w+)")


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Swap an instance `runs` times. Raises launch's, swap's and aws's errors."""
    built, _base = built_image(lab)
    for version in _VERSIONS:
        _another(lab, built, version)
    place = network.find(lab.clients, lab.settings.subnet_id)
    wanted = Wanted(
        environment=VERIFY,
        instance_type=lab.settings.verify_instance_type,
        subnet_id=place.subnet_id,
        security_group_ids=(place.security_group_id,),
        volume_gib=4,
    )
    first = parse(_VERSIONS[1])
    try:
        # It is no dry run, which gives a plan.
        made = cast(Launched, launch(lab.clients, lab.settings, wanted, poller=lab.poller, version=first, wait=True))
        run_command.run_script(lab.clients, made.instance_id, FRESH, TIMEOUT, lab.poller)
        return repeat("swap", runs, lambda number: _sample(lab, _VERSIONS[(number - 1) % 2]))
    finally:
        _end(lab)


def _sample(lab: Lab, version: str) -> dict[str, float]:
    start = time.monotonic()
    with _steps(lab.clients) as noted:
        to = parse(version)
        done = cast(
            Swapped,
            swap(lab.clients, lab.settings, to=to, poller=lab.poller, environment=VERIFY, new_address=True),
        )
    whole = time.monotonic() - start
    steps = {
        f"step {name}": round(noted[name, "yes"] - noted[name, "no"], 3)
        for name in journal.STEPS
        if (name, "yes") in noted
    }
    return {"whole": whole, "downtime": done.downtime or 0.0, **steps}


@contextmanager
def _steps(clients: aws.Clients) -> Iterator[Mapping[tuple[str, str], float]]:
    """Give when each step was noted on the volume, begun (`no`) and done (`yes`)."""
    noted: dict[tuple[str, str], float] = {}

    def note(params: Mapping[str, Any], **_: object) -> None:
        if match := _NOTED.search(str(params["body"])):
            noted.setdefault((match[1], match[2]), time.monotonic())

    events = clients.ec2.meta.events
    events.register("before-call.ec2.CreateTags", note)
    try:
        yield noted
    finally:
        events.unregister("before-call.ec2.CreateTags", note)


def _another(lab: Lab, source: str, version: str) -> None:
    """Make an image of another version of the built one, as a passed verification leaves it."""
    clients, ec2 = lab.clients, lab.clients.ec2
    with aws.translate_errors(f"making an image of {version}"):
        tags = {**image.of_id(clients, source).tags, "zmanim:version": version}
        ami_id = ec2.copy_image(Name=f"zmanim-{version}", SourceImageId=source, SourceRegion=clients.region)["ImageId"]
        ec2.create_tags(Resources=[ami_id], Tags=[{"Key": name, "Value": text} for name, text in tags.items()])
        digest = attestation.keep(clients, image.of_id(clients, ami_id), b"{}")
        ec2.create_tags(Resources=[ami_id], Tags=[{"Key": image.VERIFIED_TAG, "Value": digest}])


def _end(lab: Lab) -> None:
    """Terminate every instance of the environment; those that were swapped are protected from that."""
    clients = lab.clients
    filters = {f"tag:{instance.ENVIRONMENT_TAG}": [VERIFY], "instance-state-name": aws.ALIVE}
    with aws.translate_errors("looking for the instances"):
        ended = [each["InstanceId"] for each in aws.instances(clients, filters)]
        for each in ended:
            clients.ec2.modify_instance_attribute(InstanceId=each, DisableApiTermination={"Value": False})
    instance.terminate(clients, ended)
