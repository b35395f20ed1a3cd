"""A guest for power cuts: PostgreSQL, Redis and files, by the kernel that boots it alone, in seconds, without systemd.

What is cut is the whole: its kernel, its disks with their caches, QEMU.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from localcloud import control
from localcloud.machine.qemu import acceleration, base_disk
from localcloud.settings import QEMU, CloudSettings
from tests.support.machines.host_state import difference, host_state
from tests.support.machines.lab import Lab, wait_for
from zmanim_ami.rehearsal import kernel
from zmanim_ami.rehearsal.standin import build_tree
from zmanim_ami.rehearsal.standin.inside import inside
from zmanim_ami.toolchain.environment import user_cache

WRITERS = ("on", "off", "redis", "file")
_SCRIPT = Path(__file__).with_suffix(".sh")
_PLACE = "/srv/power-cuts.sh"
# The cloud asks whether Systems Manager's agent runs.
_SYSTEMCTL = "#!/bin/sh\n[ -e /run/ready ] && printf 'LoadState=loaded\\nActiveState=active\\n\\n\\n'\n"
_REDIS = """
cd /tmp && tar xzf /run/mirror/redis-*.tar.gz && cd redis-*/
make --silent -j2 MALLOC=libc OPTIMIZATION=-O1 redis-server && cp src/redis-server /usr/local/bin/
"""
_CLUSTER = """
runuser -u postgres -- initdb --pgdata=/srv/cluster --auth=trust --no-sync
echo "CREATE TABLE acked (n int PRIMARY KEY, filler text DEFAULT repeat('x', 500))" |
  runuser -u postgres -- postgres --single -D /srv/cluster postgres
"""


def fit(root: Path) -> None:
    """Make a tree of the stand-in's the guest's: with both servers, and a process 1 of its own."""
    inside(root, ["dnf", "install", "--assumeyes", "postgresql17-server", "gcc", "make", "glibc-devel"])
    inside(root, ["/bin/sh", "-ec", _REDIS], binds={build_tree(user_cache()) / "mirror": "/run/mirror"})
    inside(root, ["install", "-d", "-o", "postgres", "-m", "0700", "/srv/cluster"])
    inside(root, ["/bin/sh", "-ec", _CLUSTER])
    shutil.copy(_SCRIPT, root / _PLACE.lstrip("/"))
    (root / _PLACE.lstrip("/")).chmod(0o755)
    init = root / "usr/sbin/init"
    init.unlink()
    init.symlink_to(_PLACE)
    systemctl = root / "usr/bin/systemctl"
    systemctl.unlink()
    systemctl.write_text(_SYSTEMCTL)
    systemctl.chmod(0o755)


@dataclass
class Cuts:
    """A running guest whose power is cut again and again."""

    lab: Lab
    machine: str
    first: int = 0
    acknowledged: dict[str, int] = field(default_factory=dict)

    def call(self, *words: str | int) -> str:
        """Call the guest's script with a verb and return what it answers."""
        return self.lab.run(self.machine, " ".join([_PLACE, *map(str, words)]))

    def write(self, *, least: int) -> None:
        """Have all writers write on, until each has been told `least` times that something is there."""
        self.first += 1_000_000
        before = len(control.console(self.lab.cloud, self.machine))
        self.call("write", self.first)

        def told() -> bool:
            text = control.console(self.lab.cloud, self.machine)[before:]
            numbers: dict[str, list[int]] = {who: [] for who in WRITERS}
            for who, number in re.findall(r"^@(\w+) (\d+)\r?$", text, re.MULTILINE):
                numbers[who].append(int(number))
            self.acknowledged = {who: max(each, default=0) for who, each in numbers.items()}
            return all(len(each) >= least for each in numbers.values())

        wait_for(told, 240, "acknowledgements of all")

    def cut(self) -> None:
        """Cut its power, and have it boot again."""
        self.lab.ec2.stop_instances(InstanceIds=[self.machine], Force=True)
        self.lab.wait_state(self.machine, "stopped")
        self.lab.ec2.start_instances(InstanceIds=[self.machine])
        wait_for(lambda: self.lab.online(self.machine), self.lab.patience, "the guest")

    def lost(self) -> dict[str, int]:
        """Start the servers; return how many of the acknowledged numbers are gone, by writer."""
        broken = re.findall(r"^(\w+) does not start$", self.call("start"), re.MULTILINE)
        return {
            who: number - self.first + 1 if who in broken else int(self.call("missing", who, self.first, number))
            for who, number in self.acknowledged.items()
        }


@contextmanager
def guest(directory: Path, root: Path, settings: CloudSettings) -> Iterator[Cuts]:
    """Boot the guest, from a copy of the tree `root`, in a cloud like `settings`, which is gone afterwards."""
    tree, disk = directory / "small", directory / "small-disk"
    subprocess.run(["cp", "--archive", "--reflink=auto", str(root), str(tree)], check=True)
    fit(tree)
    disk.mkdir()
    base_disk.make(tree, kernel.fetch(user_cache()), disk)
    image = dataclasses.replace(settings.images[0], root=tree, disk=disk)
    settings = dataclasses.replace(
        settings,
        images=(image,),
        machines=QEMU,
        accelerator=acceleration.choose("auto", disk / base_disk.KERNEL, directory),
        name=f"{settings.name}c",
        state=directory / "cuts",
    )
    before = host_state(settings.directory)
    lab = Lab(control.up(settings), tree, directory, patience=120)
    try:
        volume = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}}
        cuts = Cuts(lab, lab.launch(BlockDeviceMappings=[volume]))
        wait_for(lambda: lab.online(cuts.machine), lab.patience, "the guest")
        yield cuts
    finally:
        control.down(settings.name, settings.state)
    assert difference(before, settings.directory) == {}
