"""A bad S3, or Parameter Store, for one machine: its names lead elsewhere, or to a proxy (s3_proxy.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for

S3 = "s3.eu-west-1.amazonaws.com"
PROXY = Path(__file__).with_name("s3_proxy.py")


@contextmanager
def named(images: ImageLab, machine: str, address: str, *names: str) -> Iterator[None]:
    """Give names another address on the machine."""
    images.run(machine, f"cp /etc/hosts /run/hosts; echo {address} {' '.join(names)} >>/etc/hosts")
    try:
        yield
    finally:
        images.run(machine, "cat /run/hosts >/etc/hosts")


def names(bucket: str) -> tuple[str, ...]:
    """Return S3's name, the bucket's own, and the one that restic asks by: the bucket's own for IPv4 and IPv6."""
    return S3, f"{bucket}.{S3}", f"{bucket}.{S3.replace('s3.', 's3.dualstack.', 1)}"


@contextmanager
def proxied(images: ImageLab, machine: str, bucket: str, mode: str, *others: str) -> Iterator[None]:
    """Put the proxy in S3's place, in that mode; or in that of `others`, by their names."""
    pem = (images.cloud.directory / "server.pem").read_text()
    upstream = images.run(machine, f"getent hosts {S3}").split()[0]
    images.run(machine, f"cat >/run/proxy.py <<'END'\n{PROXY.read_text()}END\ncat >/run/proxy.pem <<'END'\n{pem}\nEND")
    set_mode(images, machine, mode)
    start = "systemd-run --unit=proxy --quiet python3 /run/proxy.py"
    images.run(machine, f"{start} {upstream} /run/proxy.pem /run/proxy.mode")
    try:
        wait_for(lambda: "127.0.0.1:443" in images.run(machine, "ss -ltn"), 20, "the proxy")
        with named(images, machine, "127.0.0.1", *(others or names(bucket))):
            yield
    finally:
        images.run(machine, "systemctl stop proxy")


def set_mode(images: ImageLab, machine: str, mode: str) -> None:
    """Give the proxy another mode, from its next request on."""
    images.run(machine, f"echo {mode} >/run/proxy.new; mv /run/proxy.new /run/proxy.mode")
