"""A cloud with booted machines, as the tests in tests/machines have it, and where the clients' own programs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.machines.conftest import authority, base_root, cloud_settings, lab, workspace

__all__ = ["authority", "base_root", "cloud_settings", "lab", "workspace"]


@pytest.fixture(scope="session")
def programs() -> Path:
    """The directory of the programs of requirements-clients.txt, which the session `clients` installs."""
    directory = os.environ.get("CLIENTS_BIN", "")
    assert directory, "run them as ./nox -s clients, which makes the clients' environment"
    return Path(directory)
