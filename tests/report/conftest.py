"""A browser and the pages that it is shown: Debian's Chromium, by Playwright; what it drew stays in build/report/."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support import ROOT

# As zmanim_ami/gate/doctor.py looks for them, which is no part of this environment.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARTEFACTS = ROOT / "build" / "report"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the host's own browser: Playwright's is fetched from a place that not every host reaches."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, "there is no Chromium on this host: ./inv doctor --install --browser"
    # Chromium's own sandbox refuses to run as root; what it shows here is a page of ours.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Return the folder for what is to be looked at, empty."""
    shutil.rmtree(ARTEFACTS, ignore_errors=True)
    ARTEFACTS.mkdir(parents=True)
    return ARTEFACTS
