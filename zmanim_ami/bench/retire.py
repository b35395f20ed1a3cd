"""retire: how long the plan of image.retire takes over an account with 500 images, and how many calls it makes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.progress import step
from zmanim_ami.bench.figures import repeat
from zmanim_ami.bench.lab import Lab
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.images import rules
from zmanim_ami.pipeline.images.retire import Retirement

IMAGES = 500
NOTES = (
    "500 verified images in one region that nothing keeps but retire_keep: who uses each of them is asked.",
    "plan: seconds; the goal is less than 5. Calls are those to AWS, and their number depends on nothing else.",
)


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Make the images, plan `runs` times, and take the images away again. Raises aws's errors."""
    clients, made = lab.clients, list[str]()
    try:
        with step(f"making {IMAGES} images"), aws.translate_errors("making images"):
            base = clients.ec2.describe_images(Owners=["amazon"])["Images"][0].get("ImageId", "")
            made.extend(_copy(lab, base, number) for number in range(IMAGES))
        # Young ones are kept without a question.
        retirement = Retirement(clients, (), dataclasses.replace(lab.settings, retire_days=0))
        return repeat("retire", runs, lambda _number: sample(retirement))
    finally:
        with step(f"taking {len(made)} images away"), aws.translate_errors("taking images away"):
            for ami_id in made:
                clients.ec2.deregister_image(ImageId=ami_id, DeleteAssociatedSnapshots=True)


def sample(retirement: Retirement) -> dict[str, float]:
    """Return the seconds and the calls of one plan, and how many images it looked at."""
    calls = list[str]()

    def note(model: Any, **_: object) -> None:
        calls.append(model.name)

    with _watched(retirement.clients, note):
        start = time.monotonic()
        rows = retirement.plan()
        seconds = time.monotonic() - start
    asked = [row for row in rows if row.action != rules.KEEP]
    return {
        "plan": seconds,
        "calls (number)": len(calls),
        "images (number)": len(rows),
        "images that may go (number)": len(asked),
    }


@contextmanager
def _watched(clients: aws.Clients, note: Callable[..., None]) -> Iterator[None]:
    asked: tuple[Any, ...] = (clients.ec2, clients.ssm, clients.autoscaling, clients.sts)
    watched = [each.meta.events for each in asked]
    for events in watched:
        events.register("before-call.*.*", note)
    try:
        yield
    finally:
        for events in watched:
            events.unregister("before-call.*.*", note)


def _copy(lab: Lab, source: str, number: int) -> str:
    version = f"v0.{number}.0"
    tags = {"zmanim:version": version, image.PROJECT_TAG: lab.settings.run, image.VERIFIED_TAG: "ab" * 32}
    ec2 = lab.clients.ec2
    ami_id = ec2.copy_image(Name=f"zmanim-{version}", SourceImageId=source, SourceRegion=lab.clients.region)["ImageId"]
    ec2.create_tags(Resources=[ami_id], Tags=[{"Key": name, "Value": text} for name, text in tags.items()])
    return ami_id
