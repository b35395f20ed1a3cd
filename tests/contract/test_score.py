from __future__ import annotations

from collections import Counter

from tests.contract.areas import ROWS
from tests.contract.called import lacking, operations
from tests.contract.page import PAGE, text
from tests.support import ROOT


def test_every_operation_that_the_product_calls_has_a_row() -> None:
    assert lacking({row.call.operation for row in ROWS}) == []


def test_calls_are_found_in_every_place_that_makes_some() -> None:
    found = operations()
    assert "ec2:RevokeSecurityGroupIngress" in found  # a method of the pipeline's clients
    assert "ec2:DescribeInstances" in found  # a waiter's
    assert "ec2:AuthorizeSecurityGroupIngress" in found  # Packer's, by the build role's policy
    assert "ec2:AttachVolume" in found  # a command in a document
    assert "ssm:GetParametersByPath" in found  # a target that the image asks for
    assert lacking(found - {"ec2:AttachVolume"})[0] == "ec2:AttachVolume"


def test_each_row_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(map(str, ROWS)).items() if count > 1] == []


def test_the_page_is_current() -> None:
    assert (ROOT / PAGE).read_text() == text(), f"{PAGE} is out of date: run ./inv write-contents"
