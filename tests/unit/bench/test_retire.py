"""The benchmark of image.retire's plan: over moto's account, with fewer images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support import pipeline_cloud as cloud
from tests.support.image_life import two_regions
from zmanim_ami.bench import retire
from zmanim_ami.bench.figures import series
from zmanim_ami.bench.lab import Lab
from zmanim_ami.pipeline.settings import Settings


def test_the_plan_over_many_images_is_timed_its_calls_are_counted_and_the_images_go_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retire, "IMAGES", 25)
    with two_regions() as (here, _):
        base = {"Images": [here.clients.ec2.register_image(Name="al2023", RootDeviceName="/dev/xvda")]}
        cloud.answer(
            here.clients.ec2, "DescribeImages", lambda request: base if "amazon" in str(request["body"]) else None
        )
        lab: Any = SimpleNamespace(clients=here.clients, settings=Settings())
        (first, second) = retire.measure(cast(Lab, lab), 2)
        left = here.clients.ec2.describe_images(Owners=["self"])["Images"]
    assert [each["Name"] for each in left] == ["al2023"]
    assert first["images (number)"] == 25
    assert first["images that may go (number)"] == 20  # retire_keep keeps five
    # Twenty in two questions about references; whom each of ten steps is shared with; and each list once.
    assert first["calls (number)"] == second["calls (number)"] < 45
    assert {each.name: each.unit for each in series([first])}["calls (number)"] == "number"
    assert {each.name: each.unit for each in series([first])}["plan"] == "seconds"
