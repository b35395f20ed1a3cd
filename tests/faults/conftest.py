"""The cloud and the image of tests/machines, for the long campaign of faults."""

from __future__ import annotations

from tests.machines import conftest as machines

images = machines.images
pytest_runtest_logreport = machines.pytest_runtest_logreport
