"""What a killed build leaves: nothing."""

from __future__ import annotations

from localcloud.host.contained import contained


def test_a_killed_build_takes_its_processes_and_mounts_along() -> None:
    command = contained(["mmdebstrap"])
    # setpriv's word on the parent's death must be the last one, and unshare must pass it on.
    assert command[:3] == ["setpriv", "--pdeathsig", "KILL"]
    assert {"--mount", "--pid", "--fork", "--kill-child"} <= set(command)
    assert command[command.index("--propagation") + 1] == "private"
