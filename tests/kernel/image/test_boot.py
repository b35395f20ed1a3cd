"""A first boot and a reboot on a kernel of its own, where every condition of the image's units is met."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import ROOT
from tests.support.machines.image import ENVIRONMENT, UNITS, VERSION, ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.promises import ports, tuning, units
from zmanim_ami.pipeline.shipped.install import FILES
from zmanim_ami.pipeline.shipped.unit_files import read

DATA_DISK = "findmnt --noheadings --output SOURCE /data"


def test_the_first_boot_serves_with_every_unit_active_and_none_skipped(images: ImageLab, served: str) -> None:
    report = images.ready_reports(served)[0]
    assert (report["ok"], report["version"], report["environment"]) == (True, VERSION, ENVIRONMENT)
    assert all(check["ok"] for check in report["checks"].values())
    units.expect_all_well(images, served, skipped=())


def test_its_chart_is_kept_and_systemd_says_that_the_boot_is_over(
    images: ImageLab, served: str, artefacts: Path
) -> None:
    assert "Startup finished in" in images.run(served, "systemd-analyze time")
    chart = images.output(served, "systemd-analyze plot")
    assert chart.startswith("<?xml")
    assert [unit for unit in UNITS if unit not in chart] == []
    (artefacts / "boot.svg").write_text(chart)
    chain = images.run(served, "systemd-analyze critical-chain --no-pager zmanim-ready.service")
    assert "zmanim-ready.service +" in chain
    (artefacts / "boot.txt").write_text(f"{images.run(served, 'systemd-analyze time')}\n\n{chain}\n")


def test_the_kernel_has_what_the_image_s_sysctls_say(images: ImageLab, served: str) -> None:
    actual = tuning.sysctls_of(images, served)
    expected = {name: value for name, (value, may_lack) in tuning.sysctls().items() if name in actual or not may_lack}
    assert actual == expected
    assert "vm.overcommit_memory" in actual


def test_huge_pages_are_for_programs_that_ask_for_them(images: ImageLab, served: str) -> None:
    path, value = tuning.huge_pages()
    assert f"[{value}]" in images.run(served, f"cat {path}")
    unit = "zmanim-huge-pages.service"
    assert images.active(served, unit) == {unit: "active"}
    # As written at this boot: the kernel's own choice is another one, or this would show nothing.
    assert images.run(served, f"systemctl show --property=ConditionResult --value {unit}") == "yes"


def test_chronyd_runs_by_its_unit_with_our_drop_in(images: ImageLab, served: str) -> None:
    denied = read(ROOT, FILES / "zmanim-chronyd.conf").words("IPAddressDeny")
    shown = images.run(served, "systemctl show --property=IPAddressDeny --value chronyd.service").split()
    assert {each.partition("/")[0] for each in shown} == set(denied)
    # It is alone in disciplining this kernel's clock, and says so.
    assert "Leap status" in images.run(served, "chronyc -n tracking")
    command = "echo $$ >/sys/fs/cgroup/system.slice/chronyd.service/cgroup.procs; exec curl --silent --max-time 10"
    asked = images.try_run(served, f"{command} http://{denied[0]}/")
    assert asked["ResponseCode"] in {7, 28}, asked
    assert images.try_run(served, f"curl --silent --max-time 10 http://{denied[0]}/")["ResponseCode"] == 0


def test_the_data_volume_s_names_are_udev_s_and_its_identity_is_the_disk_s(images: ImageLab, served: str) -> None:
    disk, volume = images.run(served, DATA_DISK), images.volume_of(served)
    assert re.fullmatch(r"/dev/nvme\d+n1", disk)
    by_id = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    names = images.run(served, f"readlink -f /dev/sdf /dev/disk/by-label/zmanim-data {by_id}").split()
    assert names == [disk] * 3
    assert images.run(served, "cat /run/zmanim/data-volume-id") == volume
    # A device unit, which a machine without udev has not.
    unit = images.run(served, "systemd-escape --path --suffix=device /dev/disk/by-label/zmanim-data")
    assert images.run(served, f"systemctl is-active '{unit}'") == "active"


def test_memory_of_2_gib_is_what_the_kernel_sees_and_what_the_servers_are_sized_by(
    images: ImageLab, served: str
) -> None:
    tuning.expect_sized_for(images, served, 2048)


def test_what_is_open_to_its_network_is_ssh_and_the_api_by_both_families(images: ImageLab, served: str) -> None:
    ports.expect_only_meant_to_listen(images, served)
    assert ports.open_ports(images.describe(served)["PrivateIpAddress"]) == ports.MEANT
    with ports.by_ipv6(images, served) as (enter, address):
        assert ports.open_ports(address, enter=enter) == ports.MEANT
        # It would have seen one more.
        images.run(served, "systemd-run --quiet --unit=one-more python3 -m http.server --bind :: 50123")
        some = range(50000, 50200)
        wait_for(lambda: ports.open_ports(address, some, enter) == {50123}, images.patience, "one port more")
        images.run(served, "systemctl stop one-more")


def test_a_reboot_brings_everything_back_with_its_data(images: ImageLab, served: str) -> None:
    units.write_what_a_boot_must_keep(images, served)
    before, boots = images.run(served, units.IDENTITY), len(images.ready_reports(served))
    images.ec2.reboot_instances(InstanceIds=[served])
    images.expect_ready(served, boot=boots + 1)
    units.expect_what_a_boot_keeps(images, served, before)
    units.expect_all_well(images, served, skipped=())
