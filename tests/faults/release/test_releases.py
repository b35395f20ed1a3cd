"""A channel that is wrong in every way, a machine that can't take what it has, and releases that are bad."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.machines import bad_s3
from tests.support.machines.image import VERSION, ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.releases import BUCKET, ENVIRONMENT, FAILS, HANGS, Follower, follower


@pytest.fixture(scope="module")
def prod(images: ImageLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Follower]:
    with follower(images, tmp_path_factory.mktemp("releases")) as result:
        yield result


@dataclass
class Forger:
    """Somebody who may write to the channel's bucket, with or without the right to sign."""

    prod: Follower

    def __post_init__(self) -> None:
        self.s3: Any = self.prod.images.client("s3")
        self.kms: Any = self.prod.images.client("kms")

    def read(self) -> tuple[dict[str, Any], bytes]:
        """Return what the pointer says, and the bundle that it names."""
        envelope = json.loads(self.get("channel.json"))
        payload = json.loads(base64.b64decode(envelope["payload"]))
        return payload, self.get(f"bundles/{payload['sha256']}.tar.gz")

    def get(self, key: str) -> bytes:
        result: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return result

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def point(
        self, payload: dict[str, Any], bundle: bytes = b"", key: str = f"alias/zmanim-release-{ENVIRONMENT}"
    ) -> None:
        """Sign a pointer, to `bundle` if there is one, and put it into the channel."""
        if bundle:
            payload = {**payload, "sha256": hashlib.sha256(bundle).hexdigest(), "size": len(bundle)}
            self.put(f"bundles/{payload['sha256']}.tar.gz", bundle)
        message = json.dumps(payload).encode()
        signed = self.kms.sign(KeyId=key, Message=message, MessageType="RAW", SigningAlgorithm="ECDSA_SHA_256")
        parts = {"payload": message, "signature": signed["Signature"]}
        envelope = {name: base64.b64encode(part).decode() for name, part in parts.items()}
        self.put("channel.json", json.dumps(envelope).encode())

    def swap(self, payload: dict[str, Any], bundle: bytes, content: bytes | None) -> None:
        """Point to `bundle`, and put other bytes in its place, or nothing."""
        self.point(payload, bundle)
        self.s3.delete_object(Bucket=BUCKET, Key=_key(bundle))
        if content is not None:
            self.put(_key(bundle), content)


