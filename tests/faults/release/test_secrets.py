"""Parameter Store away, incomplete, or full of characters that break shells, addresses and files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest

from tests.machines.image.test_recovery import QUICK, SSM
from tests.support.machines import bad_s3
from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for

NASTY = """a b'c"d$e\\f%g/h@i:j?k#l&m`n;o|p>q<r*s~t!u^v{w}x[y](z)=+,.é"""
ENVIRON = """
import json, pathlib, subprocess
shown = subprocess.check_output(["systemctl", "show", "--property=MainPID", "--value", "zmanim-api"], text=True)
raw = pathlib.Path(f"/proc/{shown.strip()}/environ").read_bytes().decode()
print(json.dumps(dict(pair.split("=", 1) for pair in raw.split("\\0") if "=" in pair)))
"""


def put(images: ImageLab, name: str, value: str) -> None:
    images.ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)


def auth(images: ImageLab, machine: str, password: str) -> str:
    """Return what Redis answers to the API's user with that password."""
    quoted = "".join(f"\\x{byte:02x}" for byte in password.encode())
    command = f'AUTH zmanim "{quoted}"\n'
    return images.enter(machine, ["redis-cli", "--no-auth-warning"], command).strip()


def api_environment(images: ImageLab, machine: str) -> dict[str, str]:
    result: dict[str, str] = json.loads(images.enter(machine, ["python3", "-"], ENVIRON))
    return result


@pytest.mark.fault(
    43,
    injected="secrets with newlines, quotes, $, % and every other sign that breaks shells and addresses",
    must="each arrives as it is, and is in no log",
)
@pytest.mark.fault(
    44,
    injected="a password of Redis that is changed",
    must="the new one opens it and the old one does not, the keys are there",
)
@pytest.mark.incident("a / in a secret broke sed, SQL and addresses")
def test_whatever_characters_a_secret_has_it_arrives_as_it_is_and_so_does_a_rotated_one(images: ImageLab) -> None:
    images.prepare("nasty")
    password = NASTY + "\nanother line"
    put(images, "/zmanim/nasty/redis-password", password)
    put(images, "/zmanim/nasty/jwt-secret", NASTY + "\nsecond line\n")
    machine = images.serve("nasty")
    assert api_environment(images, machine)["JWT_SECRET"] == NASTY + "\nsecond line\n"
    # The API reached Redis with it: it remembers.
    nearest = "curl --silent --fail 'http://127.0.0.1:8080/cities/nearest?lat=31.8&lon=35.2'"
    assert [json.loads(images.run(machine, nearest))["meta"]["cache"] for _ in range(2)] == ["miss", "hit"]
    assert images.redis(machine, "SET kept precious") == "OK"

    assert auth(images, machine, password) == "OK"
    rotated = password[::-1]
    put(images, "/zmanim/nasty/redis-password", rotated)
    images.run(machine, "systemctl restart zmanim-secrets")
    wait_for(lambda: images.active(machine, "zmanim-api")["zmanim-api"] == "active", 30, "the API")
    assert images.redis(machine, "GET kept") == "precious"
    assert auth(images, machine, rotated) == "OK"
    assert "WRONGPASS" in auth(images, machine, password)
    assert [json.loads(images.run(machine, nearest))["meta"]["cache"] for _ in range(2)][1] == "hit"
    journal = images.enter(machine, ["journalctl", "--no-pager", "--all", "--output=export"])
    assert [value for value in (password, rotated) if value in journal or value.partition("\n")[0] in journal] == []
    images.terminate(machine)


@pytest.mark.fault(
    42,
    injected="a parameter that is missing",
    must="it is named, nothing that needs a secret starts, and all starts by itself once it is there",
)
@pytest.mark.incident('errors of Parameter Store were taken for "optional secret missing" and a default was used')
def test_a_missing_secret_stops_what_needs_it_by_its_name_and_nothing_else(images: ImageLab) -> None:
    images.prepare("away")
    secret = images.secrets("away")["/zmanim/away/jwt-secret"]
    images.ssm.delete_parameter(Name="/zmanim/away/jwt-secret")
    machine = images.start("away")
    report = images.wait_report(machine, seconds=240)
    assert not report["ok"]
    reason = report["checks"]["units"]["detail"]
    assert "the secrets can't be had: missing or empty in Parameter Store: /zmanim/away/jwt-secret" in reason
    states = images.active(machine, "postgresql", "redis", "zmanim-api")
    assert states == {"postgresql": "active", "redis": "inactive", "zmanim-api": "inactive"}
    assert images.run(machine, "ls /run/zmanim/secrets") == ""
    # And when it is there, nobody has to do anything.
    put(images, "/zmanim/away/jwt-secret", secret)
    images.expect_ready(machine, boot=2)
    assert api_environment(images, machine)["JWT_SECRET"] == secret
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    images.terminate(machine)


