"""A build whose role's session ends in the middle, and whose runner is then lost: what is left is found and goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from localcloud import control
from tests.support import ROOT
from tests.support.machines.image import ImageLab, copy_work_tree
from tests.support.machines.lab import wait_for
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import identity

VERSION, RUN = "v9.2.0", "session-that-ended"


def _processes() -> list[int]:
    """Return the processes of the build, Packer's among them: they have its run in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"ZMANIM_RUN={RUN}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue  # it has just ended
    return found


def test_what_a_build_leaves_whose_session_ended_is_found_by_its_run_and_taken_away(
    images: ImageLab, tmp_path: Path
) -> None:
    clone, log = tmp_path / "clone", tmp_path / "log"
    copy_work_tree(clone)
    base = clouds.environment(images.cloud, ROOT / clouds.VERSIONS_FILE, os.environ) | {"ZMANIM_RUN": RUN}
    environment = identity.environment_of("build", images.cloud, base, f"refs/tags/{VERSION}-ami")
    command = [sys.executable, "-m", "invoke", "build-ami", "--version", VERSION]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command, cwd=clone, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        ) as process,
    ):
        try:
            wait_for(lambda: "Connected to SSH" in log.read_text(), 180, "a builder that is reached")
            mine = [{"Name": "tag:zmanim:run", "Values": [RUN]}]
            (group,) = images.ec2.describe_security_groups(Filters=mine)["SecurityGroups"]
            (rule,) = group["IpPermissions"]
            assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
            assert [each["CidrIp"] for each in rule["IpRanges"]] == [f"{images.cloud.host_address}/32"]
            control.end_session(images.cloud, environment["AWS_ACCESS_KEY_ID"])
        finally:
            # As a runner that is lost, or that GitHub ends: Packer goes on trying for minutes.
            for pid in _processes():
                os.kill(pid, signal.SIGKILL)
            process.wait()
    refused = subprocess.run(
        [*command[:3], "sweep", "--run", RUN], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "credentials-expired" in refused.stderr, refused.stderr
    left = json.loads(images.task("sweep", "--run", RUN, "--json", step="build"))
    assert {each["kind"] for each in left} == {"instance", "volume", "security group", "key pair"}
    images.task("sweep", "--run", RUN, "--apply", step="build")
    assert json.loads(images.task("sweep", "--run", RUN, "--json", step="build")) == []
