"""Parameter Store away, incomplete, or full of characters that break shells, addresses and files."""

from __future__ import annotations

import json

import pytest

from tests.machines.image import ImageLab
from tests.machines.lab import wait_for

NASTY = """a b'c"d$e\\f%g/h@i:j?k#l&m`n;o|p>q<r*s~t!u^v{w}x[y](z)=+,.é"""
ENVIRON = """
import json, pathlib, subprocess
shown = subprocess.check_output(["systemctl", "show", "--property=MainPID", "--value", "zmanim-api"], text=True)
raw = pathlib.Path(f"/proc/{shown.strip()}/environ").read_bytes().decode()
print(json.dumps(dict(pair.split("=", 1) for pair in raw.split("\\0") if "=" in pair)))
"""


def put(images: ImageLab, name: str, value: str) -> None:
    images.ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


def api_environment(images: ImageLab, machine: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(images.enter(machine, ["python3", "-"], ENVIRON))
    return found


@pytest.mark.incident("a / in a secret broke sed, SQL and addresses")
def test_whatever_characters_a_secret_has_it_arrives_as_it_is_and_so_does_a_rotated_one(images: ImageLab) -> None:
    images.prepare("nasty")
    put(images, "/zmanim/nasty/redis-password", NASTY)
    put(images, "/zmanim/nasty/jwt-secret", NASTY + "\nsecond line\n")
    machine = images.serve("nasty")
    assert api_environment(images, machine)["JWT_SECRET"] == NASTY + "\nsecond line\n"
    # The API reached Redis with it: it remembers.
    nearest = "curl --silent --fail 'http://127.0.0.1:8080/cities/nearest?lat=31.8&lon=35.2'"
    assert [json.loads(images.run(machine, nearest))["meta"]["cache"] for _ in range(2)] == ["miss", "hit"]
    assert images.redis(machine, "SET kept precious") == "OK"

    rotated = NASTY[::-1]
    put(images, "/zmanim/nasty/redis-password", rotated)
    images.run(machine, "systemctl restart zmanim-secrets")
    wait_for(lambda: images.active(machine, "zmanim-api")["zmanim-api"] == "active", 30, "the API")
    assert images.redis(machine, "GET kept") == "precious"
    old = images.try_run(
        machine, f"redis-cli --user zmanim --no-auth-warning <<'END'\nAUTH zmanim {json.dumps(NASTY)}\nEND"
    )
    assert "WRONGPASS" in old["StandardOutputContent"]
    journal = images.enter(machine, ["journalctl", "--no-pager", "--all", "--output=export"])
    assert [value for value in (NASTY, rotated) if value in journal] == []
    images.terminate(machine)


@pytest.mark.incident('errors of Parameter Store were taken for "optional secret missing" and a default was used')
def test_a_missing_secret_stops_what_needs_it_by_its_name_and_nothing_else(images: ImageLab) -> None:
    images.prepare("away")
    secret = images.secrets("away")["/zmanim/away/jwt-secret"]
    images.ssm.delete_parameter(Name="/zmanim/away/jwt-secret")
    machine = images.start("away")
    told = images.wait_said(machine, seconds=240)
    assert not told["ok"]
    reason = told["checks"]["units"]["detail"]
    assert "the secrets can't be had: missing or empty in Parameter Store: /zmanim/away/jwt-secret" in reason
    states = images.active(machine, "postgresql", "redis", "zmanim-api")
    assert states == {"postgresql": "active", "redis": "inactive", "zmanim-api": "inactive"}
    assert images.run(machine, "ls /run/zmanim/secrets") == ""
    # And when it is back, one command brings everything up; nobody has to know in which order.
    put(images, "/zmanim/away/jwt-secret", secret)
    images.run(machine, "systemctl start zmanim.target")
    wait_for(lambda: images.active(machine, "zmanim-api")["zmanim-api"] == "active", 30, "the API")
    assert api_environment(images, machine)["JWT_SECRET"] == secret
    images.terminate(machine)


def test_a_secret_that_comes_a_little_later_is_waited_for(images: ImageLab) -> None:
    images.prepare("late")
    secret = images.secrets("late")["/zmanim/late/redis-password"]
    images.ssm.delete_parameter(Name="/zmanim/late/redis-password")
    machine = images.start("late")
    said = "journalctl --unit=zmanim-secrets --no-pager --output=cat"
    wait_for(lambda: images.online(machine), what="the agent")
    missing = "missing or empty in Parameter Store: /zmanim/late/redis-password; trying again"
    wait_for(lambda: missing in images.run(machine, said), 30, missing)
    put(images, "/zmanim/late/redis-password", secret)
    images.expect_ready(machine)
    images.terminate(machine)