# Where Parameter Store should be somebody takes every connection and never says a word.
SILENT = """#cloud-boothook
#!/bin/sh
echo '127.0.0.1 ssm.eu-west-1.amazonaws.com' >>/etc/hosts
systemd-run --quiet --unit=silent python3 -c '
import socket, time
listening = socket.create_server(("127.0.0.1", 443), backlog=1000)
time.sleep(10**6)'
"""


@pytest.mark.fault(
    42,
    injected="a Parameter Store that takes connections and is silent for ten minutes",
    must="the ready line says so, nothing that needs a secret starts, and all starts by itself afterwards",
)
@pytest.mark.incident("services whose secrets came too late stayed down until somebody came")
def test_after_ten_minutes_of_silence_a_machine_comes_up_by_itself(images: ImageLab) -> None:
    began = time.monotonic()
    machine = images.start(UserData=SILENT)
    report = images.wait_report(machine, seconds=240)
    assert "ssm.eu-west-1.amazonaws.com: no whole answer within 20 s" in report["checks"]["units"]["detail"]
    # It gave up by itself, with its own words, and was not ended by the unit's limit.
    assert images.run(machine, "systemctl show --value --property=Result zmanim-secrets") == "exit-code"
    while time.monotonic() - began < 600:
        time.sleep(10)
        assert images.active(machine, "zmanim-api", "zmanim-recovery") == {
            "zmanim-api": "inactive",
            "zmanim-recovery": "active",
        }
    images.run(machine, "sed --in-place '/ssm.eu-west-1/d' /etc/hosts; systemctl stop silent")
    images.expect_ready(machine, boot=2)
    assert images.run(machine, "systemctl --failed --plain --no-legend") == ""
    images.terminate(machine)


@contextmanager
def denied(images: ImageLab, machine: str, action: str) -> Iterator[None]:
    """Deny the role of the environment's machines an action."""
    iam, role = images.client("iam"), f"zmanim-{REFUSED}-instance"
    statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=role, PolicyName="denied", PolicyDocument=document)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="denied")


@contextmanager
def throttled(images: ImageLab, machine: str) -> Iterator[None]:
    """Have Parameter Store throttle every call of a machine."""
    with bad_s3.proxied(images, machine, "", "throttled", SSM):
        yield


REFUSED = "refused"
# How each is imposed on a machine, and AWS's word for it.
REFUSALS: Mapping[str, tuple[Callable[[ImageLab, str], AbstractContextManager[None]], str]] = {
    "a role that may not read": (partial(denied, action="ssm:GetParametersByPath"), "AccessDeniedException"),
    "a key that may not be used": (partial(denied, action="kms:Decrypt"), "AccessDeniedException"),
    "throttled": (throttled, "ThrottlingException"),
}


@pytest.mark.fault(
    42,
    injected="a role that may not read parameters, one that may not use their key, a Parameter Store that throttles",
    must="AWS's word is said, what needs a secret stops, no value is told, and all starts by itself afterwards",
)
def test_a_parameter_store_that_refuses_is_told_by_its_word_and_got_over(images: ImageLab) -> None:
    images.prepare(REFUSED)
    machine = images.serve(REFUSED, UserData=QUICK)
    for what, (refusing, word) in REFUSALS.items():
        images.run(machine, "journalctl --rotate --vacuum-time=1s 2>&1")
        with refusing(images, machine):
            images.run(machine, "! systemctl restart zmanim-secrets")
            said = images.run(machine, "journalctl --unit=zmanim-secrets --no-pager --output=cat")
            assert f"Parameter Store refuses /zmanim/{REFUSED}/: {word}" in said, what
            states = images.active(machine, "redis", "zmanim-api", "zmanim-recovery")
            # The API is failed where it was stopped in the middle of its start; recovery begins by itself.
            assert states["zmanim-api"] in {"inactive", "failed"}, what
            assert states["zmanim-recovery"] in {"active", "activating"}, what
            assert states["redis"] == "inactive", what
        wait_for(
            lambda: set(images.active(machine, "redis", "zmanim-api").values()) == {"active"}, 90, f"its end: {what}"
        )
    journal = images.enter(machine, ["journalctl", "--no-pager", "--all", "--output=export"])
    assert [name for name, value in images.secrets(REFUSED).items() if value in journal] == []
    images.terminate(machine)


@pytest.mark.fault(
    42,
    injected="a parameter that comes a little later",
    must="it is waited for, and the first boot serves",
)
def test_a_secret_that_comes_a_little_later_is_waited_for(images: ImageLab) -> None:
    images.prepare("late")
    secret = images.secrets("late")["/zmanim/late/redis-password"]
    images.ssm.delete_parameter(Name="/zmanim/late/redis-password")
    machine = images.start("late")
    command = "journalctl --unit=zmanim-secrets --no-pager --output=cat"
    wait_for(lambda: images.online(machine), what="the agent")
    missing = "missing or empty in Parameter Store: /zmanim/late/redis-password; trying again"
    wait_for(lambda: missing in images.run(machine, command), 30, missing)
    put(images, "/zmanim/late/redis-password", secret)
    images.expect_ready(machine)
    images.terminate(machine)
