"""moto's own tests, from outside: what they say of plain moto they say of the local cloud, but for what is listed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import requests

from tests.clients import moto_suite
from tests.clients.moto_suite import DIFFERENCES, ROOT, SERVICES, compare, differences, run, served, to_compare


def test_what_passes_on_plain_moto_passes_here_but_for_what_is_listed(programs: Path, tmp_path: Path) -> None:
    sources, python = moto_suite.fetch(), programs / "python"
    expected = differences(DIFFERENCES.read_text())
    everything = [f"tests/test_{service}" for service in SERVICES]
    here = run(python, sources, tmp_path / "here", everything, plain=False)
    plain = run(python, sources, tmp_path / "plain", to_compare(here, expected), plain=True)
    comparison = compare(here, plain, expected)
    report = ROOT / "build/clients/moto.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(asdict(comparison), indent=1) + "\n")
    assert not comparison.wrong, comparison.wrong


def test_the_account_is_emptied_for_the_key_alone(programs: Path, tmp_path: Path) -> None:
    with served(programs / "python", tmp_path / "cloud", plain=False) as cloud:
        reset, key = f"{cloud['LOCALCLOUD_URL']}/moto-api/reset", cloud["LOCALCLOUD_KEY"]
        assert requests.post(reset, timeout=30).status_code == 403
        assert requests.post(reset, headers={"X-Localcloud-Key": key[:-1]}, timeout=30).status_code == 403
        assert requests.post(reset, headers={"X-Localcloud-Key": key}, timeout=30).status_code == 200
        # Nothing else of moto's own is served, key or no key.
        state = reset.replace("reset", "data.json")
        assert requests.get(state, headers={"X-Localcloud-Key": key}, timeout=30).status_code == 403
