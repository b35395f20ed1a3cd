"""kernel: from RunInstances until a machine with a kernel of its own is ready, and what it reads and writes until then.

Only such a machine has a root disk that can be counted: what its kernel reads from it is what a fresh EBS volume would
fetch from S3 block by block.
"""

from __future__ import annotations

from pathlib import Path

from localcloud.settings import QEMU
from support.progress import say
from zmanim_ami.bench.figures import repeat
from zmanim_ami.bench.lab import Lab, built_image, lab, launched, wait_ready
from zmanim_ami.pipeline import run_command
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal.settings import MachineSettings
from zmanim_ami.toolchain.environment import user_cache

NOTES = (
    "Seconds since RunInstances; without KVM the processor is emulated, many times slower than a real one.",
    "read: what the guest's kernel had read from its root disk when it was asked, right after the ready line.",
    "root disk: what the instance's own layer takes on the host by then; the data volume is another disk.",
)
_MB = 1e6
_SECTOR = 512
# The third field is the sectors read (Linux: Documentation/block/stat.rst).
_ASK_READ = "cat /sys/block/$(lsblk --noheadings --output PKNAME $(findmnt --noheadings --output SOURCE /))/stat"
_ASK_FILES = (
    "find / -xdev -type f -size +64k -print0 | xargs --null fincore --bytes --raw --noheadings --output RES,FILE |"
    " sort --numeric-sort --reverse | head --lines=5"
)


def measure(root: Path, runs: int) -> list[dict[str, float]]:
    """Build the image and launch it `runs` times on machines in QEMU. Raises what building and launching raise."""
    with lab(root, user_cache(), clouds.STATE, MachineSettings(machines=QEMU)) as qemu:
        image_id, _base = built_image(qemu)
        return repeat("kernel", runs, lambda _number: _launch(qemu, image_id))


def _launch(qemu: Lab, image_id: str) -> dict[str, float]:
    with launched(qemu, image_id) as machine:
        ready = wait_ready(qemu, machine)
        disk = qemu.cloud.directory / "machines" / machine.instance_id / "upper" / "disk.qcow2"
        written = disk.stat().st_blocks * _SECTOR
        read = int(run_command.run_script(qemu.clients, machine.instance_id, _ASK_READ, 120, qemu.poller).split()[2])
        files = run_command.run_script(qemu.clients, machine.instance_id, _ASK_FILES, 600, qemu.poller)
        say(f"the five largest files of its root disk in its page cache (bytes):\n{files.rstrip()}")
    return {
        "first boot: ready": ready,
        "read from the root disk (MB)": read * _SECTOR / _MB,
        "root disk above the image (MB)": written / _MB,
    }
