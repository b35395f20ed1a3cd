"""A pytest plugin for moto's own tests: their clients get the cloud's key, and so does what resets it between tests.

Environment: LOCALCLOUD_URL and LOCALCLOUD_KEY, as server.py has written them; both before moto is imported.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

URL, KEY = os.environ["LOCALCLOUD_URL"], os.environ["LOCALCLOUD_KEY"]
os.environ["TEST_SERVER_MODE"] = "true"
os.environ["TEST_SERVER_MODE_ENDPOINT"] = URL
os.environ["MOTO_PORT"] = str(urlsplit(URL).port)

import requests  # noqa: E402
from moto.core import models  # noqa: E402


def _reset(_mock: object) -> None:
    requests.post(f"{URL}/moto-api/reset", headers={"X-Localcloud-Key": KEY}, timeout=30).raise_for_status()


setattr(models.ServerModeMockAWS, "reset", _reset)  # noqa: B010 - its type is a method's
_set_environment = models.MockAWS._mock_env_variables


def _with_key(mocking: models.MockAWS) -> None:
    mocking._fake_creds = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "localcloud"}
    _set_environment(mocking)


setattr(models.MockAWS, "_mock_env_variables", _with_key)  # noqa: B010
