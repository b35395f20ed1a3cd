"""What the benchmarks read their times from: Packer's words, systemd's properties, a rehearsal's result."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.bench import boot, build, figures, install_at_boot, lab, rehearsals

OUTPUT = [
    (0.5, "local cloud http://10.212.0.2:5000, eu-west-1"),
    (1.0, "▸ packer validate"),
    (2.0, "✓ packer validate (1.0 s)"),
    (2.0, "▸ packer build test-bench"),
    (2.5, "packer │ Prevalidating any provided VPC information"),
    (4.0, "packer │ Launching a source AWS instance..."),
    (9.0, "packer │ Connected to SSH!"),
    (9.0, "packer │ Provisioning with shell script: ./scripts/wait-for-cloud-init.sh"),
    (10.0, "packer │ Uploading ./scripts => /run/zmanim-build"),
    (11.0, "packer │ Uploading ./files => /run/zmanim-build"),
    (20.0, "packer │ run-steps: seconds: install-packages=8.9s validate=4.0s"),
    (21.0, "packer │ Stopping the source instance..."),
    (23.0, "packer │ Creating AMI zmanim-test-bench from instance i-0123456789abcdef0"),
    (25.0, "packer │ Terminating the source AWS instance..."),
    (26.0, "✓ packer build test-bench (24.0 s)"),
]


def test_a_build_s_parts_are_told_apart_and_add_up_to_the_whole() -> None:
    result = build.phases(OUTPUT, 27.5)
    assert result["packer: launch until SSH answers"] == 5.0
    assert result["packer: upload, then every script"] == 10.0
    assert result["packer: make and tag the image"] == 2.0
    assert result["check and keep the result"] == 1.5
    assert sum(result.values()) == 27.5


@pytest.mark.parametrize("lost", [1, 7, 10, 14])
def test_a_packer_with_other_words_is_told_of_and_not_guessed_around(lost: int) -> None:
    with raises("build-not-understood"):
        build.phases([line for number, line in enumerate(OUTPUT) if number != lost], 27.5)


def test_the_scripts_seconds_are_those_of_the_summary_in_the_log() -> None:
    log = "==> zmanim.amazon-ebs.al2023: other=9.9s\n" + "\n".join(f"==> x: {text[9:]}" for _, text in OUTPUT)
    assert build.script_seconds(log) == {"script: install-packages": 8.9, "script: validate": 4.0}
    assert build.script_seconds("nothing of the kind") == {}


def properties(redis: str) -> str:
    return (
        "Id=postgresql.service\nActiveEnterTimestampMonotonic=12345678\n\n"
        f"Id=redis.service\nActiveEnterTimestampMonotonic={redis}\n\n"
        "Id=zmanim-ready.service\nActiveEnterTimestampMonotonic=15000000\n"
    )


def test_moments_are_systemd_s_own() -> None:
    result = lab.active_since(properties("13000000"))
    assert result == {"PostgreSQL answers": 12.345678, "Redis answers": 13.0, "ready": 15.0}


@pytest.mark.parametrize("never", ["0", ""])
def test_a_service_that_was_never_active_has_no_time(never: str) -> None:
    with raises("not-ready") as caught:
        lab.active_since(properties(never))
    assert "redis.service" in caught.value.found


def test_the_baseline_runs_the_build_s_own_scripts_and_starts_what_the_image_starts() -> None:
    files = ROOT / "infrastructure/packer/files"
    script = install_at_boot.user_data(
        "https://mirror/bench.tar.gz", install_at_boot.enabled_units((files / "zmanim.preset").read_text())
    )
    assert script.startswith("#!/bin/bash\n")
    assert len(script) < 16384, "more than user data may be"
    steps = script.split("run-steps.sh")[1].splitlines()[0].strip('" ').split()
    template = (ROOT / "infrastructure/packer/zmanim-ami.pkr.hcl").read_text()
    building = re.findall(r'"([a-z-]+)"', template.split("run-steps.sh", 1)[1].split("])", 1)[0])
    only_building = {"remove-build-tools", "repositories", "cleanup", "validate", "inventory"}
    assert steps == [step for step in building if step not in only_building]
    assert {"zmanim.target", "postgresql.service", "zmanim-ready.service"} <= set(script.splitlines()[-1].split())


def test_the_baseline_gets_what_packer_uploads(tmp_path: Path) -> None:
    for name in ("packer/scripts", "packer/files", "bundle", "kept"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "packer/scripts/run-steps.sh").write_text("echo\n")
    (tmp_path / "kept/redis.rpm").write_text("rpm")
    (tmp_path / "versions.json").write_text("{}")

    def names(compiled: Path | None) -> list[str]:
        packed = install_at_boot.archive(tmp_path / "packer", tmp_path / "bundle", tmp_path / "versions.json", compiled)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            return archive.getnames()

    assert set(names(None)) == {"scripts", "scripts/run-steps.sh", "files", "bundle", "versions.json"}
    assert "package-cache/redis.rpm" in names(tmp_path / "kept")


def test_installing_at_boot_is_compared_twice_and_the_goal_is_for_what_the_scripts_do_by_themselves() -> None:
    values = {"built": 5.0, "prebuilt": 10.0, "compiled": 100.0}
    sample = {f"{kind}: {what}": at for kind, at in values.items() for what in ("PostgreSQL and Redis answer", "ready")}
    result = install_at_boot.ratios(figures.series([sample]))
    assert [(each.value, each.goal) for each in result] == [(20.0, "at least 6")] * 2 + [(2.0, "")] * 2


def test_a_rehearsal_s_steps_are_taken_from_its_result() -> None:
    result = {
        "steps": [
            {"name": "prepare", "seconds": 0.1, "ok": True, "calls": None},
            {"name": "build-ami", "seconds": 40.0, "ok": True, "calls": 61},
        ],
        "boot": {"running_seconds": 0.4, "healthy_seconds": 13.1},
    }
    assert rehearsals.seconds(result) == {
        "in all": 40.1,
        "prepare": 0.1,
        "build-ami": 40.0,
        "boot: running_seconds": 0.4,
        "boot: healthy_seconds": 13.1,
        "calls: build-ami": 61.0,
    }


def test_the_machine_is_described_by_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A Processor\n")
    (tmp_path / "meminfo").write_text("MemTotal:       16777216 kB\n")
    machine = figures.describe_machine(tmp_path)
    assert (machine["processor"], machine["memory_gib"]) == ("A Processor", 16.0)
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd0c\n")
    assert figures.describe_machine(tmp_path)["processor"] == "unknown"


CHAIN = """The time when unit became active or started is printed after the "@" character.
The time the unit took to start is printed after the "+" character.

zmanim-ready.service +412ms
`-zmanim-api.service @2.350s +20ms
  `-zmanim-migrate.service @1min 1.900s +1.250s
    `-basic.target @301ms
      `--.mount @90ms
        `-run-credentials-systemd\\x2dsysctl.service.mount @80ms +1us
"""


def test_the_critical_chain_is_read_in_the_order_of_the_boot() -> None:
    result = boot.critical(CHAIN)
    assert list(result.items()) == [
        ("run-credentials-systemd\\x2dsysctl.service.mount", 0.08),
        ("-.mount", 0.09),
        ("basic.target", 0.301),
        ("zmanim-migrate.service", 63.15),
        ("zmanim-api.service", 2.37),
    ]


def test_a_boot_without_a_chain_is_told_of() -> None:
    with raises("not-ready", match="no critical chain"):
        boot.critical("Bootup is not yet finished")


def test_the_slowest_units_are_told_with_their_seconds() -> None:
    text = "1min 3.5s cloud-init.service\n   820ms redis.service\n    12ms tmp.mount\n"
    assert boot.blamed(text, 2) == {"cloud-init.service": 63.5, "redis.service": 0.82}
