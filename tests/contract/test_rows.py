from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.areas import ROWS
from tests.contract.rows import Row
from tests.contract.stage import opened


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_local_cloud_answers_as_aws_does(row: Row, tmp_path: Path) -> None:
    with opened(tmp_path) as stage:
        try:
            stage.play(row)
        except AssertionError as error:
            pytest.fail(f"{error}\n{row.url}", pytrace=False)  # what was answered, not how it was asked