def x86(bundle: bytes, version: str) -> bytes:
    """Return a bundle whose program says that it is for x86-64, and whose manifest fits it."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            files[member.name] = file.read()
    program = files["zmanim-api"]
    files["zmanim-api"] = program[:18] + (62).to_bytes(2, "little") + program[20:]
    manifest = {**json.loads(files["manifest.json"]), "version": version}
    files["manifest.json"] = json.dumps(
        {**manifest, "sha256": hashlib.sha256(files["zmanim-api"]).hexdigest()}
    ).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue())


Spoil = Callable[[Forger, dict[str, Any], bytes], None]
WRONG: dict[str, tuple[Spoil, str]] = {
    "a truncated bundle": (
        lambda it, payload, bundle: it.swap(payload, bundle, bundle[:-100]),
        "bytes, and should have",
    ),
    "a bundle with another hash": (
        lambda it, payload, bundle: it.swap(payload, bundle, bundle[:-1] + b"x"),
        "the bundle's SHA-256 is",
    ),
    "a bundle without an end": (
        lambda it, payload, bundle: it.swap(payload, bundle, bundle + bytes(90_000_000)),
        "are the limit",
    ),
    "no bundle": (
        lambda it, payload, bundle: it.swap(payload, bundle, None),
        "is not there",
    ),
    "no signature": (lambda it, payload, bundle: it.put("channel.json", b'{"payload": "e30="}'), "is not signed"),
    "another key's signature": (
        lambda it, payload, bundle: it.point(payload, bundle, "alias/zmanim-release-verify"),
        "the channel's signature is not that of prod.pem",
    ),
    "another environment's pointer": (
        lambda it, payload, bundle: it.point({**payload, "environment": "verify"}, bundle),
        "is for 'verify', and this machine is prod",
    ),
    "an expired pointer": (
        lambda it, payload, bundle: it.point({**payload, "expires": "2026-01-01T00:00:00Z"}, bundle),
        "expired at 2026-01-01",
    ),
    "a replayed serial": (
        lambda it, payload, bundle: it.point({**payload, "serial": 1}, bundle),
        "the channel's serial 1 is a replayed one",
    ),
    "an older version without a rollback": (
        lambda it, payload, bundle: it.point({**payload, "version": VERSION + "-rc.1"}, bundle),
        "and the channel does not say rollback",
    ),
    "a program for x86-64": (
        lambda it, payload, bundle: it.point(payload, x86(bundle, payload["version"])),
        "for another machine (ELF machine 62",
    ),
    "garbage": (lambda it, payload, bundle: it.put("channel.json", bytes(100)), "is not JSON as it should be"),
}


def _key(bundle: bytes) -> str:
    return f"bundles/{hashlib.sha256(bundle).hexdigest()}.tar.gz"


@pytest.mark.fault(
    45,
    injected="a channel that is wrong in twelve ways: bytes, hash, size, signature, age, serial, version, architecture",
    must="the reason is said, and the release before serves within 30 s",
)
def test_whatever_the_channel_has_that_does_not_verify_what_was_good_serves_in_time(prod: Follower) -> None:
    prod.publish()
    good = prod.publish()
    prod.restart()
    prod.wait_serves(good)
    wait_for(lambda: prod.state()["trial"] is None, 60, "the probation's end")
    forger = Forger(prod)
    payload, bundle = forger.read()
    try:
        for number, (what, (spoil, reason)) in enumerate(WRONG.items()):
            # Each would be adopted, were it not for its one fault.
            newer = {**payload, "serial": payload["serial"] + 1 + number, "version": f"{VERSION[:-1]}{100 + number}"}
            spoil(forger, newer, bundle + gzip.compress(b"", mtime=number + 1))
            prod.restart()
            prod.wait_serves(good, 30)
            assert reason in prod.journal(), what
            prod.is_well()
            remaining = prod.images.run(prod.machine, "ls /opt/zmanim/releases").split()
            assert remaining == sorted([VERSION, good, "current", "last-good"]), what
    finally:
        # With a serial that the machine has not seen: those above were signed by the right key.
        forger.point({**payload, "serial": payload["serial"] + len(WRONG) + 1})


def fetched_for(prod: Follower) -> float:
    """Return how many seconds the last look at the channel took."""
    times = "--property=ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic"
    report = prod.images.run(prod.machine, f"systemctl show {times} zmanim-release-fetch").splitlines()
    first, last = sorted(int(line.split("=")[1]) / 1e6 for line in report)
    return last - first


@pytest.mark.fault(
    45,
    injected="a channel that nobody answers for, and one that is silent",
    must="the release before serves within 30 s",
)
def test_a_channel_that_is_away_or_silent_costs_a_start_little_time_and_nothing_else(prod: Follower) -> None:
    good = prod.serves()
    # The name leads to this machine itself: nobody listens, or somebody is silent.
    name = f"{BUCKET}.s3.eu-west-1.amazonaws.com"
    prod.images.run(prod.machine, f"echo '127.0.0.1 {name}' >>/etc/hosts")
    silent = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 443))\n"
        "connections = []\n"
        "while True:\n"
        "    connections.append(server.accept()[0])\n"
    )
    try:
        prod.restart()
        prod.wait_serves(good, 30)
        assert "the release channel is not followed now" in prod.journal()
        prod.images.enter(prod.machine, ["sh", "-c", "cat >/run/silent.py"], silent)
        prod.images.run(prod.machine, "systemd-run --quiet --unit=silent python3 /run/silent.py")
        prod.restart()
        prod.wait_serves(good, 30)
        assert 5 < fetched_for(prod) < 20, "a server that is silent is waited for, and not for long"
        prod.is_well()
    finally:
        prod.images.run(prod.machine, f"systemctl stop silent; sed -i '/{BUCKET}/d' /etc/hosts")


@pytest.mark.fault(
    45,
    injected="a channel that answers 403, and one that drips",
    must="the release before serves within 30 s, the new one comes when the channel is well",
)
@pytest.mark.parametrize(
    ("mode", "reason"), [("denied", "AccessDenied"), ("drip", "no end after 10 s")], ids=["denied", "drips"]
)
def test_a_channel_that_answers_badly_costs_a_start_little_time_and_nothing_else(
    prod: Follower, mode: str, reason: str
) -> None:
    good = prod.serves()
    # There is something new to fetch, and it comes when the channel is well again.
    new = prod.publish()
    with bad_s3.proxied(prod.images, prod.machine, BUCKET, mode):
        prod.restart()
        prod.wait_serves(good, 30)
        assert reason in prod.journal()
        assert fetched_for(prod) < 20
        prod.is_well()
    prod.restart()
    prod.wait_serves(new)


@pytest.mark.fault(
    45,
    injected="no room for a release",
    must="the release before serves, the new one comes when there is room",
)
def test_a_full_disk_leaves_what_is_good_and_the_release_comes_when_there_is_room(prod: Follower) -> None:
    good = prod.serves()
    # The root disk of a machine here is the host's own: what fills is the folder of releases.
    prod.images.run(
        prod.machine,
        "cp -a /opt/zmanim/releases /run/kept && mount -t tmpfs -o size=48m,mode=755 full /opt/zmanim/releases &&"
        " cp -a /run/kept/. /opt/zmanim/releases/ && head -c 100M /dev/zero >/opt/zmanim/releases/.filling; true",
    )
    try:
        new = prod.publish()
        prod.restart()
        prod.wait_serves(good, 30)
        assert "No space left on device" in prod.journal()
        prod.is_well()
        prod.images.run(prod.machine, "rm /opt/zmanim/releases/.filling")
        prod.restart()
        prod.wait_serves(new)
    finally:
        prod.images.run(
            prod.machine,
            "systemctl stop zmanim-release-health.timer zmanim-api; rm -rf /run/kept;"
            " cp -a /opt/zmanim/releases /run/kept; umount --lazy /opt/zmanim/releases;"
            " rm -rf /opt/zmanim/releases/*; cp -a /run/kept/. /opt/zmanim/releases/; rm -rf /run/kept;"
            " systemctl start zmanim-api zmanim-release-health.timer",
        )
    prod.wait_serves(new)


@pytest.mark.fault(
    46,
    injected="a signed release that hangs, and one that fails its health check",
    must="it is rolled back and mailed about once",
)
@pytest.mark.parametrize("does", [HANGS, FAILS], ids=["hangs", "fails its health check"])
def test_a_release_that_runs_and_is_not_well_is_rolled_back(prod: Follower, does: str) -> None:
    good = prod.proven()
    bad = prod.publish(does)
    # SES that is away is in nobody's way, and the mail waits for it.
    with bad_s3.named(prod.images, prod.machine, "127.0.0.9", "email.eu-west-1.amazonaws.com"):
        prod.restart()
        prod.wait_serves(good, 90)
        assert f"{bad} is rolled back (/health" in prod.journal()
        command = "journalctl --no-pager --output=cat --unit=backup-notify-retry --since=-2min"
        wait_for(lambda: "1 mails wait" in prod.images.run(prod.machine, command), 90, "a mail that waits")
        assert prod.mails(bad) == []
    prod.is_well()
    # Twice is once.
    prod.images.run(prod.machine, "systemctl start backup-notify-retry && systemctl start backup-notify-retry")
    mail = prod.mailed(bad)
    assert mail["subject"].endswith(f"{bad} was rolled back, {good} runs")
    assert f"a bad release {bad}" in mail["body"]
    assert "/health" in mail["body"]


@pytest.mark.fault(
    46,
    injected="a signed release whose migration fails",
    must="the database is what it was, it is rolled back and mailed about",
)
@pytest.mark.incident("download-latest.sh ran a release's SQL as superuser at every start")
def test_a_release_whose_migration_fails_leaves_the_database_as_it_was_and_the_one_before_serves(
    prod: Follower,
) -> None:
    good = prod.proven()
    rows = "SELECT count(*) FROM schema_migrations"
    before = prod.images.query(prod.machine, rows)
    bad = prod.publish("", "CREATE TABLE half_done (n int);\nSELECT 1 / 0;\n")
    prod.images.try_run(prod.machine, "systemctl restart zmanim-api")
    prod.wait_serves(good)
    output = prod.journal()
    assert "_of_a_test.sql failed and was rolled back" in output
    assert f"{bad} is rolled back (its migration failed" in output
    mail = prod.mailed(bad)
    assert "its migration failed" in mail["body"]
    assert "_of_a_test.sql failed and was rolled back" in mail["body"]
    assert prod.images.query(prod.machine, rows) == before
    assert prod.images.query(prod.machine, "SELECT to_regclass('half_done') IS NULL") == "t"
    prod.is_well()


def test_an_api_that_hangs_after_its_probation_is_restarted(prod: Follower) -> None:
    good = prod.proven()
    before = prod.images.run(prod.machine, "systemctl show --property=MainPID --value zmanim-api")
    prod.images.run(prod.machine, f"kill -STOP {before}")
    prod.wait_serves(good, 120)
    assert prod.images.run(prod.machine, "systemctl show --property=MainPID --value zmanim-api") != before
    assert "restarting zmanim-api.service" in prod.journal()
    assert prod.state()["denied"] is not None
    prod.is_well()


def test_a_new_release_is_there_at_a_machine_s_first_boot_and_after_a_power_cut(prod: Follower) -> None:
    new = prod.publish()
    images = prod.images
    machine = images.serve(ENVIRONMENT)
    assert images.ready_reports(machine)[0]["version"] == new
    images.terminate(machine)
    images.ec2.reboot_instances(InstanceIds=[prod.machine])
    images.expect_ready(prod.machine, boot=2)
    prod.wait_serves(new)
