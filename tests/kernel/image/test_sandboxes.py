"""The filters and sandboxes of the image's units, in force on a kernel of its own, and tried."""

from __future__ import annotations

import pytest

from tests.support.machines.image import ImageLab
from tests.support.machines.promises import filters, sandboxes, units


@pytest.mark.incident("the API could ask the metadata service for the role that reads every backup")
def test_no_service_reaches_the_metadata_service_but_those_that_have_to(images: ImageLab, served: str) -> None:
    filters.expect_metadata_out_of_reach(images, served)


@pytest.mark.incident("the API could ask the metadata service for the role that reads every backup")
def test_the_api_s_process_gets_no_role_and_opens_no_disk(images: ImageLab, served: str) -> None:
    filters.expect_no_role_and_no_disk(images, served)


def test_each_unit_s_sandbox_refuses_what_it_says_and_lets_pass_what_the_unit_needs(
    images: ImageLab, served: str
) -> None:
    shipped = {unit.name: unit for unit in sandboxes.sandboxed_units()}
    assert [line for unit in shipped.values() for line in sandboxes.untried(unit)] == []
    tried = sandboxes.try_all(images, served)
    # Without a sandbox all of it is possible: what is refused below, a sandbox refuses.
    assert set(tried.pop("").values()) == {"passes"}
    wrong = {
        f"{name}: {what}": outcome
        for name, unit in shipped.items()
        for what, outcome in tried[name].items()
        if (outcome == "passes" and what in sandboxes.refused_by(unit))
        or (outcome != "passes" and what in sandboxes.let_pass_by(unit))
    }
    assert wrong == {}


def test_a_service_whose_filter_is_not_in_force_makes_the_machine_not_ready(images: ImageLab, served: str) -> None:
    filters.expect_a_missing_filter_to_be_told(images, served)
    units.expect_all_well(images, served, skipped=())
