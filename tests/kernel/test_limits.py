"""Where a machine's processor is emulated no service has a limit for its start; elsewhere each has its own."""

from __future__ import annotations

from localcloud.settings import CloudSettings
from tests.support.machines.lab import Lab

LIMIT = "systemctl show --property=TimeoutStartUSec --value systemd-journald.service"
# What is not below /run would get into an image.
OUTSIDE = "find / -xdev -name localcloud-emulated.conf"


def test_services_have_no_limit_for_their_start_only_where_they_are_emulated(
    lab: Lab, machine: str, own_kernel: CloudSettings
) -> None:
    assert (lab.run(machine, LIMIT) == "infinity") is own_kernel.emulated
    assert lab.run(machine, OUTSIDE) == ""
