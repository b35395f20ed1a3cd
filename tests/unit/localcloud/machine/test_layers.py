from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.machine.layers import Layers


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    """Layers over a base that is there already (mounting one takes root)."""
    return _layers(tmp_path)


def _layers(directory: Path) -> Layers:
    (directory / "layers" / "base0").mkdir(parents=True)
    return Layers(directory, images={"ami-base": ("base0",)})


def upper(layers: Layers, instance: str) -> Path:
    return layers.directory / "machines" / instance / "upper"


def test_an_image_takes_the_instance_s_writes_and_leaves_it_an_empty_layer_on_top(layers: Layers) -> None:
    layers.create("i-1", "ami-base")
    (upper(layers, "i-1") / "written").touch()
    layers.rotate("i-1", "ami-1")
    assert layers.images["ami-1"] == layers.instances["i-1"] == ("ami-1", "base0")
    assert (layers.directory / "layers" / "ami-1" / "written").exists()
    assert list(upper(layers, "i-1").iterdir()) == []


def test_a_copy_of_a_running_instance_leaves_it_as_it_is(layers: Layers) -> None:
    layers.create("i-1", "ami-base")
    (upper(layers, "i-1") / "written").touch()
    layers.copy("i-1", "ami-1")
    assert layers.images["ami-1"] == ("ami-1", "base0")
    assert layers.instances["i-1"] == ("base0",)
    assert (upper(layers, "i-1") / "written").exists()


def test_a_layer_stays_as_long_as_an_image_or_an_instance_stands_on_it(layers: Layers) -> None:
    layers.create("i-1", "ami-base")
    layers.rotate("i-1", "ami-1")
    layers.share("ami-1", "ami-copy")
    layers.create("i-2", "ami-1")
    layer = layers.directory / "layers" / "ami-1"
    layers.forget_instance("i-1")
    layers.forget_image("ami-1")
    layers.forget_image("ami-copy")
    assert layer.is_dir()
    layers.forget_instance("i-2")
    assert not layer.exists()


def test_the_root_directory_s_mode_is_the_same_on_the_new_layer(layers: Layers) -> None:
    layers.create("i-1", "ami-base")
    upper(layers, "i-1").chmod(0o700)
    layers.rotate("i-1", "ami-1")
    assert upper(layers, "i-1").stat().st_mode & 0o777 == 0o700


STEPS = st.lists(st.tuples(st.sampled_from(["launch", "image", "end", "deregister"]), st.integers(0, 5)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_the_order_kept_layers_are_exactly_those_stood_on(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    layers = _layers(tmp_path_factory.mktemp("layers"))
    for number, (step, choice) in enumerate(steps):
        images, instances = sorted(layers.images), sorted(layers.instances)
        if step == "launch":
            layers.create(f"i-{number}", images[choice % len(images)])
        elif step == "image" and instances:
            layers.rotate(instances[choice % len(instances)], f"ami-{number}")
        elif step == "end" and instances:
            layers.forget_instance(instances[choice % len(instances)])
        elif step == "deregister" and len(images) > 1:
            layers.forget_image([name for name in images if name != "ami-base"][choice % (len(images) - 1)])
        stood_on = set().union(*layers.images.values(), *layers.instances.values())
        assert {path.name for path in (layers.directory / "layers").iterdir()} == stood_on


def test_a_snapshot_holds_what_its_image_stood_on_after_it_and_a_data_volume_s_holds_none(layers: Layers) -> None:
    layers.create("i-1", "ami-base")
    layers.rotate("i-1", "ami-1")
    layers.share("ami-1", "snap-1")
    layers.share("snap-data", "snap-copy")
    layers.forget_instance("i-1")
    layers.forget_image("ami-1")
    assert [layers.holds(each) for each in ("ami-1", "snap-1", "snap-data", "snap-copy")] == [False, True, False, False]
    assert (layers.directory / "layers" / "ami-1").is_dir()
    layers.share("snap-1", "ami-2")
    layers.forget_image("snap-1")
    layers.create("i-2", "ami-2")
    assert layers.instances["i-2"] == ("ami-1", "base0")
