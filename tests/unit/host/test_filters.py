"""A service that runs without the filter that its unit asks for is told by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zmanim_host import filters
from zmanim_host.filters import DEVICE, EGRESS, INGRESS, check, services
from zmanim_host.host import HostError

# As systemd 257 says it; the second has ended, the third asks for none, the fourth is not ours.
SHOWN = """\
Id=zmanim-api.service
FragmentPath=/etc/systemd/system/zmanim-api.service
DropInPaths=/etc/systemd/system/zmanim-.service.d/50-sandbox.conf
ControlGroup=/system.slice/zmanim-api.service
IPAddressDeny=fd00:ec2::254/128 169.254.169.254/32
DevicePolicy=closed

Id=zmanim-memory.service
FragmentPath=/etc/systemd/system/zmanim-memory.service
DropInPaths=
ControlGroup=
IPAddressDeny=::/0 0.0.0.0/0
DevicePolicy=closed

Id=backup-notify@.service
FragmentPath=/etc/systemd/system/backup-notify@.service
DropInPaths=
ControlGroup=/system.slice/x
IPAddressDeny=
DevicePolicy=auto

Id=systemd-logind.service
FragmentPath=/usr/lib/systemd/system/systemd-logind.service
DropInPaths=
ControlGroup=/system.slice/systemd-logind.service
IPAddressDeny=::/0 0.0.0.0/0
DevicePolicy=strict

Id=chronyd.service
FragmentPath=/usr/lib/systemd/system/chronyd.service
DropInPaths=/etc/systemd/system/chronyd.service.d/zmanim.conf
ControlGroup=/system.slice/chronyd.service
IPAddressDeny=fd00:ec2::254/128 169.254.169.254/32
DevicePolicy=auto
"""


def without(*missing: int) -> Callable[[int, int], int]:
    """Return what finds a program at every place but these."""
    return lambda group, place: int(place not in missing)


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    for name in ("zmanim-api", "chronyd"):
        (tmp_path / f"system.slice/{name}.service").mkdir(parents=True)
    return tmp_path


def test_what_runs_of_ours_and_asks_for_a_filter_is_looked_at() -> None:
    assert {each.name: each.places for each in services(SHOWN)} == {
        "zmanim-api.service": (INGRESS, EGRESS, DEVICE),
        "chronyd.service": (INGRESS, EGRESS),
    }


def test_services_with_their_filters_are_named(groups: Path) -> None:
    assert check(SHOWN, "systemd[1]: x.service: Failed\n", without(), groups) == [
        "zmanim-api.service",
        "chronyd.service",
    ]


@pytest.mark.incident("the API could ask the metadata service for the role that reads every backup")
@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ((EGRESS,), "zmanim-api.service runs without its filter of addresses; chronyd.service runs without its filter"),
        ((INGRESS, EGRESS, DEVICE), "zmanim-api.service runs without its filter of addresses and devices"),
        ((DEVICE,), "zmanim-api.service runs without its filter of devices"),
    ],
)
def test_a_service_whose_filter_is_not_in_force_is_named(groups: Path, missing: tuple[int, ...], words: str) -> None:
    with pytest.raises(HostError, match="not every service is held to what its unit says") as refused:
        check(SHOWN, "", without(*missing), groups)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        "redis.service: bpf-firewall: Attaching egress BPF program to cgroup /sys/fs/cgroup/x failed: Invalid argument",
        "x.service: unit configures an IP firewall, but the local system does not support BPF/cgroup firewalling.",
        "x.service: Attaching device control BPF program to cgroup /sys/fs/cgroup/x failed: Operation not permitted",
    ],
)
def test_what_systemd_said_of_one_that_has_ended_is_told(groups: Path, line: str) -> None:
    with pytest.raises(HostError) as refused:
        check(SHOWN, f"{line}\n{line}\n", without(), groups)
    assert str(refused.value).count(line) == 1


def test_a_service_that_has_just_ended_has_nothing_to_filter(tmp_path: Path) -> None:
    assert check(SHOWN, "", without(INGRESS), tmp_path) == ["zmanim-api.service", "chronyd.service"]


def test_a_machine_on_which_nothing_is_filtered_is_not_well(groups: Path) -> None:
    with pytest.raises(HostError, match="no service of ours asks for a filter"):
        check("", "", without(), groups)


def test_a_kernel_that_can_t_be_asked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "no group").open("w") as file, pytest.raises(HostError, match="which filters are in force: "):
        filters.attached(file.fileno(), EGRESS)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(HostError, match="on riscv64 is not known"):
        filters.attached(0, EGRESS)
