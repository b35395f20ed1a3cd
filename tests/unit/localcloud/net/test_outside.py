"""Only names of the internet, at public addresses, may be reached: nothing of the host, its networks or the cloud."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.net import outside
from localcloud.net.outside import Refused

REGION = "eu-west-1"
PACKAGES = "al2023-repos-eu-west-1-de612dc2.s3.dualstack.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("name", ["cdn.amazonlinux.com", "CDN.AmazonLinux.com.", "a-b.c_d.xn--p1ai", PACKAGES])
def test_names_of_the_internet_may_be_reached(name: str) -> None:
    assert outside.check_name(name, REGION) == name.lower().removesuffix(".")


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "localhost", "a", "a..b", "-a.test", "a-.test", "a b.test", "a.test:8080", "a.test/", "ä.test",
        "127.0.0.1", "10.0.0.1.", "1.2.3.0x4", "0x7f.1", "2130706433", "[::1]", "::1", "1.2.3.4.5", "a.test..",
        "x" * 64 + ".test", "a." * 126 + "test", "a.test\n", "a.test\0",
    ],
)  # fmt: skip
def test_addresses_and_what_is_no_name_are_refused(name: str) -> None:
    with pytest.raises(Refused, match="no name"):
        outside.check_name(name, REGION)


@pytest.mark.parametrize(
    "name",
    [
        "amazonaws.com", "ec2.eu-west-1.amazonaws.com", "S3.AMAZONAWS.COM.", "x." + PACKAGES, "x" + PACKAGES,
        PACKAGES.replace("eu-west-1", "us-east-1"), "ip-10-213-0-10.eu-west-1.compute.internal",
    ],
)  # fmt: skip
def test_what_is_the_clouds_own_does_not_go_out(name: str) -> None:
    with pytest.raises(Refused, match="own"):
        outside.check_name(name, REGION)


def test_a_name_that_only_looks_like_the_clouds_is_anybodys() -> None:
    for name in ("notamazonaws.com", "amazonaws.com.example.org"):
        assert outside.check_name(name, REGION) == name


@given(st.ip_addresses())
def test_an_address_is_never_a_name(address: object) -> None:
    with pytest.raises(Refused):
        outside.check_name(str(address), REGION)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.213.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1", "fec0::1",
        "::ffff:10.0.0.1", "::ffff:127.0.0.1", "2002:a00:1::1", "64:ff9b::a00:1", "64:ff9b::7f00:1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(Refused, match="not public"):
        outside.check_addresses(["8.8.8.8", address])


@pytest.mark.parametrize("address", ["8.8.8.8", "2600:9000::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_public(address: str) -> None:
    assert outside.is_public(address)


def test_this_host_is_told_from_others_by_the_kernel() -> None:
    assert outside.is_this_host("127.0.0.1")
    assert outside.is_this_host("127.86.0.1")
    assert not outside.is_this_host("8.8.8.8")


def test_a_public_address_of_this_host_is_refused() -> None:
    def is_own(address: str) -> bool:
        return address == "8.8.8.8"

    assert outside.check_addresses(["9.9.9.9"], is_own) == ["9.9.9.9"]
    with pytest.raises(Refused, match="this host"):
        outside.check_addresses(["9.9.9.9", "8.8.8.8"], is_own)
