"""The cloud and the image of tests/machines, for the long campaign of faults."""

from __future__ import annotations

from tests.machines import conftest as machines
from tests.support.machines import patient as patients

images = machines.images
patient, good = patients.patient, patients.good
